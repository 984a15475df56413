from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ftcl.evaluation import LocalizationConfig, localize
from ftcl.recipes import RECIPES
from ftcl.recipes.config import configure

THUMOS14 = LocalizationConfig()


def plain_proposals(cas, attention, video_scores, num_snippets, snippet_s, config):
    """Point by point, run by run: {label: [(start, end, score)]} before suppression."""
    num_sampled = len(attention)
    num_points = config.upsampling * num_sampled
    point_s = snippet_s * num_snippets / num_points
    chosen = [c for c, score in enumerate(video_scores) if score > config.video_score_threshold]
    chosen = chosen or [int(np.argmax(video_scores))]
    attention_points = plain_upsample(attention, config.upsampling)
    found = {}
    for c in chosen:
        cas_points = plain_upsample(cas[:, c], config.upsampling)
        proposals = []

        def blend(cas_values, attention_values):
            weight = config.attention_weight
            return [(1 - weight) * x + weight * y for x, y in zip(cas_values, attention_values, strict=True)]

        for threshold in config.cas_thresholds:
            zeroed = [x if x >= threshold else 0.0 for x in cas_points]
            values = blend(zeroed, attention_points)
            for run in plain_runs(cas_points, threshold):
                proposals.append((*run, plain_contrast(values, *run, config.outer_margin)))
        for threshold in config.attention_thresholds:
            zeroed = [x if x >= threshold else 0.0 for x in attention_points]
            values = blend(cas_points, zeroed)
            for run in plain_runs(attention_points, threshold):
                score = plain_contrast(values, *run, config.outer_margin)
                proposals.append((*run, score + config.video_score_weight * video_scores[c]))
        # Suppression is exact in points; only the authors' added second is one of seconds.
        unit_s = point_s if config.nms_reference_plus_one else 1.0
        found[c] = [(i * unit_s, (j + 1) * unit_s, score) for i, j, score in proposals]
    return found, point_s / unit_s


def plain_upsample(values, upsampling):
    values = [float(value) for value in values]
    if len(values) == 1:
        return values * upsampling
    points = []
    for i in range(len(values) * upsampling):
        left = min(i // upsampling, len(values) - 2)
        points.append(values[left] + (i / upsampling - left) * (values[left + 1] - values[left]))
    return points


def plain_runs(values, threshold):
    runs, first = [], None
    for i, value in enumerate([*values, -np.inf]):
        if value >= threshold and first is None:
            first = i
        elif value < threshold and first is not None:
            if i - first >= 2:
                runs.append((first, i - 1))
            first = None
    return runs


def plain_contrast(values, first, last, margin):
    length = last - first + 1
    before = range(max(0, int(first - margin * length)), first)
    after = range(last + 1, min(len(values) - 1, int(last + margin * length)) + 1)
    outer = [values[i] for i in (*before, *after)]
    return np.mean(values[first : last + 1]) - (np.mean(outer) if outer else 0.0)


def plain_suppress(proposals, max_tiou, plus):
    kept = []
    for start, end, score in sorted(proposals, key=lambda proposal: -proposal[2]):
        for other_start, other_end, _ in kept:
            overlap = max(0.0, min(end, other_end) - max(start, other_start) + plus)
            union = (end - start + plus) + (other_end - other_start + plus) - overlap
            if overlap / union >= max_tiou:
                break
        else:
            kept.append((start, end, score))
    return kept


def order_is_a_matter_of_rounding(proposals):
    """Whether two different segments score so alike that the order of additions ranks them."""
    ranked = sorted(proposals, key=lambda proposal: proposal[2])
    return any(
        abs(better[2] - worse[2]) < 1e-12 and better[:2] != worse[:2] for worse, better in pairwise(ranked)
    )


def assert_same(found, plain):
    assert found.label.tolist() == [row[0] for row in plain]
    for column, values in enumerate((found.start_s, found.end_s, found.score), start=1):
        np.testing.assert_allclose(values, [row[column] for row in plain], rtol=0, atol=1e-9)


def sequences(seed, num_sampled, num_classes, sharpness):
    """Softmax activations and attention of a slow random process, so that runs of all lengths occur."""
    generator = np.random.default_rng(seed)

    def softmax(num_channels):
        logits = generator.normal(size=(num_sampled, num_channels))
        for t in range(1, num_sampled):
            logits[t] += 0.8 * logits[t - 1]
        exponentials = np.exp(sharpness * logits)
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    video_scores = generator.dirichlet(np.ones(num_classes + 1))[:num_classes]
    return softmax(num_classes + 1)[:, :num_classes], softmax(3)[:, 0], video_scores


CONFIGS = {
    "thumos14": THUMOS14,
    "reference": replace(THUMOS14, nms_reference_plus_one=True),
    "blended": replace(
        THUMOS14,
        video_score_threshold=0.1,
        cas_thresholds=(0.005, 0.02),
        attention_thresholds=(0.005, 0.02, 0.3),
        outer_margin=0.15,
        attention_weight=0.4,
        video_score_weight=0.25,
        nms_tiou=0.9,
    ),
    "coarse": replace(THUMOS14, upsampling=3, outer_margin=1.7, video_score_threshold=0.05),
}


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    num_sampled=st.integers(1, 40),
    num_classes=st.integers(1, 5),
    sharpness=st.sampled_from([0.3, 1.0, 2.5]),
)
def test_equals_the_plain_loops(name, seed, num_sampled, num_classes, sharpness):
    cas, attention, video_scores = sequences(seed, num_sampled, num_classes, sharpness)
    config, num_snippets = CONFIGS[name], num_sampled + seed % 50
    proposals, scale_s = plain_proposals(cas, attention, video_scores, num_snippets, 0.64, config)
    assume(not any(order_is_a_matter_of_rounding(of_class) for of_class in proposals.values()))
    plus = 1.0 if config.nms_reference_plus_one else 0.0
    kept = [
        (label, start * scale_s, end * scale_s, score)
        for label, of_class in proposals.items()
        for start, end, score in plain_suppress(of_class, config.nms_tiou, plus)
    ]
    found = localize(cas, attention, video_scores, num_snippets=num_snippets, snippet_s=0.64, config=config)
    assert_same(found, kept)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), num_snippets=st.integers(10, 3000))
