"""One thread for each process of the tests and for what it starts: on small tensors more only get in the way."""

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
