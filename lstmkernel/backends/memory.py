"""Memory for packed weights: side by side, in huge pages if the system has them.

A step of one stream reads every weight once. With pages of 4 KiB the CPU translates an address every 64 cache lines,
and the prefetcher stops at the end of each page. With pages of 2 MiB both happen 512 times less often.
"""

from __future__ import annotations

import mmap
from collections import deque

import numpy as np
from numpy.typing import DTypeLike, NDArray

CACHE_LINE = 64  # bytes; a vector load that crosses a line costs two loads
HUGE_PAGE = 1 << 21

#: The free rests of regions. Arrays keep their region alive; the last one to go frees it. Whoever needs memory takes a
#: rest for himself and puts back what is left: both are single operations of a deque, and need no lock. A lock would
#: stop a signal handler that loads weights, or a child of fork.
_rests: deque[NDArray[np.uint8]] = deque(maxlen=4)


def empty_weights(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """Like np.empty, aligned to a cache line."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    whole_lines = -(-size // CACHE_LINE) * CACHE_LINE
    try:
        rest = _rests.pop()
    except IndexError:
        rest = np.empty(0, np.uint8)
    if len(rest) < whole_lines:
        rest = _region(whole_lines)
    place = rest[:size]
    _rests.append(rest[whole_lines:])
    return place.view(dtype).reshape(shape)


def _region(size: int) -> NDArray[np.uint8]:
    """At least ``size`` bytes, in whole huge pages."""
    size = -(-size // HUGE_PAGE) * HUGE_PAGE
    return np.frombuffer(*mapped(size))


def mapped(size: int) -> tuple[mmap.mmap, type[np.uint8], int, int]:
    """``size`` bytes of new memory, as the arguments of np.frombuffer. They begin where a huge page can begin.

    They lie in huge pages if the system has them. A rest that is smaller than a huge page lies in small pages.
    """
    length = size + HUGE_PAGE  # one page more, because the mapping may begin anywhere
    if hasattr(mmap, "MAP_PRIVATE"):
        # Python maps shared memory by default. After a fork, a child would write to its parent's weights; and most
        # systems keep shared memory in small pages, whatever madvise asks for.
        memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        memory = mmap.mmap(-1, length)  # Windows, which has no fork
    start = -np.frombuffer(memory, np.uint8).ctypes.data % HUGE_PAGE
    if size >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE, start, size // HUGE_PAGE * HUGE_PAGE)
    return memory, np.uint8, size, start
