"""What is said of a cluster that does not take this process; tests/system/test_doctor.py has real ones."""

from pathlib import Path

import pytest

from study.plan import LaunchError
from study.tune import reach as module
from study.tune.gcs import Answer
from study.tune.reach import ClusterError, reach

GOOD = Answer(address="10.0.0.1:6379", needs_token=True, ray="2.60.0", python="3.11.7")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "RAY_ADDRESS",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
        "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "version", lambda package: "2.60.0")
    monkeypatch.setattr(module.platform, "python_version", lambda: "3.11.7")


def answers(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    monkeypatch.setattr(module, "_ask", lambda address: answer)


def test_a_cluster_that_takes_us(monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, GOOD)
    assert reach("auto") == GOOD


@pytest.mark.parametrize("theirs", [("2.59.0", "3.11.7"), ("2.60.0", "3.11.8"), ("2.60.0", "3.12.7")])
def test_other_versions_are_named(monkeypatch: pytest.MonkeyPatch, theirs: tuple[str, str]):
    answers(monkeypatch, Answer(address="head:6379", ray=theirs[0], python=theirs[1]))
    with pytest.raises(ClusterError, match=r"Ray 2\.60\.0 with Python 3\.11\.7: install the same") as raised:
        reach("head:6379")
    assert f"runs Ray {theirs[0]} with Python {theirs[1]}" in str(raised.value)


def test_another_patch_level_may_be_allowed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "minor")
    answers(monkeypatch, Answer(address="head:6379", ray="2.60.0", python="3.11.9"))
    reach("head:6379")
    answers(monkeypatch, Answer(address="head:6379", ray="2.60.0", python="3.12.7"))
    with pytest.raises(ClusterError):
        reach("head:6379")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer("no_token", address="h:1"), "there is none here: copy the head's ~/.ray/auth_token"),
        (Answer("wrong_token", address="h:1"), "does not accept the token in ~/.ray/auth_token"),
        (Answer("no_node", address="h:1"), "not a node of the Ray cluster at h:1"),
        (Answer("no_cluster", address="auto"), "no Ray cluster on this machine"),
        (Answer("silent", address="h:1"), "does not answer as a Ray cluster does"),
    ],
)
def test_what_is_in_the_way_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, words: str
):
    answers(monkeypatch, answer)
    with pytest.raises(ClusterError, match=words):
        reach(answer.address)


@pytest.mark.parametrize("variable", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_the_place_of_a_wrong_token_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str):
    (tmp_path / "token").write_text("secret")
    monkeypatch.setenv(variable, str(tmp_path / "token"))
    answers(monkeypatch, Answer("wrong_token", address="h:1"))
    with pytest.raises(ClusterError) as raised:
        reach("h:1")
    assert f"the token in {variable}: " in str(raised.value)
    assert str(raised.value).endswith(f"and unset {variable}")


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), ("\n", "is empty")])
def test_a_token_file_that_gives_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, words: str
):
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    with pytest.raises(ClusterError, match=words):
        reach("h:1")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://127.0.0.1:10001", "ray job submit"),
        ("nonsense", "is no address"),
        ("127.0.0.1:1", r"nothing answers at 127\.0\.0\.1:1 \(.*Connection refused\)"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, words: str):
    with pytest.raises(LaunchError, match=words):
        reach(address)


def test_an_address_from_the_environment_is_said_to_be_from_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(ClusterError, match="unset RAY_ADDRESS"):
        reach("http://127.0.0.1:8265")


def test_a_question_that_fails_ends_in_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    with pytest.raises(ClusterError, match="cannot ask the Ray cluster at h:1: exit status 1"):
        reach("h:1")
