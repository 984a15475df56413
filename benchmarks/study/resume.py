"""How soon a study of many finished trials goes on: `python -m benchmarks.study.resume`.

Makes a study with so many finished trials that nobody trained (benchmarks.study.ledger), continues it with
the real command on a real Ray, and reads its output: Ray is up when it says what it keeps. The pretrained
models are not there, so the first new trials are real pretrainings.
"""

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_UP, _STARTED, _ENDED = "continuing ", "start ", "complete "


def main() -> int:
    """Make the study, extend it, print the three times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--epochs", type=int, default=25, help="of a trial")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make = ["--step", "make", "--folder", folder, "--storage", "journal"]
        size = ["--trials", str(arguments.trials), "--epochs", str(arguments.epochs)]
        subprocess.run(
            [sys.executable, "-m", "benchmarks.study.ledger", *make, *size],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        out = Path(folder) / "out"
        shutil.rmtree(out / "pretrained")
        space = ["--space", str(Path(folder) / "space.yaml"), "--out", str(out), "--concurrency", "2"]
        command = [sys.executable, "run_study.py", *space]
        started_s = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        assert process.stdout is not None
        seen: dict[str, float] = {}
        for line in process.stdout:
            for words in (_UP, _STARTED, _ENDED):
                if words in line:
                    seen.setdefault(words, time.monotonic() - started_s)
            if _ENDED in seen:
                break
        process.terminate()
        process.wait(timeout=60)
    print(f"{arguments.trials} finished trials x {arguments.epochs} epochs; {platform.platform()}")
    print(f"command to Ray being up              {seen[_UP]:6.1f} s")
    print(f"Ray being up to the first new trial  {seen[_STARTED] - seen[_UP]:6.1f} s")
    print(f"             to its end              {seen[_ENDED] - seen[_UP]:6.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
