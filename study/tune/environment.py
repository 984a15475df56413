"""What Ray reads from the environment, set before Ray is imported."""

import os
import secrets
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def prepare_environment(address: str | None) -> None:
    """Make Ray quiet and private; for a local Ray (no address) also closed to the network.

    A local Ray listens on loopback only and asks its callers for a token. Without these settings it would
    bind every interface and leave a token file in the user's home.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the study has its own progress
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # and its own records
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # and its own handling of Ctrl-C (study.stopping)
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1e9"  # nobody reads Tune's snapshots
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "1000"  # the agenda counts; else workers start one by one
    if address is None:
        # A node that is gone is noticed after 3 s instead of 13 s; a busy one still has half a minute.
        os.environ.setdefault("RAY_health_check_initial_delay_ms", "1000")
        os.environ.setdefault("RAY_health_check_period_ms", "1000")
        os.environ.setdefault("RAY_health_check_failure_threshold", "3")
        # What unwinds in a worker when its trial is stopped may have to write to a slow storage.
        os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "60")
        # The switch that macOS and Windows have by default: one machine, so nothing but loopback.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # Workers start in another folder and must find the packages that this process found.
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
