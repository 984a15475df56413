"""Both stages on the synthetic data: continuation, paired draws, loss values, evaluation.

Shapes: P pairs, T snippets, D feature channels, L candidates, E embedding width.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ftcl.data import VideoDataset, load_dataset
from ftcl.data.pairs import sample_pairs
from ftcl.recipes import RECIPES
from ftcl.recipes.acmnet.stage import build_network
from ftcl.recipes.config import configure
from ftcl.training import FileCheckpoint, NonFiniteLoss, Stage, fit, load_checkpoint, read_chosen
from ftcl.training.seeding import seeded_generator
from ftcl.training.snippets import TrainSnippets

FTCL = RECIPES["ftcl"]
CPU = torch.device("cpu")
HEADLINE = ("mAP@0.1:0.7", "max", "validation")
SMALL = {"pretrain.epochs": 3, "finetune.epochs": 3, "width": 8, "num_pairs": 6}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return load_dataset("synthetic")


def build(data: VideoDataset, name: str, *, seed: int = 0, **overrides: Any) -> Stage:
    """The named stage; fine-tuning starts from weights that are drawn instead of trained."""
    overrides = {key.replace("__", "."): value for key, value in overrides.items()}
    config = configure(FTCL, data.preset, {**SMALL, **overrides})
    spec = {stage.name: stage for stage in FTCL.stages}[name]
    init = None
    if name == "finetune":
        network = build_network(config["acmnet"], data)
        network.initialise(seeded_generator(3, "test"))
        init = network.state_dict()
    return spec.build(config, data, CPU, seed, init)


def assert_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
@pytest.mark.parametrize("overrides", [{}, {"candidate_order": "shuffled", "pair_sampling": "once"}])
def test_an_interrupted_stage_continues_bit_for_bit(
    data: VideoDataset, name: str, overrides: dict[str, Any], tmp_path: Path
) -> None:
    whole = build(data, name, **overrides)
    whole_records = list(fit(whole, checkpoints=FileCheckpoint(tmp_path / "whole.pt"), select=HEADLINE))

    interrupted = build(data, name, **overrides)
    running = fit(interrupted, checkpoints=FileCheckpoint(tmp_path / "part.pt"), select=HEADLINE)
    next(running)
    # An epoch that no checkpoint has seen is lost with the process, and everything it drew is drawn again.
    interrupted.train_epoch()
    continued = build(data, name, **overrides)
    records = list(fit(continued, checkpoints=FileCheckpoint(tmp_path / "part.pt"), select=HEADLINE))

    assert [record.metrics for record in records] == [record.metrics for record in whole_records]
    assert [record.replayed for record in records] == [True, False, False]
    assert_same(continued.export(), whole.export())
    assert_same(read_chosen(tmp_path / "part.pt").weights, read_chosen(tmp_path / "whole.pt").weights)


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_a_checkpoint_of_another_run_is_refused(data: VideoDataset, name: str, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    list(fit(build(data, name), checkpoints=FileCheckpoint(path), select=None))
    for other, message in (
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"width": 9}, "acmnet.width was 8 and is now 9"),
        ({f"{name}__learning_rate": 0.5}, "learning_rate was"),
    ):
        with pytest.raises(ValueError, match=message):
            list(fit(build(data, name, **other), checkpoints=FileCheckpoint(path), select=None))


@pytest.mark.parametrize("select", [None, HEADLINE])
def test_a_checkpoint_holds_the_last_weights_once(data: VideoDataset, select: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    stage = build(data, "finetune")
    list(fit(stage, checkpoints=FileCheckpoint(path), select=select))
    content = load_checkpoint(path)
    assert content["weights"] is None
    assert_same(content["stage"]["network"], stage.export())
    if select is None:
        assert_same(read_chosen(path).weights, stage.export())


def test_training_reduces_the_loss(data: VideoDataset) -> None:
    config = configure(FTCL, data.preset, {"finetune.epochs": 8})
    weights = None
    for spec in FTCL.stages:
        stage = spec.build(config, data, CPU, 0, weights)
        totals = [record.metrics["loss/total"] for record in fit(stage, checkpoints=None, select=None)]
        assert np.mean(totals[-2:]) < totals[0] - 0.5
        weights = stage.export()


def test_arms_of_one_seed_take_the_same_pairs_snippets_and_dropout(data: VideoDataset) -> None:
    """With a learning rate of 0 equal draws give equal terms, whatever the other losses are."""
    arms = {
        "both": {},
        "cont": {"lambda_fsd": 0, "lambda_lcs": 0},
        "fsd": {"lambda_lcs": 0},
        "shuffled": {"candidate_order": "shuffled"},
        "mean": {"alignment": "mean"},
    }
    found = {}
    for arm, overrides in arms.items():
        stage = build(data, "finetune", finetune__learning_rate=0, **overrides)
        found[arm] = [stage.train_epoch() for _ in range(2)]
    for epoch in range(2):
        assert len({found[arm][epoch]["acm"] for arm in arms}) == 1
        assert found["fsd"][epoch]["fsd"] == found["both"][epoch]["fsd"]
        assert found["shuffled"][epoch]["lcs"] != found["both"][epoch]["lcs"]
        assert found["mean"][epoch]["lcs"] != found["both"][epoch]["lcs"]
    cont = found["cont"][0]
    assert cont["fsd"] == cont["lcs"] == 0
    assert cont["total"] == cont["acm"]
    assert found["both"][0]["acm"] != found["both"][1]["acm"]
    random_pairs = build(data, "finetune", finetune__learning_rate=0, pair_labels="random").train_epoch()
    assert random_pairs["acm"] != found["both"][0]["acm"]


def test_pairs_sampled_once_stay_for_the_run(data: VideoDataset) -> None:
    options = {"finetune__learning_rate": 0, "dropout": 0, "finetune__batch_size": 100}
    once = build(data, "finetune", pair_sampling="once", **options)
    first, second = once.train_epoch(), once.train_epoch()
    assert first == pytest.approx(second, rel=1e-5)
    anew = build(data, "finetune", **options)
    assert anew.train_epoch() == pytest.approx(first, rel=1e-5)
    assert anew.train_epoch()["total"] != pytest.approx(first["total"], rel=1e-5)


def cosine_table(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.array([[a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for b in second] for a in first])


def fsd_in_loops(match: np.ndarray, gap: np.ndarray, gamma: float) -> float:
    table = np.zeros((len(match) + 1, len(match) + 1))
    for i in range(len(match)):
        for j in range(len(match)):
            ways = (table[i, j], gap[i, j] + table[i, j + 1], gap[i, j] + table[i + 1, j])
            table[i + 1, j + 1] = match[i, j] + gamma * math.log(sum(math.exp(w / gamma) for w in ways))
    return table[-1, -1]


def lcs_in_loops(similarity: np.ndarray, tau: float) -> float:
    table = np.zeros((len(similarity) + 1, len(similarity) + 1))
    for i, row in enumerate(similarity):
        for j, value in enumerate(row):
            table[i + 1, j + 1] = (
                table[i, j] + value if value > tau else max(table[i, j + 1], table[i + 1, j])
            )
    return table[-1, -1]


@pytest.mark.parametrize("background", ["next_ranked", "least_attended"])
@pytest.mark.parametrize("alignment", ["dp", "mean"])
def test_the_contrast_of_a_batch_equals_plain_loops(
    data: VideoDataset, background: str, alignment: str
) -> None:
    length, lcs_length, gamma, tau = 4, 9, 0.3, 0.95
    stage = build(
        data,
        "finetune",
        dropout=0,
        finetune__batch_size=100,
        fsd_len=length,
        lcs_len=lcs_length,
        fsd_gamma=gamma,
        lcs_tau=tau,
        fsd_background=background,
        alignment=alignment,
        fsd_width=6,
    )
    weights = {name: value.double().numpy() for name, value in stage.export().items()}
    snippets = TrainSnippets(data, CPU)
    index_VS = snippets.sample(40, seeded_generator(0, "finetune/snippets"))
    pairs = sample_pairs(snippets.label_sets, seeded_generator(0, "finetune/pairs"), num_pairs=6)
    network = build_network(configure(FTCL, data.preset, {"width": 8})["acmnet"], data)
    network.load_state_dict({k: v for k, v in stage.export().items() if "feature_trans" not in k})

    def outputs(video: int) -> tuple[np.ndarray, list[int]]:
        output = network(snippets.batch(torch.tensor([video]), index_VS))
        attention = output.attention_BTK[0, :, 0].tolist()
        ranking = sorted(range(40), key=lambda t: -attention[t])
        return output.embedding_BTE[0].detach().double().numpy(), ranking

    def compared(embedding: np.ndarray, chosen: list[int]) -> np.ndarray:
        return embedding[sorted(chosen)] @ weights["feature_trans.weight"].T + weights["feature_trans.bias"]

    means: dict[str, list[float]] = {"fsd": [], "lcs": []}
    for kind, rows in (("negative", pairs.negative), ("positive", pairs.positive)):
        values: dict[str, list[float]] = {"fsd": [], "lcs": []}
        for i, j in rows.tolist():
            (first, first_ranks), (second, second_ranks) = outputs(i), outputs(j)
            ranks = second_ranks[:length]
            if kind == "negative":
                tail = second_ranks[-length:]
                ranks = second_ranks[length : 2 * length] if background == "next_ranked" else tail
            a, b = compared(first, first_ranks[:length]), compared(second, ranks)
            match, gap = cosine_table(a[:, :3], b[:, :3]), cosine_table(a[:, 3:], b[:, 3:])
            similarity = cosine_table(
                first[sorted(first_ranks[:lcs_length])], second[sorted(second_ranks[:lcs_length])]
            )
            if alignment == "dp":
                values["fsd"].append(fsd_in_loops(match, gap, gamma))
                values["lcs"].append(lcs_in_loops(similarity, tau))
            else:
                values["fsd"].append(length * match.mean())
                values["lcs"].append(lcs_length * similarity.mean())
        for term, list_of_values in values.items():
            means[term].append(float(np.mean(list_of_values)))
    found = stage.train_epoch()
    for term, (negative, positive) in means.items():
        assert found[term] == pytest.approx(negative - positive, abs=1e-5), term
    assert found["total"] == pytest.approx(found["acm"] + 0.8 * found["fsd"] + 0.3 * found["lcs"], abs=1e-5)


def test_feature_trans_comes_from_the_pretrained_model_or_from_the_seed(data: VideoDataset) -> None:
    drawn = build(data, "finetune").export()["feature_trans.weight"]
    assert drawn.shape == (4, 8)
    assert torch.equal(drawn, build(data, "finetune").export()["feature_trans.weight"])
    assert not torch.equal(drawn, build(data, "finetune", seed=1).export()["feature_trans.weight"])
    config = configure(FTCL, data.preset, SMALL)
    given = {**build(data, "finetune").export(), "feature_trans.weight": torch.ones(4, 8)}
    stage = FTCL.stages[1].build(config, data, CPU, 5, given)
    assert_same(stage.export(), given)


def test_evaluation_has_metrics_detections_and_details(data: VideoDataset) -> None:
    stage = build(data, "finetune", fsd_len=3, lcs_len=5)
    names = data.splits["test"]
    detail_videos = [name for name in names if 0 in data.videos[name].labels][:2]
    stranger = next(name for name in names if 0 not in data.videos[name].labels)
    evaluation = stage.evaluate("test", detail_videos=[*detail_videos, stranger])
    assert set(FTCL.metrics) <= set(evaluation.metrics)
    assert evaluation.detections.videos == names
    num_snippets = data.videos[detail_videos[0]].num_snippets
    cas = evaluation.details[detail_videos[0]]["cas"]
    assert cas.shape == (min(num_snippets, 40), len(data.classes) + 1)
    np.testing.assert_allclose(cas.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(evaluation.details[stranger]["attention"].sum(1), 1, rtol=1e-5)
    assert evaluation.details[stranger]["covered_s"] == data.videos[stranger].num_snippets * data.snippet_s
    pair = "|".join(detail_videos)
    assert set(evaluation.details) == {*detail_videos, stranger, pair}
    shapes = {name: array.shape for name, array in evaluation.details[pair].items()}
    assert shapes == {
        **{f"fsd_{table}": (3, 3) for table in ("match", "gap", "expected", "path")},
        **{f"lcs_{table}": (5, 5) for table in ("similarity", "expected", "path")},
        **{f"{kind}_snippets_{m}": (n,) for kind, n in (("fsd", 3), ("lcs", 5)) for m in ("first", "second")},
        "fsd_value": (),
        "lcs_value": (),
    }
    with pytest.raises(ValueError, match="'nobody' is not in the test split"):
        stage.evaluate("test", detail_videos=["nobody"])


@pytest.mark.parametrize("alignment", ["dp", "mean"])
def test_details_align_a_pair_as_the_losses_do(data: VideoDataset, alignment: str) -> None:
    stage = build(
        data, "finetune", fsd_len=4, lcs_len=8, lcs_tau=0.3, fsd_gamma=0.2, lcs_gamma=0.1, alignment=alignment
    )
    pair = [name for name in data.splits["test"] if 0 in data.videos[name].labels][:2]
    found = stage.evaluate("test", detail_videos=pair).details["|".join(pair)]
    assert found["fsd_value"] == pytest.approx(
        fsd_in_loops(found["fsd_match"], found["fsd_gap"], 0.2), abs=1e-5
    )
    # The derivative of the value: moving a cell by a little moves the value by so much of it.
    raised = found["fsd_match"].astype(float)
    raised[1, 2] += 1e-3
    slope = (fsd_in_loops(raised, found["fsd_gap"], 0.2) - found["fsd_value"]) / 1e-3
    assert found["fsd_expected"][1, 2] == pytest.approx(slope, abs=2e-2)
    assert 0 < found["fsd_expected"][1, 2] < 1
    # The best path is a staircase that ends in the last cell; matches only rise, and lie above the threshold.
    steps = np.diff(np.argwhere(found["fsd_path"]), axis=0)
    assert set(np.unique(found["fsd_path"])) == {0, 1}
    assert found["fsd_path"][-1, -1] == 1
    assert {tuple(step) for step in steps.tolist()} <= {(0, 1), (1, 0), (1, 1)}
    matches = np.argwhere(found["lcs_path"])
    assert (np.diff(matches, axis=0) > 0).all()
    assert (found["lcs_similarity"][tuple(matches.T)] > 0.3).all()
    best = found["lcs_similarity"][tuple(matches.T)].sum()
    assert best == pytest.approx(lcs_in_loops(found["lcs_similarity"], 0.3), abs=1e-5)
    assert not np.array_equal(found["lcs_expected"], found["lcs_path"])


def test_a_loss_that_explodes_stops_the_training(data: VideoDataset) -> None:
    stage = build(data, "pretrain", pretrain__learning_rate=1e30)
    with pytest.raises(NonFiniteLoss) as caught:
        list(fit(stage, checkpoints=None, select=None))
    assert caught.value.epoch in (1, 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"fsd_len": 21}, "finetune.fsd_len = 21 needs 42 snippets"),
        ({"lcs_len": 41}, "finetune.lcs_len = 41 needs 41 snippets"),
        ({"fsd_gamma": 1e-7}, "finetune.fsd_gamma = 1e-07 is too small"),
        ({"lcs_gamma": 1e-30}, "finetune.lcs_gamma = 1e-30 is too small"),
        ({"width": 3}, "finetune.fsd_width = null is half of acmnet.width = 3"),
    ],
)
def test_what_would_fail_only_in_finetuning_is_refused_before(
    data: VideoDataset, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        FTCL.check(configure(FTCL, data.preset, overrides), data)
    assert message in str(caught.value)
    with pytest.raises(ValueError) as caught:
        build(data, "finetune", **overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize("overrides", [{"fsd_len": 20}, {"lcs_gamma": 1e-6}, {"width": 4}])
def test_the_limits_of_finetuning_train(data: VideoDataset, overrides: dict[str, Any]) -> None:
    FTCL.check(configure(FTCL, data.preset, overrides), data)
    stage = build(data, "finetune", **overrides)
    assert np.isfinite(stage.train_epoch()["total"])


def test_finetuning_needs_a_pretrained_model(data: VideoDataset) -> None:
    config = configure(FTCL, data.preset, SMALL)
    with pytest.raises(ValueError, match="starts from the weights of a pretrained"):
        FTCL.stages[1].build(config, data, CPU, 0, None)


def test_context_without_learning(data: VideoDataset) -> None:
    context = FTCL.context(data, "test", 0)
    assert context.keys() == {"random windows", "oracle-label windows"}
    assert context["oracle-label windows"]["mAP@0.1:0.7"] > context["random windows"]["mAP@0.1:0.7"]
    assert context == FTCL.context(data, "test", 0)
