"""optuna-dashboard opens a study's ledger, as docs/analysis.md says, and looking changes nothing in it."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from study.assembly import assemble
from study.ledger_location import LedgerLocation
from study.plan import Options, Plan, make_plan
from tests.contracts.ledger import opened, read
from tests.study.pretended import SPACE, STUDY_ID, PretendedWorkers

PROGRAM = Path(sys.executable).with_name("optuna-dashboard")


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_dashboard_shows_the_proposals_of_a_ledger(kind: str, tmp_path: Path) -> None:
    plan = finished_plan(tmp_path, None if kind == "journal" else f"sqlite:///{tmp_path}/studies.db")
    before = read(plan.ledger, STUDY_ID)
    with dashboard(address(plan.ledger)) as url:
        studies = {each["study_name"]: each["study_id"] for each in ask(url, "studies")["study_summaries"]}
        assert set(studies) == {f"{STUDY_ID}/trials", f"{STUDY_ID}/proposals"}
        seen = ask(url, f"studies/{studies[f'{STUDY_ID}/proposals']}?after=0")
        assert len(seen["trials"]) == SPACE["search"]["trials"]
        assert {each["name"] for each in seen["union_search_space"]} == set(plan.space.searched)
        complete = [each for each in seen["trials"] if each["state"] == "Complete"]
        assert complete and all(0 <= each["values"][0] <= 100 for each in complete)
        assert len(ask(url, f"studies/{studies[f'{STUDY_ID}/trials']}?after=0")["trials"]) == len(before)
        page = fetch(f"{url}/dashboard")
        assert b"Optuna Dashboard" in page
        assert len(fetch(f"{url}/static/bundle.js")) > 100_000
    assert read(plan.ledger, STUDY_ID) == before


def finished_plan(folder: Path, ledger: str | None) -> Plan:
    """Run a study whose trials are pretended."""
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(SPACE, sort_keys=False))
    plan = make_plan(Options(space=str(file), out=str(folder / "out"), ledger=ledger))
    (folder / "out").mkdir()
    with opened(plan.ledger, STUDY_ID) as opened_ledger:
        agenda, _, _ = assemble(plan, opened_ledger, 1, Console(quiet=True))
        assert PretendedWorkers(plan, 0, 2).run(agenda) and agenda.done
    return plan


def address(ledger: LedgerLocation) -> str:
    """Return what the user gives the dashboard: a path or a URL."""
    return str(ledger.path) if ledger.kind == "journal" else ledger.shown


@contextmanager
def dashboard(storage: str) -> Iterator[str]:
    """Start the dashboard and wait until it answers."""
    port = free_port()
    command = [str(PROGRAM), storage, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            try:
                fetch(url)
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        else:
            pytest.fail(f"{command} does not answer: {process.communicate(timeout=5)[0]}")
        yield url
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        content: bytes = answer.read()
    return content


def ask(url: str, what: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(fetch(f"{url}/api/{what}"))
    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
