"""Every allocation of every public operation fails once: an error, and nothing has changed.

An allocator that can be told to fail is loaded before the C library's, in a process of its own. With
PYTHONMALLOC=malloc, Python's own small objects come from it, too.
"""

import ctypes
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, run_python, usable
from operations import KINDS, check, operations

ALLOCATOR = ROOT / "tests" / "c" / "failing_allocations.c"

CHILD = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import test_failing_allocations
test_failing_allocations.every_allocation_fails(*sys.argv[3:5], Path(sys.argv[5]))
"""


@pytest.fixture(scope="module")
def allocator(tmp_path_factory):
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None or platform.libc_ver()[0] != "glibc":
        pytest.skip("needs Linux with the GNU C library, and a C compiler")
    library = tmp_path_factory.mktemp("allocator") / "failing_allocations.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, ALLOCATOR, "-ldl"], check=True)
    return library


#: Others' code ends the process where it finds no memory: safetensors, NumPy's random numbers, take_along_axis.
NOT_TRIED = ("save", "load", "made", "call with a mask")


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "kind"), [*(("auto", kind) for kind in KINDS), ("numba", "LSTM")])
def test_what_finds_no_memory_has_changed_nothing(allocator, backend, kind, tmp_path):
    if backend not in ("auto", *usable()):
        pytest.skip(f"{backend} cannot run here")
    environment = {"LD_PRELOAD": str(allocator), "PYTHONMALLOC": "malloc", "LSTMKERNEL_NUM_THREADS": "2"}
    here = Path(__file__).parent
    run_python(CHILD, str(here), str(here.parent), kind, backend, str(tmp_path), env=environment, timeout=600)


def every_allocation_fails(kind: str, backend: str, folder: Path) -> None:
    """In the child."""
    library = ctypes.CDLL(None)
    arm, disarm = library.fail_allocation, library.fail_no_allocation
    arm.argtypes, disarm.restype = [ctypes.c_long], ctypes.c_long

    def attempt(act, place):
        arm(place)
        try:
            act()
        except Exception:  # a MemoryError; NumPy and Python have other errors, too
            disarm()
            return True
        finally:
            allocations = disarm()
        return None if allocations < place else False

    for name, make in operations(kind, backend, folder).items():
        if name not in NOT_TRIED:
            print(name, flush=True)  # seen if the child crashes
            check(name, make, attempt)
