"""What is wrong with a machine, and the table that says so."""

import io
from typing import Any

import pytest
from rich.console import Console

from study.verdicts import (
    Finding,
    Place,
    Report,
    judge_cache,
    judge_clock,
    judge_gpus,
    judge_hanging_storage,
    judge_native,
    judge_software,
    judge_storage,
)

HERE: dict[str, Any] = {
    "versions": {"python": "3.11.7", "ray": "2.60.0", "torch": "2.6.0+cpu", "numpy": "2.1.0"},
    "source": {"ftcl/a.py": "1", "ftcl/dp/a.c": "2", "study/trial.py": "3", "search_spaces/fsd.yaml": "4"},
    "native": True,
}
NOTHING = Place("gpu-1", "2 CPU")


def there(**changes: Any) -> dict[str, Any]:
    return {**HERE, **changes}


def levels(found: Any) -> list[tuple[str, str]]:
    return [(finding.level, finding.check) for finding in found]


def test_the_same_software_is_well():
    assert list(judge_software(HERE, there())) == []


def test_another_build_of_the_same_version_is_well():
    assert list(judge_software(HERE, there(versions={**HERE["versions"], "torch": "2.6.0+cu126"}))) == []


@pytest.mark.parametrize(
    ("package", "version", "level"),
    [
        ("torch", "2.5.1", "error"),
        ("ray", "2.59.0", "error"),
        ("python", "3.12.1", "error"),
        ("numpy", "2.0.0", "warning"),
        ("numpy", None, "error"),
    ],
)
def test_another_version(package: str, version: str | None, level: str):
    [finding] = judge_software(HERE, there(versions={**HERE["versions"], package: version}))
    assert (finding.level, finding.check) == (level, "versions")
    assert finding.found == f"{package} {version or 'is missing'}, here {HERE['versions'][package]}"
    assert "constraints.txt" in finding.fix


def test_a_package_that_only_the_node_has_is_well():
    ours = there(versions={**HERE["versions"], "seglearn": None})
    theirs = there(versions={**HERE["versions"], "seglearn": "1.2.5"})
    assert list(judge_software(ours, theirs)) == []


def test_other_code_is_named():
    here = there(source={**HERE["source"], "study/new.py": "y"})
    source = {**HERE["source"], "study/trial.py": "x", "ftcl/a.py": "z"}
    [finding] = judge_software(here, there(source=source))
    assert levels([finding]) == [("error", "source")]
    assert "ftcl/a.py, study/new.py and 1 more files" in finding.found


def test_files_left_from_earlier_code_are_no_obstacle():
    """`ray up` deletes nothing, so bringing the checkout there again would not help."""
    source = {**HERE["source"], "study/old.py": "x", "search_spaces/old.yaml": "y", "ftcl/dp/old.c": "z"}
    [finding] = judge_software(HERE, there(source=source))
    assert levels([finding]) == [("warning", "source")]
    assert finding.found == "left from earlier code: search_spaces/old.yaml, study/old.py"
    assert finding.fix == "delete it there, since ray up deletes nothing"


def test_a_package_left_from_earlier_code_that_hides_a_module_is_an_error():
    """Python would import study/trial/ and not study/trial.py."""
    [finding] = judge_software(HERE, there(source={**HERE["source"], "study/trial/__init__.py": "x"}))
    assert levels([finding]) == [("error", "source")] and "left from" in finding.found


def test_an_installation_needs_no_sources_in_c():
    assert (
        list(judge_software(HERE, there(source={k: v for k, v in HERE["source"].items() if k[-1] != "c"})))
        == []
    )
    assert levels(judge_software(HERE, there(source={**HERE["source"], "ftcl/dp/a.c": "x"})))


def test_another_search_space_is_no_obstacle():
    source = {**HERE["source"], "search_spaces/fsd.yaml": "x"}
    assert levels(judge_software(HERE, there(source=source))) == [("warning", "source")]


def test_a_missing_installation_says_only_that():
    [finding] = judge_software(HERE, there(source={}, native=False))
    assert "not installed there" in finding.found


