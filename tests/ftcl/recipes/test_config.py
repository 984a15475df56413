"""Parameters of the recipes: names, types, ranges, presets."""

import subprocess
import sys

import pytest

from ftcl.recipes import RECIPES
from ftcl.recipes.config import configure, parameters, resolve_name, to_flat
from ftcl.recipes.protocol import selection_split, with_protocol

FTCL = RECIPES["ftcl"]
PRESETS = ("watch", "synthetic", "thumos14", "activitynet", "acm")


def test_importing_the_recipes_does_not_import_torch() -> None:
    code = "import sys, ftcl.recipes; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_survives_being_set_again(recipe: object, preset: str) -> None:
    config = configure(recipe, preset, {})
    assert configure(recipe, preset, to_flat(config)) == config
    assert list(to_flat(config)) == list(parameters(recipe))


def test_every_parameter_says_what_it_means() -> None:
    assert all(parameter.help for parameter in parameters(FTCL).values())


def test_released_values() -> None:
    flat = to_flat(configure(FTCL, "thumos14", {}))
    assert flat["acmnet.topk_instance"] == 8
    assert flat["acmnet.lambda_guide"] == 2e-3
    assert flat["acmnet.sparse_reduction"] == "mean"
    assert flat["finetune.lambda_fsd"] == 0.8
    assert flat["finetune.lambda_lcs"] == 0.1
    assert flat["finetune.lcs_tau"] == 0.92
    flat = to_flat(configure(FTCL, "activitynet", {}))
    assert flat["acmnet.instance_weight"] == 5.0
    assert flat["acmnet.embedding_dropout"] is True
    assert flat["localization.video_score_threshold"] == 0.10


def test_leaf_names_are_enough_where_they_are_unique() -> None:
    assert resolve_name(FTCL, "lambda_fsd") == "finetune.lambda_fsd"
    assert resolve_name(FTCL, "finetune.lambda_fsd") == "finetune.lambda_fsd"
    with pytest.raises(ValueError, match=r"several groups.*pretrain\.epochs, finetune\.epochs"):
        resolve_name(FTCL, "epochs")
    with pytest.raises(ValueError, match=r"did you mean finetune\.lambda_fsd"):
        resolve_name(FTCL, "lamda_fsd")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lambda_fsd", "0.5", 0.5),
        ("lambda_fsd", 1, 1.0),
        ("fsd_len", "7", 7),
        ("fsd_len", 7.0, 7),
        ("num_pairs", "null", None),
        ("num_pairs", 12, 12),
        ("width", None, None),
        ("embedding_dropout", "true", True),
        ("pair_labels", True, "true"),
        ("pair_labels", "random", "random"),
        ("cas_thresholds", "[0.1, 0.3]", (0.1, 0.3)),
        ("cas_thresholds", [0.1], (0.1,)),
    ],
)
def test_values_and_their_texts(name: str, value: object, expected: object) -> None:
    full = resolve_name(FTCL, name)
    group, field = full.split(".")
    found = getattr(configure(FTCL, "watch", {name: value})[group], field)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lambda_fsd", -0.1, "finetune.lambda_fsd = -0.1 is out of range: it takes a number of at least 0"),
        ("lambda_fsd", "much", "finetune.lambda_fsd = 'much' is not allowed"),
        ("lambda_fsd", float("nan"), "out of range"),
        ("finetune.learning_rate", "inf", "finetune.learning_rate = 'inf' is out of range"),
        ("lambda_fsd", None, "not allowed"),
        ("lambda_fsd", True, "not allowed"),
        ("fsd_len", 2.5, "finetune.fsd_len = 2.5 is not allowed: it takes an integer of at least 1"),
        ("lcs_tau", 1.5, "from -1 to 1"),
        ("fsd_background", "nothing", "next_ranked | least_attended"),
        ("embedding_dropout", "perhaps", "true or false"),
    ],
)
def test_wrong_values_are_explained(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        configure(FTCL, "watch", {name: value})
    assert message in str(caught.value)


def test_a_parameter_is_set_once() -> None:
    with pytest.raises(ValueError, match=r"finetune\.lambda_fsd is set twice"):
        configure(FTCL, "watch", {"lambda_fsd": 1, "finetune.lambda_fsd": 2})


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ValueError, match="no values for the preset 'kinetics'"):
        configure(FTCL, "kinetics", {})


def test_finetuning_and_localisation_leave_the_key_of_pretraining_alone() -> None:
    pretrain, finetune = FTCL.stages
    assert set(pretrain.key_groups) == {"acmnet", "pretrain"}
    assert set(finetune.key_groups) == {"acmnet", "localization", "finetune"}
    assert RECIPES["acmnet"].stages == (pretrain,)


def test_protocols() -> None:
    pretrain, finetune = FTCL.stages
    config = configure(FTCL, "thumos14", {})
    assert with_protocol(config, "default") == config
    assert with_protocol(config, "reference")["localization"].nms_reference_plus_one
    assert [selection_split(stage, "default") for stage in FTCL.stages] == [None, "validation"]
    assert [selection_split(stage, "reference") for stage in (pretrain, finetune)] == ["test", "test"]
