"""Mistakes in a search space: each is told with its line, its keys and what is meant instead."""

import pytest

from tests.study.spaces import GOOD, Write, error_of

# (text in GOOD, what replaces it, the path of keys in the message, a part of what is wrong)
MISTAKES = [
    # keys
    ("  trials: 6", "  trails: 6", "search > trails", "unknown key; did you mean trials"),
    ("{top: 2, seeds: 3}", "{top: 2, sedes: 3}", "search > confirm > sedes", "did you mean seeds"),
    ("step: 5}", "stpe: 5}", "search > parameters > finetune.lcs_len > stpe", "did you mean step"),
    ("{float: [0.05, 2.0], log: true}", "{flaot: [1, 2]}", "finetune.lambda_fsd", "needs one of float"),
    ("int: [10, 40], step", "int: [10, 40], float: [1, 2], step", "finetune.lcs_len > int", "unknown key"),
    ("  batch: 2", "  batch: 2\n  seeds: 4", "search > seeds", "written twice, first on line 9"),
    ("  seeds: 8", "  2: 8", "ablation", "the key 2 is not text"),
    ("  seeds: 8", "  <<: {seeds: 8}", "ablation", "merge keys"),
    # types and values
    ("  trials: 6", "  trials: many", "search > trials", 'must be a whole number, not "many"'),
    ("  trials: 6", "  trials: 6.5", "search > trials", "must be a whole number, not 6.5"),
    ("  trials: 6", "  trials: true", "search > trials", "must be a whole number, not true"),
    ("  trials: 6", "  trials: 0", "search > trials", "must be greater than 0, not 0"),
    ("  seeds: 8", "  seeds: 0", "ablation > seeds", "must be greater than 0"),
    ("keep: 0.5", "keep: 1.0", "search > early_stopping > keep", "must be less than 1, not 1.0"),
    ("name: tpe", "name: tpee", "search > sampler > name", "must be 'tpe' or 'random'"),
    ("split: validation", "split: test", "objective > split", "must be 'validation', not \"test\""),
    ("gpus: 0.25", "gpus: 1.5", "resources > finetune", "gpus above 1 must be whole"),
    ("gpus: 0.25", "gpus: .inf", "resources > finetune > gpus", "must be a finite number"),
    ("gpus: 0.25", "gpus: -1", "resources > finetune > gpus", "greater than or equal to 0"),
    ("    both: {}", "    both: all", "ablation > arms > both", "must be a mapping"),
    ("    both: {}", "    a|b: {}", "ablation > arms > a|b", "without |"),
    ("  baseline: cont", "  baseline: 2020-01-01", "ablation > baseline", "reads 2020-01-01 as a date"),
    # ranges
    ("[0.05, 2.0], log", "[2.0, 0.05], log", "finetune.lambda_fsd", "low 2.0 is not below high 0.05"),
    ("[0.05, 2.0], log", "[0, 2.0], log", "finetune.lambda_fsd", "a log range needs a low above 0"),
    ("[0.05, 2.0], log", "[5e-2, 2.0], log", "finetune.lambda_fsd > float > 0", "write 5.0e-2"),
    ("[0.05, 2.0], log", "[.nan, 2.0], log", "finetune.lambda_fsd > float > 0", "must be a finite number"),
    ("[0.05, 2.0], log", "[0.05, b], log", "finetune.lambda_fsd > float > 1", 'must be a number, not "b"'),
    ("[0.05, 2.0], log", "[0.05], log", "finetune.lambda_fsd > float > 1", "is missing"),
    ("[0.05, 2.0], log", "[0.05, 1, 2], log", "finetune.lambda_fsd > float", "at most 2 entries"),
    ("[0.05, 2.0], log", "0.05, log", "finetune.lambda_fsd > float", "must be a list, not 0.05"),
    ("int: [10, 40]", "int: [10.5, 40]", "finetune.lcs_len > int > 0", "must be a whole number"),
    ("int: [10, 40]", "float: [10, 40]", "finetune.lcs_len > step", "unknown key"),
    ("int: [10, 40], step: 5", "float: [10, 40]", "finetune.lcs_len > float", "write int: [low, high]"),
    ("step: 5", "step: 7", "finetune.lcs_len", "end at 38 or 45"),
    ("step: 5", "step: 5, log: true", "finetune.lcs_len", "log needs step 1"),
    ("[dp, mean]}", "[dp, dp]}", "finetune.alignment", '"dp" is listed twice'),
    ("[dp, mean]}", "[dp]}", "finetune.alignment > choice", "at least 2 entries, not 1"),
    ("[dp, mean]}", "[dp, average]}", "finetune.alignment > choice", "it takes dp | mean"),
    ("[0.01, 1.0]", "[-0.5, 1.0]", "finetune.fsd_gamma > float", "a number of at least 0"),
    ("[0.01, 1.0]", "[0.2, 1.0]", "finetune.fsd_gamma", "leaves out 0.1, the published default for watch"),
    ("[0.05, 2.0], log", "[0.05, 0.5], log", "finetune.lambda_fsd", "leaves out 0.8"),
    # conditions
    ("{finetune.alignment: [dp]}", "{finetune.alignment: [pd]}", "when > finetune.alignment", "never takes"),
    ("{finetune.alignment: [dp]}", "{finetune.alignment: []}", "when > finetune.alignment", "at least 1"),
    ("{finetune.alignment: [dp]}", "{finetune.alignment: dp}", "when > finetune.alignment", "must be a list"),
    ("{finetune.alignment: [dp]}", "{finetune.alinment: [dp]}",
     "finetune.alinment", "did you mean finetune.al"),
    ("{finetune.alignment: [dp]}", "{finetune.lambda_fsd: [1]}", "finetune.lambda_fsd", "has a float range"),
    ("[30, 40]}", "[30, 41]}", "when > finetune.lcs_len", "never takes the value 41"),
    ("step: 5}", "step: 5, when: {finetune.fsd_background: [next_ranked]}}",
     "finetune.lcs_len > when", "circle"),
    ("[dp, mean]}", "[dp, mean], when: {finetune.alignment: [dp]}}", "finetune.alignment > when", "circle"),
    # names
    ("recipe: ftcl", "recipe: ftlc", "recipe", 'unknown recipe "ftlc"; did you mean ftcl'),
    ("data: watch", "data: wacht", "data", "watch"),
    ("  acmnet.dropout: 0.5", "  acmnet.dropuot: 0.5", "fixed > acmnet.dropuot", "acmnet.dropout"),
    ("  acmnet.dropout: 0.5", "  dropout: 0.5", "fixed > dropout", "write it in full, acmnet.dropout"),
    ("  acmnet.dropout: 0.5", "  acmnet.dropout: 1.5", "fixed > acmnet.dropout", "out of range"),
    ("  acmnet.dropout: 0.5", "  acmnet.dropout: {a: 1}", "fixed > acmnet.dropout", "must be a number, text"),
    ("  acmnet.dropout: 0.5", "  acmnet.dropout: [[1]]", "fixed > acmnet.dropout", "must be a number, text"),
    ("  acmnet.dropout: 0.5", "  acmnet.dropout: .inf", "fixed > acmnet.dropout", "finite number, not inf"),
    ("  acmnet.dropout: 0.5", "  finetune.lcs_len: 20", "fixed > finetune.lcs_len", "is searched too"),
    ("    finetune.lcs_len: {int", "    finetune.lcs_lem: {int",
     "parameters > finetune.lcs_lem", "finetune.lcs_len"),
    ("{finetune.pair_labels: random}", "{finetune.pair_label: random}",
     "random pairs > finetune.pair_label", "finetune.pair_labels"),
    ("{finetune.pair_labels: random}", "{finetune.pair_labels: odd}",
     "random pairs > finetune.pair_labels", "true | random"),
    ('{metric: "mAP@0.1:0.7", s', '{metric: "mAP@0.1:0.6", s', "objective > metric", "or mAP@0.1:0.7"),
    ('losses, metric: "mAP@0.1:0.7"', "losses, metric: accuracy", "families > 0 > metric", "unknown metric"),
    ("  baseline: cont", "  baseline: count", "ablation > baseline", "did you mean cont"),
    ("arms: [+FSD, both]", "arms: [+FDS, both]", "ablation > families > 0 > arms", "did you mean +FSD"),
    ("arms: [+FSD, both]", "arms: [cont, both]", "ablation > families > 0 > arms", "cont would be compared"),
    ("against: cont}", "against: count}", "ablation > families > 0 > against", "did you mean cont"),
    ("against: [both]", "against: [bath]", "ablation > controls > against", "did you mean both"),
    ("  finetune: {cpus", "  finetuning: {cpus", "resources > finetuning", "did you mean finetune"),
    ("gate: null", "gate: {metric: mAP, at_least: 1.0}", "gate > metric", "unknown metric"),
    # budget
    ("{top: 2,", "{top: 7,", "search > confirm > top", "at most the 6 trials, not 7"),
    ("rungs: [2, 4]", "rungs: [4, 2]", "search > early_stopping > rungs", "must ascend, as in [2, 4]"),
    ("rungs: [2, 4]", "rungs: [2, 6]",
     "search > early_stopping > rungs > 1", "not below the 6 of finetune.epochs"),
    ("rungs: [2, 4]", "rungs: [0, 4]", "search > early_stopping > rungs > 0", "greater than 0"),
]  # fmt: skip


