"""What all tests share: a cache of their own, one thread, and a Ray that stays on this machine."""

import os
import tempfile

# Set before torch or Ray is imported, and inherited by every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XDG_CACHE_HOME"] = os.path.join(tempfile.gettempdir(), f"study-tests-cache-{os.getuid()}")
