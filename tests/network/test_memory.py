"""Scratch memory is at most 4 MiB for a thread, for any T and B. Weights lie where huge pages are possible."""

import mmap
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import usable

import lstmkernel as lk
from lstmkernel.backends import memory
from lstmkernel.workbench.shapes import GRID

C_NAMES = [name for name in usable() if name.startswith("c:")]
MOST = 4 << 20


@pytest.mark.parametrize("name", C_NAMES)
def test_workspace_of_a_thread(name, dtype):
    from lstmkernel.backends.c import calls

    sizes = {(shape.I, shape.H, 0) for shape in GRID} | {(1, 1, 0), (7, 2048, 0), (5, 1000, 999)}
    for I, H, P in sizes:
        w_ih, w_hh = np.zeros((4 * H, I), dtype), np.zeros((4 * H, P or H), dtype)
        w_hr = np.zeros((P, H), dtype) if P else None
        backend = lk.backends.get(name)
        weights = backend.pack_lstm([[backend.pack_layer(w_ih, w_hh, np.zeros(4 * H, dtype), w_hr)]])
        for T in (1, 33, 10**7):
            for B in (1, 5, 96, 97, 10**6):
                for threads in (1, 2, 7):
                    call = calls._call(weights.native, (T, B, I), (B * I, I, B * H, H), B, slice(0, T), threads)
                    assert calls.lib.lk_lstm_workspace(call) <= MOST * threads, (I, H, P, T, B, threads)


def test_workspace_of_a_thread_of_numba(dtype):
    pytest.importorskip("numba")
    from lstmkernel.backends.numba.kernels import layout
    from lstmkernel.backends.numba.weights import lanes_of

    dtype = np.dtype(dtype)
    for I, H, P in {(shape.I, shape.H, 0) for shape in GRID} | {(1, 1, 0), (7, 2048, 0), (5, 1000, 999)}:
        for T in (1, 33, 10**7):
            for B in (1, 5, 96, 97, 10**6):
                assert layout.workspace(I, H, P, T, B, lanes_of(dtype), dtype.itemsize) <= MOST, (I, H, P, T, B)


def mapping_of(address):
    """The lines of /proc/self/smaps about the region in which an address lies."""
    for region in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)[1:]:
        start, end = (int(number, 16) for number in region.split(" ", 1)[0].split("-"))
        if start <= address < end:
            return region.splitlines()
    raise AssertionError(f"{address:x} is not mapped")


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="a system without huge pages")
def test_weights_may_have_huge_pages():
    """Only private memory has them: in shared memory, madvise succeeds without any effect."""
    weights = memory.empty_weights((memory.HUGE_PAGE // 4,), np.float32)
    assert weights.ctypes.data % memory.CACHE_LINE == 0
    lines = mapping_of(weights.ctypes.data)
    assert lines[0].split()[1] == "rw-p", lines[0]
    flags = next(line.split()[1:] for line in lines if line.startswith("VmFlags"))
    assert "hg" in flags, flags


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="says what is private where there is /proc")
def test_memory_is_private_without_huge_pages_too(monkeypatch):
    """If it were shared, a child of fork would write to its parent's weights and tapes."""
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    place = np.frombuffer(*memory.mapped(1000))
    assert mapping_of(place.ctypes.data)[0].split()[1] == "rw-p"
