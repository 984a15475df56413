"""`python -m benchmarks.dp`: see benchmarks/dp/run.py."""

import os
import sys

# Read when torch starts its threads. A thread that spins while it waits for another one costs nothing on a
# quiet machine, and up to 100 times the call where another program holds one of the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from benchmarks.dp.run import main

if __name__ == "__main__":
    sys.exit(main())
