"""Large arrays that come and go in every training step, in memory that arrays before them had.

The system clears each page of new memory when it is first touched, which would be a tenth of a training step.
"""

from __future__ import annotations

import mmap
import weakref
from collections import defaultdict, deque

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends.memory import HUGE_PAGE, in_whole_pages, mapped
from lstmkernel.backends.packing import Array, empty

#: Smaller arrays come from the allocator, which has such memory at hand.
LEAST_BYTES = 1 << 18
#: No more than so much waits to be used again.
MOST_SPARE = 1 << 28

#: By length. Deques, for an array's end may come on any thread at any time, even in the midst of these functions.
_spare: defaultdict[int, deque[mmap.mmap]] = defaultdict(deque)


def empty_reused(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Like np.empty, aligned to a cache line."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size < LEAST_BYTES:
        return empty(shape, dtype)
    length = (-(-size // HUGE_PAGE) + 1) * HUGE_PAGE
    try:
        memory = _spare[length].pop()
    except IndexError:
        memory = mapped(length)
    region = in_whole_pages(memory)
    weakref.finalize(region.base, _keep, length, memory).atexit = False
    return region[:size].view(dtype).reshape(shape)


def _keep(length: int, memory: mmap.mmap) -> None:
    if sum(size * len(spare) for size, spare in list(_spare.items())) + length <= MOST_SPARE:
        _spare[length].append(memory)
