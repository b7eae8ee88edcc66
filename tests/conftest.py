"""One thread for each process of the tests and for what it starts: on small tensors more only get in the way."""

import atexit
import os
import shutil
import tempfile

# What is remembered from run to run is the tests' own.
os.environ["XDG_CACHE_HOME"] = CACHE = tempfile.mkdtemp(prefix="semiseg-tests-")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