@pytest.mark.situation(
    "input",
    "a key or a value in the search space is misspelt, of the wrong type or out of its range",
    "nothing starts; the message has file, line, keys and the nearest valid name",
)
@pytest.mark.parametrize(("old", "new", "keys", "wrong"), MISTAKES)
def test_a_mistake_is_reported_with_file_line_and_keys(
    write_space: Write, old: str, new: str, keys: str, wrong: str
) -> None:
    path = write_space((old, new))
    line = path.read_text()[: path.read_text().index(new)].count("\n") + 1 + new.count("\n")
    place, message = error_of(path).split(": ", 1)
    assert place == f"{path}:{line}"
    assert message.split(": ")[0].endswith(keys)
    assert wrong in message


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(write_space: Write) -> None:
    path = write_space(
        ("  baseline: cont", "  baseline: count"), ("recipe: ftcl", "recipe: ftcl"), ("{top: 2,", "{top: 7,")
    )
    assert [message.split(": ")[0] for message in error_of(path).splitlines()] == [f"{path}:10", f"{path}:22"]


@pytest.mark.situation(
    "input", "a section of the search space is missing", "nothing starts; the section is named"
)
@pytest.mark.parametrize("section", ["title", "recipe", "data", "objective", "search", "ablation"])
def test_a_missing_section_is_named(write_space: Write, section: str) -> None:
    kept, skipping = [], False
    for line in GOOD.splitlines():
        if not line.startswith(" "):
            skipping = line.startswith(f"{section}:")
        if not skipping:
            kept.append(line)
    path = write_space(text="\n".join(kept))
    assert f"{path}:1: {section}: is missing; add it" in error_of(path)


def test_rungs_stay_below_the_least_number_of_epochs_searched(write_space: Write) -> None:
    path = write_space(("step: 5}", "step: 5}\n    finetune.epochs: {int: [3, 9]}"))
    assert f"{path}:13: search > early_stopping > rungs > 1: 4 is not below the 3" in error_of(path)
