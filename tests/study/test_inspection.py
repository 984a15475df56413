"""What is seen of a machine, also of one without our package."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study import inspection
from study.manifest import PACKAGES, versions
from study.store import open_store

ROOT = Path(__file__).parents[2]


def test_versions_are_those_of_the_manifest():
    assert inspection.look(PACKAGES)["versions"] == versions()


def test_the_source_is_what_is_imported():
    found = inspection.source()
    assert {
        "study/inspection.py",
        "ftcl/dp/backends/csrc/native.c",
        "search_spaces/fsd_lcs.yaml",
    } <= found.keys()


def test_a_changed_file_changes_its_digest_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for tree in ("ftcl", "study"):
        (tmp_path / tree).mkdir()
        (tmp_path / tree / "__init__.py").write_text("")
    monkeypatch.setattr(inspection, "_folders", lambda: {t: tmp_path / t for t in ("ftcl", "study")})
    before = inspection.source()
    (tmp_path / "study" / "__init__.py").write_text("changed = 1")
    after = inspection.source()
    assert before.keys() == after.keys() == {"ftcl/__init__.py", "study/__init__.py"}
    assert [name for name in before if before[name] != after[name]] == ["study/__init__.py"]


def test_a_machine_without_the_package_answers(tmp_path: Path):
    """The functions arrive there as text, so to say: nothing of ours can be imported."""
    code = f"""
import runpy, sys
there = runpy.run_path({str(ROOT / "study/inspection.py")!r})
seen = there["look"](["torch", "no-such-package"])
assert seen["source"] == {{}} and seen["native"] is False, seen
assert seen["versions"]["no-such-package"] is None
probed = there["exchange_probes"]({str(tmp_path)!r}, ".doctor/a", ".doctor/b")
assert "is the project installed there?" in probed["trouble"] and not probed["sees"], probed
assert "is the project installed there?" in there["check_data"]("watch", {{}}, "f")
there["remove_probes"]({str(tmp_path)!r}, ["a"], [])
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_gpu_is_looked_for_where_there_is_no_sign_of_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inspection, "_GPU_DEVICES", ())
    monkeypatch.setattr(inspection.subprocess, "run", None)
    assert inspection.gpus(0) == {"names": [], "failed": "", "trouble": ""}


def test_what_torch_sees_is_asked_past_rays_variables(monkeypatch: pytest.MonkeyPatch):
    code = """
import json, os
print(json.dumps({"names": [n for n in os.environ if n.endswith("VISIBLE_DEVICES")], "failed": ""}))
"""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(inspection, "_ASK_TORCH", code)
    assert inspection.gpus(1) == {"names": [], "failed": "", "trouble": ""}
    monkeypatch.setattr(inspection, "_ASK_TORCH", "raise SystemExit('no driver')")
    assert inspection.gpus(1) == {"names": [], "failed": "", "trouble": "no driver"}
    monkeypatch.setattr(inspection, "_ASK_TORCH", "import time; time.sleep(9)")
    monkeypatch.setattr(inspection, "_GPU_TIMEOUT_S", 0.1)
    assert "torch has not answered" in inspection.gpus(1)["trouble"]


def pretend_dp(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process that finds our packages as this one does find another `ftcl.dp`."""
    (folder / "ftcl").mkdir()
    (folder / "ftcl/__init__.py").write_text("")
    (folder / "ftcl/dp.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])


def test_an_alignment_is_computed_on_each_device():
    assert inspection.ask_torch(["cpu", "cpu"]) == {"names": [], "failed": "", "trouble": ""}


COMPILER = """
import subprocess, sys
def lcs(*arguments, **words):
    code = "import sys; sys.exit('a.c:9:10: fatal error: Python.h: No such file')"
    subprocess.check_call([sys.executable, "-c", code])
"""


@pytest.mark.parametrize(
    ("code", "failed"),
    [
        (COMPILER, "a.c:9:10: fatal error: Python.h: No such file"),  # as Triton calls one
        ("def lcs(*a, **w): raise RuntimeError('Failed to find C compiler.')", "Failed to find C compiler."),
        ("import no_such_module", ""),  # a package that is missing is told as such
    ],
)
def test_an_alignment_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, failed: str
):
    pretend_dp(tmp_path, code, monkeypatch)
    assert inspection.ask_torch(["cpu"]) == {"names": [], "failed": failed, "trouble": ""}


def test_probes_come_back_and_leave_nothing(tmp_path: Path):
    out = tmp_path / "new" / "out"
    names = [".doctor/one", ".doctor/two"]
    assert [inspection.write_probe(str(out), name) for name in names] == ["", ""]
    assert inspection.read_probes(str(out), names) == dict.fromkeys(names, True)
    inspection.remove_probes(str(out), names, [str(out), str(out.parent)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["", "memory://probes"])
def test_the_probes_of_others_stay(tmp_path: Path, uri: str):
    """Of nodes that have not removed theirs yet."""
    location = uri or str(tmp_path)
    names = [".doctor/one", ".doctor/two"]
    for name in names:
        inspection.write_probe(location, name)
    inspection.remove_probes(location, names[:1], [])
    assert inspection.read_probes(location, names) == {names[0]: False, names[1]: True}
    inspection.remove_probes(location, names[1:], [])
    assert open_store(location).states() == {}


def test_a_node_writes_its_probe_and_looks_for_the_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inspection, "_READ_PAUSE_S", 0.01)
    inspection.write_probe(str(tmp_path), ".doctor/driver")
    for theirs, sees in ((".doctor/driver", True), (".doctor/else", False)):
        answer = inspection.exchange_probes(str(tmp_path), ".doctor/one", theirs)
        assert answer == {"trouble": "", "sees": sees}
    assert (tmp_path / ".doctor/one").exists()


def test_a_folder_that_was_there_stays(tmp_path: Path):
    inspection.write_probe(str(tmp_path), ".doctor/one")
    inspection.remove_probes(str(tmp_path), [".doctor/one"], [])
    assert tmp_path.is_dir() and list(tmp_path.iterdir()) == []


def test_a_late_file_is_waited_for_and_a_missing_one_not_for_ever(tmp_path: Path):
    inspection.write_probe(str(tmp_path), ".doctor/one")
    started_s = time.monotonic()
    found = inspection.read_probes(str(tmp_path), [".doctor/one", ".doctor/two"])
    assert found == {".doctor/one": True, ".doctor/two": False}
    assert 1 < time.monotonic() - started_s < 5


def test_what_cannot_be_written_says_why(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert "Not a directory" in inspection.write_probe(str(tmp_path / "file"), ".doctor/one")


def test_missing_data_say_why(tmp_path: Path):
    case = {"fold": 0, "seed": 0, "hold_out": True}
    assert str(tmp_path / "none") in inspection.check_data(f"thumos14:{tmp_path / 'none'}", case, "f")


def test_a_cache_that_is_not_there_yet_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "yet"))
    cache = inspection.look([])["cache"]
    assert cache["folder"].startswith(str(tmp_path)) and cache["free"] > 0 and cache["writable"]
    assert not os.path.exists(tmp_path / "not")
