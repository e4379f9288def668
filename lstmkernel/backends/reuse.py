"""Large arrays that come and go in every training step, in memory that arrays before them had.

The system clears each page of new memory when it is first touched, which would be a tenth of a training step.
"""

from __future__ import annotations

import weakref
from collections import defaultdict, deque
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends.memory import mapped
from lstmkernel.backends.packing import Array, empty

#: Smaller arrays come from the allocator, which has such memory at hand.
LEAST_BYTES = 1 << 18
#: No more than so much waits to be used again.
MOST_SPARE = 1 << 28

#: By size. Deques, for an array's end may come on any thread at any time, even in the midst of these functions.
_spare: defaultdict[int, deque[Any]] = defaultdict(deque)


def empty_reused(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Like np.empty, aligned to a cache line."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size < LEAST_BYTES:
        return empty(shape, dtype)
    try:
        memory = _spare[size].pop()
    except IndexError:
        memory = mapped(size)
    place = np.frombuffer(*memory)
    weakref.finalize(place, _keep, size, memory).atexit = False
    return place.view(dtype).reshape(shape)


def copied(array: Array) -> Array:
    copy = empty_reused(array.shape, array.dtype)
    copy[...] = array
    return copy


def _keep(size: int, memory: Any) -> None:
    if sum(each * len(spare) for each, spare in list(_spare.items())) + size <= MOST_SPARE:
        _spare[size].append(memory)
