from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from study.spec import Choice, FloatRange, IntRange, Settings, Space, SpecError, list_spaces, load_space

GOOD = """\
title: A space for tests
recipe: ftcl
data: watch
fixed:
  acmnet.dropout: 0.5
objective: {metric: "mAP@0.1:0.7", split: validation}
search:
  trials: 6
  seeds: 2
  confirm: {top: 2, seeds: 3}
  sampler: {name: tpe, startup: 3}
  batch: 2
  early_stopping: {rungs: [2, 4], keep: 0.5, at_least: 2}
  parameters:
    finetune.alignment: {choice: [dp, mean]}
    finetune.lambda_fsd: {float: [0.05, 2.0], log: true}
    finetune.lcs_len: {int: [10, 40], step: 5}
    finetune.fsd_gamma: {float: [0.01, 1.0], when: {finetune.alignment: [dp]}}
    finetune.fsd_background: {choice: [next_ranked, least_attended], when: {finetune.lcs_len: [30, 40]}}
ablation:
  seeds: 8
  baseline: cont
  arms:
    cont: {finetune.lambda_fsd: 0, finetune.lambda_lcs: 0}
    +FSD: {finetune.lambda_lcs: 0}
    both: {}
    random pairs: {finetune.pair_labels: random}
  families:
    - {name: losses, metric: "mAP@0.1:0.7", arms: [+FSD, both], against: cont}
  controls: {arms: [random pairs], against: [both]}
gate: null
resources:
  pretrain: {cpus: 1, gpus: 1, memory_gb: 1.5}
  finetune: {cpus: 2, gpus: 0.25, memory_gb: 1.5}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*replacements: tuple[str, str], text: str = GOOD) -> Path:
        for old, new in replacements:
            assert text.count(old) == 1, f"{old!r} is not unique in the file"
            text = text.replace(old, new)
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def error_of(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_space(str(path))
    return str(caught.value)


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
    write: Write, old: str, new: str, keys: str, wrong: str
) -> None:
    path = write((old, new))
    line = path.read_text()[: path.read_text().index(new)].count("\n") + 1 + new.count("\n")
    place, message = error_of(path).split(": ", 1)
    assert place == f"{path}:{line}"
    assert message.split(": ")[0].endswith(keys)
    assert wrong in message


def without_search(text: str) -> str:
    head, rest = text.split("search:\n")
    return f"{head}search: null\nablation:\n{rest.split('ablation:' + chr(10))[1]}"


def test_a_space_needs_no_search_but_says_so(write: Write) -> None:
    space = load_space(str(write(text=without_search(GOOD))))
    assert space.search is None
    assert (space.searched, space.defaults("watch"), space.active({})) == ({}, {}, ())
    assert space.shares_pretraining
    assert space.with_overrides(seeds=3).ablation.seeds == 3
    with pytest.raises(SpecError, match="mine has no search, so it makes no proposals"):
        space.with_overrides(trials=3)


def test_a_gate_on_the_arms_themselves_allows_no_search(write: Write) -> None:
    one_stage = """\
