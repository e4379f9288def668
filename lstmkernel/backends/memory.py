"""Memory for packed weights: side by side, in huge pages if the system has them.

A step of one stream reads every weight once. With pages of 4 KiB the CPU translates an address every 64 cache lines,
and the prefetcher stops at the end of each page. With pages of 2 MiB both happen 512 times less often.
"""

from __future__ import annotations

import mmap
import threading

import numpy as np
from numpy.typing import DTypeLike, NDArray

CACHE_LINE = 64  # bytes; a vector load that crosses a line costs two loads
HUGE_PAGE = 1 << 21

_lock = threading.Lock()
#: The free rest of the newest region. Arrays keep their region alive; the last one to go frees it.
_rest = np.empty(0, np.uint8)


def empty_weights(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """Like np.empty, aligned to a cache line."""
    global _rest
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    whole_lines = -(-size // CACHE_LINE) * CACHE_LINE
    with _lock:
        if len(_rest) < whole_lines:
            _rest = _region(whole_lines)
        place, _rest = _rest[:size], _rest[whole_lines:]
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
