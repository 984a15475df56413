import pytest

from ftcl.recipes import RECIPES
from ftcl.recipes.config import configure
from study.spec import list_spaces, load_space

SHIPPED = [space.name for space in list_spaces()]
# What FTCL publishes (thumos14, activitynet), and what suits the smartwatch sessions.
SHARED = {"lambda_fsd": 0.8, "fsd_gamma": 0.1, "fsd_len": 5, "lcs_len": 30}
PUBLISHED = {
    "watch": {**SHARED, "lambda_lcs": 0.3, "lcs_tau": 0.8},
    "thumos14": {**SHARED, "lambda_lcs": 0.1, "lcs_tau": 0.92},
    "activitynet": {**SHARED, "lambda_lcs": 0.1, "lcs_tau": 0.92},
}


def test_every_shipped_space_is_valid() -> None:
    assert SHIPPED == ["fsd_lcs", "pretrain", "temperature"]
    assert [space.problem for space in list_spaces() if space.problem] == []


@pytest.mark.parametrize("preset", ["watch", "thumos14", "activitynet", "acm", "synthetic"])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_space_runs_on_every_kind_of_data(name: str, preset: str) -> None:
    load_space(name).check_defaults(preset)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_fsd_lcs_starts_from_the_published_values(preset: str) -> None:
    expected = {f"finetune.{name}": value for name, value in PUBLISHED[preset].items()}
    assert load_space("fsd_lcs").defaults(preset) == expected


def test_fsd_lcs_searches_24_proposals_of_finetuning_alone() -> None:
    space = load_space("fsd_lcs")
    assert space.search.trials == 24
    assert {space.searched_stage_of(name) for name in space.search.parameters} == {"finetune"}


def test_each_arm_of_fsd_lcs_changes_what_its_name_says() -> None:
    space = load_space("fsd_lcs")
    changed = {}
    for arm, overlay in space.ablation.arms.items():
        finetune = configure(RECIPES["ftcl"], "watch", overlay)["finetune"]
        changed[arm] = (
            finetune.epochs,
            finetune.lambda_fsd > 0,
            finetune.lambda_lcs > 0,
            finetune.candidate_order,
            finetune.pair_labels,
            finetune.alignment,
        )
    assert changed == {
        "acmnet": (0, True, True, "temporal", "true", "dp"),
        "cont": (6, False, False, "temporal", "true", "dp"),
        "+FSD": (6, True, False, "temporal", "true", "dp"),
        "+LCS": (6, False, True, "temporal", "true", "dp"),
        "FSD+LCS": (6, True, True, "temporal", "true", "dp"),
        "shuffled order": (6, True, True, "shuffled", "true", "dp"),
        "random pairs": (6, True, True, "temporal", "random", "dp"),
        "mean similarity": (6, True, True, "temporal", "true", "mean"),
    }


def test_fsd_lcs_compares_with_continued_training() -> None:
    ablation = load_space("fsd_lcs").ablation
    assert (ablation.seeds, ablation.baseline) == (8, "cont")
    assert [(family.arms, family.against) for family in ablation.families] == [
        (("+FSD", "+LCS", "FSD+LCS"), "cont")
    ]
    assert ablation.controls is not None
    assert ablation.controls.against == ("FSD+LCS",)


def test_temperature_varies_one_temperature_of_one_loss_at_a_time() -> None:
    space = load_space("temperature")
    defaults = configure(RECIPES["ftcl"], "watch", {})["finetune"]
    grid: dict[str, list[float]] = {"FSD": [], "LCS": []}
    for arm, overlay in space.ablation.arms.items():
        finetune = configure(RECIPES["ftcl"], "watch", overlay)["finetune"]
        on = [
            name
            for name, weight in (("FSD", finetune.lambda_fsd), ("LCS", finetune.lambda_lcs))
            if weight > 0
        ]
        if arm == space.ablation.baseline:
            assert on == []
            continue
        (loss,) = on
        own, other = (f"{name}_gamma" for name in (loss.lower(), "lcs" if loss == "FSD" else "fsd"))
        assert getattr(finetune, other) == getattr(defaults, other)
        assert arm == f"{loss} γ={getattr(finetune, own):g}"
        grid[loss].append(getattr(finetune, own))
    assert grid["FSD"] == grid["LCS"] == [0.0, 0.01, 0.1, 1.0, 10.0]


def test_temperature_asks_of_each_loss_whether_smoothing_changes_anything() -> None:
    space = load_space("temperature")
    compared = {family.against: family.arms for family in space.ablation.families}
    assert sorted(compared) == ["FSD γ=0", "LCS γ=0"]
    arms = {arm for against, others in compared.items() for arm in (against, *others)}
    assert arms == space.ablation.arms.keys() - {"cont"}


def test_pretrain_switches_terms_off_and_gates_its_arms() -> None:
    space = load_space("pretrain")
    off = {
        arm: {name.removeprefix("acmnet.lambda_") for name in overlay}
        for arm, overlay in space.ablation.arms.items()
    }
    assert off == {
        "default": set(),
        "no guide": {"guide"},
        "no feature": {"feature"},
        "no sparse": {"sparse"},
        "classification only": {"guide", "feature", "sparse"},
    }
    assert {value for overlay in space.ablation.arms.values() for value in overlay.values()} == {0.0}
    assert (space.recipe, space.stages, space.search) == ("acmnet", ("pretrain",), None)
    assert space.gate is not None
