"""What all tests have in common."""

import os

# As many processes as cores run tests: with a thread for each core in each of them, threads would wait for one another
# in loops, and a test would take many times as long. Set before any library is loaded; processes that tests start
# inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENMM_CPU_THREADS"):
        os.environ.setdefault(name, "1")