def test_length_of_a_snippet_changes_times_and_nothing_else(seed, num_snippets):
    """tIoU is often exactly 11/20 = 0.55 on the grid of points, where rounded seconds would decide."""
    cas, attention, video_scores = sequences(seed, 40, 3, 1.0)
    once = localize(cas, attention, video_scores, num_snippets=40, snippet_s=1.0, config=THUMOS14)
    other = localize(cas, attention, video_scores, num_snippets=num_snippets, snippet_s=0.64, config=THUMOS14)
    assert once.label.tolist() == other.label.tolist()
    assert once.score.tolist() == other.score.tolist()
    np.testing.assert_allclose(other.start_s, once.start_s * 0.64 * num_snippets / 40, rtol=1e-12)


@pytest.mark.parametrize("snippet_s", [1.0, 0.64, 0.32, 0.1])
@pytest.mark.parametrize("offset", range(12))
def test_a_tie_at_the_threshold_is_suppressed_whatever_the_seconds(offset, snippet_s):
    # Of a run of 20 points the first 11 reach the second threshold as well: tIoU 11/20 = 0.55.
    attention = np.concatenate([np.zeros(offset), np.full(11, 0.7), np.full(9, 0.3), np.zeros(3)])
    config = LocalizationConfig(cas_thresholds=(), attention_thresholds=(0.2, 0.6), upsampling=1)
    found = localize(
        attention[:, None],
        attention,
        [1.0],
        num_snippets=len(attention),
        snippet_s=snippet_s,
        config=config,
    )
    assert found.start_s == pytest.approx([offset * snippet_s])


def test_one_run_by_hand():
    # Two points a snippet: activation 0, 0, 0, .5, 1, 1, 1, .5, 0, 0; attention never reaches a threshold.
    cas = np.array([[0.0], [0.0], [1.0], [1.0], [0.0]])
    config = LocalizationConfig(
        cas_thresholds=(0.6,), attention_thresholds=(0.9,), upsampling=2, outer_margin=0.5
    )
    # 10 points over 8 snippets of 2 s: 1.6 s a point; the run is points 4 to 6.
    found = localize(cas, np.zeros(5), [1.0], num_snippets=8, snippet_s=2.0, config=config)
    assert found.label.tolist() == [0]
    assert found.start_s == pytest.approx([4 * 1.6])
    assert found.end_s == pytest.approx([7 * 1.6])
    # Below 0.6 the map is zeroed, so the half-way points 3 and 7 of the margins count as 0.
    assert found.score == pytest.approx([1.0])

    # The same run found by attention sees them: outside are point 2 (int(4 − 1.5)), 3 and 7 (int(6 + 1.5)).
    attention = np.array([0.0, 0.0, 1.0, 1.0, 0.0])
    found = localize(
        cas, attention, [1.0], num_snippets=8, snippet_s=2.0, config=replace(config, cas_thresholds=())
    )
    assert found.score == pytest.approx([1.0 - (0.0 + 0.5 + 0.5) / 3])


