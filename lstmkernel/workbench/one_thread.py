"""One thread against one thread: NumPy's BLAS is held to one, which it decides when it is loaded."""

from __future__ import annotations

import os
import sys

#: What OpenBLAS, OpenMP, MKL and Accelerate read when NumPy is imported.
VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def is_set() -> bool:
    """Whether the environment holds every BLAS to one thread."""
    return all(os.environ.get(name) == "1" for name in VARIABLES)


def ensure() -> None:
    """Start this process's program again, once, with the variables set where they are not: NumPy is loaded already."""
    if not is_set():
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | dict.fromkeys(VARIABLES, "1"))
