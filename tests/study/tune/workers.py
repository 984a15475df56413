"""The processes in which Ray runs the trials of a study, known by what they call themselves."""

from contextlib import suppress
from typing import Final

import psutil

TRAINS: Final = "ImplicitFunc.train"  # Tune's name of a trial's function
EXISTS: Final = "ImplicitFunc"  # also one that starts, or waits for its next trial


def workers_of(driver: int, state: str = EXISTS) -> list[psutil.Process]:
    """Return the workers of a study, by the process id of its driver."""
    found = []
    for child in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.Error):
            if state in " ".join(child.cmdline()):
                found.append(child)
    return found