def test_extrapolates_beyond_the_last_snippet():
    # The last half snippet goes on rising from 0.4 to 0.55, so its point reaches 0.5.
    config = LocalizationConfig(cas_thresholds=(), attention_thresholds=(0.5,), upsampling=4)
    attention = np.array([0.0, 0.4])
    found = localize(np.zeros((2, 1)), attention, [1.0], num_snippets=2, snippet_s=1.0, config=config)
    assert found.start_s == pytest.approx([1.25])
    assert found.end_s == pytest.approx([2.0])


def test_runs_of_one_point_are_dropped():
    config = LocalizationConfig(cas_thresholds=(0.75,), attention_thresholds=(), upsampling=2)
    assert (
        len(localize([[0.0], [1.0], [0.0]], [0] * 3, [1.0], num_snippets=3, snippet_s=1, config=config).label)
        == 0
    )


def test_classes_above_the_threshold_else_the_best():
    cas = np.full((4, 3), 0.3)
    options = {"num_snippets": 4, "snippet_s": 1.0, "config": THUMOS14}
    assert localize(cas, np.zeros(4), [0.3, 0.25, 0.26], **options).label.tolist() == [0, 2]
    assert localize(cas, np.zeros(4), [0.1, 0.25, 0.2], **options).label.tolist() == [1]


def test_a_single_snippet_is_constant():
    found = localize([[0.4]], [0.5], [0.9], num_snippets=1, snippet_s=0.64, config=THUMOS14)
    assert found.start_s.tolist() == [0.0]
    assert found.end_s == pytest.approx([0.64])
    assert found.score == pytest.approx([0.4])


def test_wrong_input_is_explained():
    options = {"num_snippets": 4, "snippet_s": 1.0, "config": THUMOS14}
    with pytest.raises(ValueError, match=r"\(T, C\), \(T,\) and \(C,\)"):
        localize(np.zeros((4, 2)), np.zeros(4), np.zeros(3), **options)
    with pytest.raises(ValueError, match="attention must be finite"):
        localize(np.zeros((4, 2)), [0, 0, 0, np.nan], np.zeros(2), **options)
    with pytest.raises(ValueError, match="positive length"):
        localize(np.zeros((4, 2)), np.zeros(4), np.zeros(2), num_snippets=4, snippet_s=0, config=THUMOS14)


def test_default_config_is_thumos14():
    assert THUMOS14.cas_thresholds == (0.15, 0.2)
    assert THUMOS14.attention_thresholds == tuple(np.arange(0.15, 1.0, 0.05).tolist())
    assert THUMOS14.attention_thresholds[3] == 0.30000000000000004
    assert len(THUMOS14.attention_thresholds) == 17


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"video_score_threshold": 1.5}, "video_score_threshold must be from 0 to 1, got 1.5"),
        ({"cas_thresholds": (0.2, -0.1)}, r"cas_thresholds must be from 0 to 1, got \(0.2, -0.1\)"),
        ({"attention_thresholds": (float("nan"),)}, "attention_thresholds must be from 0 to 1"),
        ({"upsampling": 0}, "upsampling must be at least 1, got 0"),
        ({"outer_margin": -0.1}, "outer_margin must be at least 0"),
        ({"attention_weight": 1.5}, "attention_weight must be from 0 to 1"),
        ({"video_score_weight": float("nan")}, "video_score_weight must be at least 0"),
        ({"nms_tiou": -0.1}, "nms_tiou must be from 0 to 1"),
    ],
)
def test_values_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        LocalizationConfig(**wrong)


def test_ends_of_the_ranges_are_allowed():
    """A recipe's options take their ranges from the metadata, which include both ends."""
    cas, attention, video_scores = sequences(1, 40, 3, 1.0)
    for end in ("low", "high"):
        limits = {option.name: option.metadata[end] for option in fields(LocalizationConfig)}
        config = LocalizationConfig(
            **{
                name: (limit,) if name.endswith("_thresholds") else limit
                for name, limit in limits.items()
                if limit is not None
            }
        )
        found = localize(cas, attention, video_scores, num_snippets=40, snippet_s=1.0, config=config)
        assert np.isfinite(found.score).all()


def test_a_suppression_at_0_keeps_the_best_of_each_class():
    cas, attention, video_scores = sequences(1, 40, 3, 1.0)
    config = replace(THUMOS14, nms_tiou=0.0, video_score_threshold=0.0)
    found = localize(cas, attention, video_scores, num_snippets=40, snippet_s=1.0, config=config)
    assert found.label.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "text"), [("nms_tiou", "1.2"), ("cas_thresholds", "0.1,-1"), ("upsampling", "0")]
)
def test_a_recipe_refuses_them_by_their_full_name(name, text):
    with pytest.raises(ValueError, match=f"localization.{name} = '{text}' is out of range"):
        configure(RECIPES["acmnet"], "thumos14", {name: text})
