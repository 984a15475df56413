"""See within seconds whether a cluster takes this process, and say what is to be done if it does not."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from study.plan import LaunchError
from study.tune.gcs import Answer

_ROOT: Final = Path(__file__).resolve().parents[2]
_CONNECT_TIMEOUT_S: Final = 2.0
_TIMEOUT_S: Final = 8.0  # of all questions
_TOKEN_FILE: Final = "~/.ray/auth_token"


class ClusterError(LaunchError):
    """The cluster cannot be reached, or cannot run what is asked."""


def reach(address: str) -> Answer:
    """Ask the cluster at `address` (`auto`: the one that runs here) whether it takes this process.

    Returns where it is and whether it asks for a token. Raises ClusterError within 10 s.
    """
    if "://" in address:
        unset = "; or unset RAY_ADDRESS" if address == os.environ.get("RAY_ADDRESS") else ""
        raise ClusterError(
            f"{address} is the address of a server for clients, which cannot run a study; give HOST:PORT or "
            f"auto on the head (ray attach), or hand the command over with `ray job submit`{unset}"
        )
    _require_token_file()
    answer = _ask(address)
    if answer.trouble is not None:
        raise ClusterError(_explain(answer))
    ours = version("ray"), platform.python_version()
    if (answer.ray, answer.python) != (None, None) and not _fits(ours, (answer.ray, answer.python)):
        raise ClusterError(
            f"the Ray cluster at {answer.address} runs Ray {answer.ray} with Python {answer.python}, this "
            f"machine Ray {ours[0]} with Python {ours[1]}: install the same on both (constraints.txt), or "
            "run the command on the head"
        )
    return answer


def _ask(address: str) -> Answer:
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "RAY_AUTH_MODE": "disabled",
        "RAY_gcs_rpc_server_connect_timeout_s": "1",  # then a refusal is final at once
        "RAY_py_gcs_connect_timeout_s": "3",  # instead of 30
    }
    command = [sys.executable, "-m", "study.tune.gcs", address, str(_CONNECT_TIMEOUT_S)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer("silent", address=address)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ClusterError(f"cannot ask the Ray cluster at {address}: {last}")
    return Answer(**json.loads(lines[-1]))


def _fits(ours: tuple[str, str], theirs: tuple[str | None, str | None]) -> bool:
    """Say whether Ray will accept these versions: all equal, unless its variable allows less."""
    if os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL") == "minor":
        return ours[0] == theirs[0] and ours[1].split(".")[:2] == str(theirs[1]).split(".")[:2]
    return ours == theirs


def _require_token_file() -> None:
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if path and not os.environ.get("RAY_AUTH_TOKEN"):
        try:
            empty = not Path(path).read_text().strip()
        except OSError as error:
            raise ClusterError(
                f"RAY_AUTH_TOKEN_PATH names {path}, which cannot be read ({error.strerror}): copy the "
                f"head's {_TOKEN_FILE} there, or unset the variable"
            ) from error
        if empty:
            raise ClusterError(
                f"RAY_AUTH_TOKEN_PATH names {path}, which is empty: copy the head's {_TOKEN_FILE} there"
            )


def _token_variable() -> str | None:
    """Return the variable from which Ray takes its token, None for the file in the home."""
    return next((name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)), None)


def _explain(answer: Answer) -> str:
    where = f"the Ray cluster at {answer.address}"
    match answer.trouble:
        case "no_cluster":
            return (
                "--address auto finds no Ray cluster on this machine: run the command on the head (ray "
                "attach), start one (ray start --head), or leave --address out to run here alone"
            )
        case "bad_address":
            return f"--address {answer.address} is no address ({answer.details}); write HOST:PORT or auto"
        case "no_listener":
            return (
                f"nothing answers at {answer.address} ({answer.details}): correct --address (the head's port "
                "is 6379 unless it was started with another --port), or start the cluster (ray up, ray start)"
            )
        case "no_token":
            return (
                f"{where} asks for a token, and there is none here: copy the head's {_TOKEN_FILE} to "
                f"{_TOKEN_FILE}, or set RAY_AUTH_TOKEN"
            )
        case "wrong_token":
            variable = _token_variable()
            place = _TOKEN_FILE if variable is None else variable
            copy = f"copy the head's {_TOKEN_FILE} to {_TOKEN_FILE}"
            unset = "" if variable is None else f", and unset {variable}"
            return f"{where} does not accept the token in {place}: {copy}{unset}"
        case "no_node":
            return (
                f"this machine is not a node of {where}: run the command on the head (ray attach), or from "
                "here with `ray job submit`"
            )
        case _:
            return (
                f"{answer.address} accepts connections and does not answer as a Ray cluster does: correct "
                "--address, or look at the head with `ray status`"
            )
