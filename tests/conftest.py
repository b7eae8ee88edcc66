"""For each process of the tests and for what it starts: one thread, and a cache of its own."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# What semiseg remembers from run to run is the tests' own; what others keep in the cache takes long to make anew.
USUAL = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
for name, folder in (("MPLCONFIGDIR", "matplotlib"), ("HF_HOME", "huggingface"), ("TORCH_HOME", "torch")):
    os.environ.setdefault(name, str(USUAL / folder))
os.environ["XDG_CACHE_HOME"] = CACHE = tempfile.mkdtemp(prefix="semiseg-tests-")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)

# On small tensors more threads only get in the way.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
