"""What a search space says, once it is read."""

import pytest
from pydantic import ValidationError

from study.spec import Choice, FloatRange, IntRange, Settings, Space, SpecError, load_space
from tests.study.spaces import GOOD, Write


def test_the_good_space_loads(write_space: Write) -> None:
    space = load_space(str(write_space()))
    assert space.name == "mine"
    assert space.ablation.arms["random pairs"] == {"finetune.pair_labels": "random"}
    assert space.search.parameters["finetune.lcs_len"].kind == "int"
    assert space.resources_of("finetune").gpus == 0.25


def without_search(text: str) -> str:
    head, rest = text.split("search:\n")
    return f"{head}search: null\nablation:\n{rest.split('ablation:' + chr(10))[1]}"


def test_a_space_needs_no_search_but_says_so(write_space: Write) -> None:
    space = load_space(str(write_space(text=without_search(GOOD))))
    assert space.search is None
    assert (space.searched, space.defaults("watch"), space.active({})) == ({}, {}, ())
    assert space.shares_pretraining
    assert space.with_overrides(seeds=3).ablation.seeds == 3
    with pytest.raises(SpecError, match="mine has no search, so it makes no proposals"):
        space.with_overrides(trials=3)


def test_a_gate_on_the_arms_themselves_allows_no_search(write_space: Write) -> None:
    one_stage = """\
title: One stage
recipe: acmnet
data: watch
objective: {metric: "mAP@0.1:0.7", split: validation}
search: null
ablation: {seeds: 2, baseline: default, arms: {default: {}, no guide: {acmnet.lambda_guide: 0.0}}}
gate: {metric: "mAP@0.1:0.7", at_least: 30.0}
"""
    assert load_space(str(write_space(text=one_stage))).gate is not None
    searched = one_stage.replace(
        "search: null",
        "search: {trials: 2, seeds: 1, confirm: {top: 1, seeds: 1}, "
        "parameters: {acmnet.dropout: {float: [0.5, 0.9]}}}",
    )
    with pytest.raises(SpecError, match=r"gate: the gate of recipe acmnet judges the arms.*search: null"):
        load_space(str(write_space(text=searched)))


def test_a_space_is_frozen(write_space: Write) -> None:
    space = load_space(str(write_space()))
    with pytest.raises(ValidationError, match="frozen"):
        space.title = "other"


def test_a_space_survives_its_own_yaml_form(write_space: Write) -> None:
    space = load_space(str(write_space()))
    dumped = space.model_dump(mode="python", by_alias=True)
    assert dumped["search"]["parameters"]["finetune.lambda_fsd"]["float"] == (0.05, 2.0)
    assert Space.model_validate(dumped).model_dump() == space.model_dump()


def test_overrides_change_only_the_budget(write_space: Write) -> None:
    space = load_space(str(write_space()))
    small = space.with_overrides(trials=1, seeds=3)
    assert (small.search.trials, small.search.confirm.top, small.ablation.seeds) == (1, 1, 3)
    assert (space.search.trials, space.search.confirm.top, space.ablation.seeds) == (6, 2, 8)
    assert small.search.parameters == space.search.parameters
    assert space.with_overrides() == space
    with pytest.raises(SpecError, match="trials must be at least 1, not 0"):
        space.with_overrides(trials=0)


def test_a_parameter_belongs_to_the_first_stage_that_it_changes(write_space: Write) -> None:
    space = load_space(str(write_space()))
    assert space.searched_stage_of("finetune.lambda_fsd") == "finetune"
    assert space.searched_stage_of("localization.nms_tiou") == "finetune"
    assert space.searched_stage_of("pretrain.learning_rate") == "pretrain"
    assert space.searched_stage_of("acmnet.dropout") == "pretrain"


def test_conditions_decide_what_is_active(write_space: Write) -> None:
    space = load_space(str(write_space()))
    always = {"finetune.alignment", "finetune.lambda_fsd", "finetune.lcs_len"}
    assert set(space.active({})) == always
    assert set(space.active({"finetune.alignment": "dp"})) == {*always, "finetune.fsd_gamma"}
    assert set(space.active({"finetune.alignment": "mean", "finetune.lcs_len": 30})) == {
        *always,
        "finetune.fsd_background",
    }


def test_a_condition_on_an_inactive_parameter_does_not_hold(write_space: Write) -> None:
    space = load_space(str(write_space(("step: 5}", "step: 5, when: {finetune.alignment: [dp]}}"))))
    values: Settings = {"finetune.alignment": "mean", "finetune.lcs_len": 30}
    assert set(space.active(values)) == {"finetune.alignment", "finetune.lambda_fsd"}
    names = space.active({**values, "finetune.alignment": "dp"})
    assert (
        names.index("finetune.alignment")
        < names.index("finetune.lcs_len")
        < names.index("finetune.fsd_background")
    )


def test_defaults_are_the_published_values_of_what_is_searched(write_space: Write) -> None:
    space = load_space(str(write_space()))
    assert space.defaults("watch") == {
        "finetune.alignment": "dp",
        "finetune.lambda_fsd": 0.8,
        "finetune.lcs_len": 30,
        "finetune.fsd_gamma": 0.1,
        "finetune.fsd_background": "next_ranked",
    }


def test_defaults_are_checked_for_other_data_too(write_space: Write) -> None:
    # lcs_tau is 0.8 on watch and 0.92 on thumos14.
    path = write_space(
        ("{int: [10, 40], step: 5}", "{int: [10, 40], step: 5}\n    finetune.lcs_tau: {float: [0.7, 0.9]}")
    )
    space = load_space(str(path))
    with pytest.raises(SpecError, match=rf"{path}:18: .*lcs_tau: leaves out 0.92.* for thumos14"):
        space.check_defaults("thumos14")
    with pytest.raises(SpecError, match="wacht"):
        space.check_defaults("wacht")


@pytest.mark.parametrize(
    ("distribution", "inside", "outside"),
    [
        (FloatRange(float=(0.5, 2.0)), [0.5, 1, 2.0], [0.49, 2.01, True, "1", None]),
        (IntRange(int=(10, 40), step=5), [10, 25, 40, 30.0], [9, 12, 45, 12.5, True, None]),
        (Choice(choice=(1, "a", None)), [1, "a", None], [True, 2, "b"]),
    ],
)
def test_a_distribution_knows_its_values(
    distribution: FloatRange | IntRange | Choice, inside: list[object], outside: list[object]
) -> None:
    assert all(distribution.contains(value) for value in inside)
    assert not any(distribution.contains(value) for value in outside)