title: One stage
recipe: acmnet
data: watch
objective: {metric: "mAP@0.1:0.7", split: validation}
search: null
ablation: {seeds: 2, baseline: default, arms: {default: {}, no guide: {acmnet.lambda_guide: 0.0}}}
gate: {metric: "mAP@0.1:0.7", at_least: 30.0}
"""
    assert load_space(str(write(text=one_stage))).gate is not None
    searched = one_stage.replace(
        "search: null",
        "search: {trials: 2, seeds: 1, confirm: {top: 1, seeds: 1}, "
        "parameters: {acmnet.dropout: {float: [0.5, 0.9]}}}",
    )
    with pytest.raises(SpecError, match=r"gate: the gate of recipe acmnet judges the arms.*search: null"):
        load_space(str(write(text=searched)))


def test_the_good_space_loads(write: Write) -> None:
    space = load_space(str(write()))
    assert space.name == "mine"
    assert space.ablation.arms["random pairs"] == {"finetune.pair_labels": "random"}
    assert space.search.parameters["finetune.lcs_len"].kind == "int"
    assert space.resources_of("finetune").gpus == 0.25


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(write: Write) -> None:
    path = write(
        ("  baseline: cont", "  baseline: count"), ("recipe: ftcl", "recipe: ftcl"), ("{top: 2,", "{top: 7,")
    )
    assert [message.split(": ")[0] for message in error_of(path).splitlines()] == [f"{path}:10", f"{path}:22"]


@pytest.mark.situation(
    "input", "a section of the search space is missing", "nothing starts; the section is named"
)
@pytest.mark.parametrize("section", ["title", "recipe", "data", "objective", "search", "ablation"])
def test_a_missing_section_is_named(write: Write, section: str) -> None:
    kept, skipping = [], False
    for line in GOOD.splitlines():
        if not line.startswith(" "):
            skipping = line.startswith(f"{section}:")
        if not skipping:
            kept.append(line)
    path = write(text="\n".join(kept))
    assert f"{path}:1: {section}: is missing; add it" in error_of(path)


@pytest.mark.situation(
    "input",
    "the search space is not YAML, would run code, or contains itself",
    "nothing starts and no code runs; the message has the line",
)
@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", ":1: must be a mapping"),
        ("- 1\n", ":1: must be a mapping"),
        ("title: a\nrecipe: [\n", ":3: not YAML"),
        ("title: a\n\tdata: b\n", ":2: not YAML"),
        ("title: a\ndata: \x07\n", ":2: not YAML: forbidden character"),
        ("title: a\n---\ntitle: b\n", ":2: not YAML"),
        ("title: a\ndata: !!python/object/apply:os.getcwd []\n", ":2: data: the tag"),
        ("title: a\ndata: !!python/name:os.getcwd x\n", ":2: not YAML"),
        ("title: a\nfixed: &a\n  x: *a\n", ": fixed > x: an alias (*) that contains itself"),
        ("title: " + "[" * 5000, ":1: nested too deeply"),
        ("a: &a [" + "1," * 50 + "]\nb: &b [" + "*a," * 50 + "]\nc: [" + "*b," * 50 + "]\n",
         "more than 10000 values"),
        ("title: a\nname: b\n", ":2: name: a space is named by its file"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_space_says_why(write: Write, text: str, wrong: str) -> None:
    path = write(text=text)
    message = error_of(path)
    assert message.startswith(f"{path}:")
    assert wrong in message


@pytest.mark.situation(
    "input", "the search space is not UTF-8 text", "nothing starts; the message has the line"
)
def test_a_file_that_is_not_text_says_where(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"title: a\ndata: \xff\n")
    assert error_of(path) == f"{path}:2: not UTF-8 text; save the file as UTF-8"


@pytest.mark.situation("input", "the file given as search space is larger than 1 MB", "it is refused unread")
def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"#" * 1_000_001)
    assert "at most 1000000" in error_of(path)


def test_an_alias_may_repeat_a_value(write: Write) -> None:
    space = load_space(str(write(("  seeds: 2", "  seeds: &n 2"), ("  batch: 2", "  batch: *n"))))
    assert (space.search.seeds, space.search.batch) == (2, 2)


def test_an_unknown_space_names_the_nearest(write: Write) -> None:
    with pytest.raises(SpecError, match='unknown search space "fsd_lsc"; did you mean fsd_lcs'):
        load_space("fsd_lsc")
    path = write()
    with pytest.raises(SpecError, match=r"nime\.yaml: no such file; did you mean mine\.yaml"):
        load_space(str(path.with_name("nime.yaml")))


@pytest.mark.situation(
    "input",
    "one of the shipped search spaces is invalid",
    "--list shows it with its problem, and the others as always",
)
def test_an_invalid_file_is_listed_with_its_problem(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = write(("  trials: 6", "  trials: 0"))
    (bad.parent / "good.yaml").write_text(GOOD)
    monkeypatch.setattr("study.spec.resources.files", lambda package: bad.parent)
    good, invalid = list_spaces()
    assert (good.name, good.title, good.problem) == ("good", "A space for tests", None)
    assert invalid.name == "mine"
    assert invalid.problem is not None and "mine.yaml:8: search > trials" in invalid.problem


def test_a_space_is_frozen(write: Write) -> None:
    space = load_space(str(write()))
    with pytest.raises(ValidationError, match="frozen"):
        space.title = "other"


def test_a_space_survives_its_own_yaml_form(write: Write) -> None:
    space = load_space(str(write()))
    dumped = space.model_dump(mode="python", by_alias=True)
    assert dumped["search"]["parameters"]["finetune.lambda_fsd"]["float"] == (0.05, 2.0)
    assert Space.model_validate(dumped).model_dump() == space.model_dump()


def test_overrides_change_only_the_budget(write: Write) -> None:
    space = load_space(str(write()))
    small = space.with_overrides(trials=1, seeds=3)
    assert (small.search.trials, small.search.confirm.top, small.ablation.seeds) == (1, 1, 3)
    assert (space.search.trials, space.search.confirm.top, space.ablation.seeds) == (6, 2, 8)
    assert small.search.parameters == space.search.parameters
    assert space.with_overrides() == space
    with pytest.raises(SpecError, match="trials must be at least 1, not 0"):
        space.with_overrides(trials=0)


def test_a_parameter_belongs_to_the_first_stage_that_it_changes(write: Write) -> None:
    space = load_space(str(write()))
    assert space.searched_stage_of("finetune.lambda_fsd") == "finetune"
    assert space.searched_stage_of("localization.nms_tiou") == "finetune"
    assert space.searched_stage_of("pretrain.learning_rate") == "pretrain"
    assert space.searched_stage_of("acmnet.dropout") == "pretrain"


def test_conditions_decide_what_is_active(write: Write) -> None:
    space = load_space(str(write()))
    always = {"finetune.alignment", "finetune.lambda_fsd", "finetune.lcs_len"}
    assert set(space.active({})) == always
    assert set(space.active({"finetune.alignment": "dp"})) == {*always, "finetune.fsd_gamma"}
    assert set(space.active({"finetune.alignment": "mean", "finetune.lcs_len": 30})) == {
        *always,
        "finetune.fsd_background",
    }


def test_a_condition_on_an_inactive_parameter_does_not_hold(write: Write) -> None:
    space = load_space(str(write(("step: 5}", "step: 5, when: {finetune.alignment: [dp]}}"))))
    values: Settings = {"finetune.alignment": "mean", "finetune.lcs_len": 30}
    assert set(space.active(values)) == {"finetune.alignment", "finetune.lambda_fsd"}
    names = space.active({**values, "finetune.alignment": "dp"})
    assert (
        names.index("finetune.alignment")
        < names.index("finetune.lcs_len")
        < names.index("finetune.fsd_background")
    )


def test_defaults_are_the_published_values_of_what_is_searched(write: Write) -> None:
    space = load_space(str(write()))
    assert space.defaults("watch") == {
        "finetune.alignment": "dp",
        "finetune.lambda_fsd": 0.8,
        "finetune.lcs_len": 30,
        "finetune.fsd_gamma": 0.1,
        "finetune.fsd_background": "next_ranked",
    }


def test_defaults_are_checked_for_other_data_too(write: Write) -> None:
    # lcs_tau is 0.8 on watch and 0.92 on thumos14.
    path = write(
        ("{int: [10, 40], step: 5}", "{int: [10, 40], step: 5}\n    finetune.lcs_tau: {float: [0.7, 0.9]}")
    )
    space = load_space(str(path))
    with pytest.raises(SpecError, match=rf"{path}:18: .*lcs_tau: leaves out 0.92.* for thumos14"):
        space.check_defaults("thumos14")
    with pytest.raises(SpecError, match="wacht"):
        space.check_defaults("wacht")


def test_rungs_stay_below_the_least_number_of_epochs_searched(write: Write) -> None:
    path = write(("step: 5}", "step: 5}\n    finetune.epochs: {int: [3, 9]}"))
    assert f"{path}:13: search > early_stopping > rungs > 1: 4 is not below the 3" in error_of(path)


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
