"""Every allocation of every public operation fails once: an error, and nothing has changed.

An allocator that can be told to fail is loaded before the C library's, in a process of its own. With
PYTHONMALLOC=malloc, Python's own small objects come from it, too.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import traceback
from itertools import count
from pathlib import Path

import pytest
from helpers import ROOT, run_python, usable
from operations import KINDS, checker, operations, places

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


#: Others' code ends the process where it finds no memory: safetensors, NumPy's random numbers, take_along_axis. Each
#: place of these is tried in a child of its own, which may end so.
OTHERS_MAY_END_IT = ("save", "load", "made", "call with a mask")


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
        except BaseException:  # a MemoryError; NumPy and Python have other errors, safetensors a panic of Rust
            disarm()
            return True
        finally:
            allocations = disarm()
        return None if allocations < place else False

    for name, make in operations(kind, backend, folder).items():
        print(name, flush=True)  # seen if the child crashes
        at, tried = checker(name, make, attempt), places(name)
        if name in OTHERS_MAY_END_IT:
            at, tried = in_children(at, whole_file(make, folder)), count(1, 17)  # a child takes time: a sample
        for place in tried:
            if not at(place):
                break


def whole_file(make, folder: Path):
    """A function that says whether the folder's files are as before or after what was made."""

    def files():
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    operation = make()
    old = files()
    operation.act()
    new = files()

    def is_whole():
        now = files()
        for left in now.keys() - new.keys():  # a file that was to replace another
            (folder / left).unlink()
            del now[left]
        return now in (old, new)

    return is_whole


def in_children(at, is_whole):
    """``at``, but each place in a child of fork, which may end by a signal."""

    def at_in_child(place):
        child = os.fork()
        if not child:
            code = 2
            try:
                code = 0 if at(place) else 1
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code < 2, f"place {place}"
        assert code >= 0 or is_whole(), f"place {place}: a file is half written"
        return code != 1

    return at_in_child
