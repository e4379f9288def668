"""Numba's kernels on disk: those of several processes, loaded by one, call no function of each other."""

import pytest
from helpers import run_python

pytest.importorskip("numba")

#: Kernels whose functions have the same name, types and number in each process, and another constant.
KERNELS = """
import sys
from lstmkernel.backends.numba.compiled import compiled
from lstmkernel.backends.numba.jit import internal, never_inline

def kernel(factor):
    @internal
    def times(n):
        never_inline()
        return n * factor

    def run(n):
        return times(n)

    return compiled(f"times_{factor}", run)

print(*(kernel(int(factor))(5) for factor in sys.argv[1:]))
"""


def test_kernels_of_two_processes_in_a_third(tmp_path):
    def printed(*factors: str) -> str:
        return run_python(KERNELS, *factors, env={"LSTMKERNEL_CACHE_DIR": str(tmp_path)}).stdout.strip()

    assert [printed("2"), printed("3")] == ["10", "15"]
    assert len(list(tmp_path.rglob("times_*.bin"))) == 2, "the third process must load both"
    assert printed("2", "3") == "10 15"
    assert printed("3", "2") == "15 10"
