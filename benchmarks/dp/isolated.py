"""What only a fresh process can tell: import time, the first call, and peak memory.

`measure` starts `python -m benchmarks.dp.isolated`, one process per contender and function, with empty
folders for compiled code. The process prints one line of JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.dp.cases import Case, Size

_ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 300


@dataclass(frozen=True)
class Isolated:
    """Seconds of a contender's import after torch's, seconds of its first call (of the first case), and
    for each case the most bytes of memory that a call took beyond what was there before it.
    """

    import_s: float
    first_call_s: float
    peak_bytes: dict[str, int]


def measure(contender: str, cases: Sequence[Case], device: str, threads: int) -> Isolated | str:
    """Figures of one contender in a process of its own, or why there are none."""
    with tempfile.TemporaryDirectory() as empty:
        environment = {
            **os.environ,
            "NUMBA_CACHE_DIR": f"{empty}/numba",
            "TRITON_CACHE_DIR": f"{empty}/triton",
            "OMP_NUM_THREADS": str(threads),
            "NUMBA_NUM_THREADS": str(threads),
            # Freed memory goes back to the system, so that the next call's peak is its own.
            "MALLOC_MMAP_THRESHOLD_": "65536",
            "MALLOC_TRIM_THRESHOLD_": "65536",
        }
        request = {
            "contender": contender,
            "device": device,
            "threads": threads,
            "cases": [vars(case) for case in cases],
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.dp.isolated", json.dumps(request)],
                cwd=_ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer from its own process within {_TIMEOUT_S} s"
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return f"failed in its own process: {last}"
    return Isolated(**json.loads(done.stdout.splitlines()[-1]))


def main(request: str) -> None:
    """The child process."""
    asked = json.loads(request)
    cases = [Case(**{**case, "size": Size(*case["size"])}) for case in asked["cases"]]

    import torch

    from benchmarks.dp.answers import answer, fresh_inputs, leaves_on
    from benchmarks.dp.contenders import BY_NAME
    from benchmarks.dp.measure import peak_on_gpu

    torch.set_num_threads(asked["threads"])
    device = torch.device(asked["device"])
    if device.type == "cuda":
        torch.cuda.init()
    contender = BY_NAME[asked["contender"]]
    leaves = fresh_inputs(contender, leaves_on(device, cases[0]))
    start = time.perf_counter()
    values = contender.build(cases[0], device)
    import_s = time.perf_counter() - start
    start = time.perf_counter()
    answer(values, leaves)
    if device.type == "cuda":
        torch.cuda.synchronize()
    first_call_s = time.perf_counter() - start

    peaks = {}
    for case in cases:
        values = contender.build(case, device)
        leaves = fresh_inputs(contender, leaves_on(device, case))
        measured = peak_on_gpu if device.type == "cuda" else _peak_resident
        peaks[str(case)] = measured(partial(answer, values, leaves))
        del values, leaves
    print(json.dumps({"import_s": import_s, "first_call_s": first_call_s, "peak_bytes": peaks}))


def _peak_resident(run: Callable[[], object]) -> int:
    # Linux forgets the highest resident size of a process that writes 5 here.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_kib("VmRSS")
    run()
    return 1024 * max(0, _status_kib("VmHWM") - before)


def _status_kib(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    main(sys.argv[1])
