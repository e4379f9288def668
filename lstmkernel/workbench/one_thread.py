"""Hold NumPy's BLAS to one thread. BLAS reads the number of threads when it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

#: The variables that OpenBLAS, OpenMP, MKL and Accelerate read when NumPy is imported.
VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def is_set() -> bool:
    """Whether the environment says one thread to every BLAS."""
    return all(os.environ.get(name) == "1" for name in VARIABLES)


def ensure() -> None:
    """Set the variables where they are not set, and start this process's program again: NumPy is already loaded."""
    if not is_set():
        sys.stdout.flush()
        command, environment = [sys.executable, *sys.orig_argv[1:]], os.environ | dict.fromkeys(VARIABLES, "1")
        if os.name == "nt":  # there, execve ends this process at once, and who waits for it goes on
            sys.exit(subprocess.run(command, env=environment, check=False).returncode)
        os.execve(sys.executable, command, environment)
