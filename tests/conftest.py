"""One thread for each of the processes of the tests and of what they start: on small tensors more only get in the way."""

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