def test_a_missing_library_is_a_warning_where_it_is_missing():
    assert levels(judge_software(HERE, there(native=False))) == [("warning", "alignment")]
    assert list(judge_software(there(native=False), HERE)) == []
    assert levels(judge_native(False)) == [("warning", "alignment")] and list(judge_native(True)) == []


def test_gpus():
    none = {"names": [], "failed": "", "trouble": ""}
    two = {**none, "names": ["A10G", "A10G"]}
    assert list(judge_gpus(none, 0)) == list(judge_gpus(two, 2)) == []
    [finding] = judge_gpus({**none, "trouble": "driver too old"}, 1)
    assert finding.level == "error" and "Ray counts 1, torch sees 0 (driver too old)" in finding.found
    [finding] = judge_gpus(two, 1)
    assert finding.level == "warning" and "--num-gpus 2" in finding.fix
    [finding] = judge_gpus({**two, "failed": "Failed to find C compiler."}, 2)
    assert finding.level == "error" and "gcc, python3-dev" in finding.fix
    assert finding.found == "an alignment fails on a GPU: Failed to find C compiler."


@pytest.mark.parametrize(
    ("ahead_s", "uncertainty_s", "expected"),
    [
        (0.5, 0.01, []),
        (3.0, 2.0, []),  # cannot be told
        (3.0, 0.01, [("warning", "clock")]),
        (-400.0, 0.01, [("error", "clock")]),
    ],
)
def test_clock(ahead_s: float, uncertainty_s: float, expected: list[tuple[str, str]]):
    found = list(judge_clock(ahead_s, uncertainty_s))
    assert levels(found) == expected
    assert all(("behind" in finding.found) == (ahead_s < 0) for finding in found)


def test_cache():
    cache = {"folder": "/c", "free": 50e9, "writable": True}
    assert list(judge_cache(cache)) == []
    assert levels(judge_cache({**cache, "free": 1e6})) == [("warning", "disk")]
    assert levels(judge_cache({**cache, "writable": False})) == [("error", "disk")]


def test_storage():
    assert list(judge_storage("/out", "", True, True)) == []
    [finding] = judge_storage("/out", "Read-only file system", False, False)
    assert finding.found == "cannot write to /out: Read-only file system"
    for seen, sees in ((True, False), (False, True)):
        [finding] = judge_storage("/out", "", seen, sees)
        assert "another folder" in finding.found and "s3://" in finding.fix


@pytest.mark.parametrize(("folder", "fix"), [("/out/.doctor-1", "df"), ("s3://out/.doctor-1", "network")])
def test_storage_that_hangs(folder: str, fix: str):
    [finding] = judge_hanging_storage(folder, "no answer within 8 s")
    assert levels([finding]) == [("error", "storage")] and fix in finding.fix
    assert "does not answer there (no answer within 8 s)" in finding.found and folder in finding.found


def draw(report: Report, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(report.render())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_line_for_each_place_that_is_well():
    report = Report((NOTHING, Place("gpu-2", "4 CPU")))
    assert report.healthy
    lines = [line.split() for line in draw(report, 80).splitlines()]
    assert lines[1:3] == [["gpu-1", "all", "well", "2", "CPU"], ["gpu-2", "all", "well", "4", "CPU"]]
    assert lines[-1] == ["all", "is", "well"]


def test_warnings_leave_a_report_healthy_and_errors_do_not():
    warning, error = (
        Finding("warning", "clock", "is late", "NTP"),
        Finding("error", "data", "no data", "copy"),
    )
    one = Report((NOTHING, Place("gpu-2", "", (warning,))))
    both = Report((NOTHING, Place("gpu-2", "", (warning, error))))
    assert one.healthy and not both.healthy
    assert "1 warning: a study can run" in draw(one, 80)
    assert "1 error and 1 warning: mend the errors" in draw(both, 80)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_table_keeps_within_the_width_and_loses_nothing(width: int):
    text = " ".join(f"word{number}" for number in range(40))
    report = Report((Place("gpu-2 10.0.0.2", "", (Finding("error", "storage", text, f"do {text}"),)),))
    drawn = draw(report, width)
    assert max(map(len, drawn.splitlines())) <= width
    assert drawn.count("word39") == 2 and "→ do word0" in drawn
