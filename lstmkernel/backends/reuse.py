"""Large arrays that come and go in every training step use the memory of earlier ones.

The system clears each page of new memory when it is first touched. That would be a tenth of a training step.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends.large import fill
from lstmkernel.backends.memory import mapped
from lstmkernel.backends.packing import Array, empty

#: Smaller arrays come from the allocator, which keeps freed memory of that size itself.
LEAST_BYTES = 1 << 18
#: At most this many bytes wait to be used again.
MOST_SPARE = 1 << 28

#: Waiting memory as (bytes, memory), by order of arrival, the oldest first. An array may end on any thread at any time,
#: also while these functions run, so they only use single operations of a dict: those are atomic.
_spare: dict[int, tuple[int, Any]] = {}
_arrivals = itertools.count()


def empty_reused(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Like np.empty, aligned to a cache line."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    if count * dtype.itemsize < LEAST_BYTES:
        return empty(shape, dtype)
    size = _whole(count * dtype.itemsize)
    memory = _take(size)
    if memory is None:
        memory = mapped(size)
    place = np.frombuffer(*memory)
    weakref.finalize(place, _keep, size, memory).atexit = False
    return place.view(dtype)[:count].reshape(shape)


def copied(array: Array) -> Array:
    copy = empty_reused(array.shape, array.dtype)
    fill(copy, array)
    return copy


def _whole(size: int) -> int:
    """Rounded up by at most an eighth, so that the memory fits the next batch, which has about the same size."""
    step = 1 << (size.bit_length() - 4)
    return -(-size // step) * step


def _take(size: int) -> Any | None:
    """Memory of that size: the newest, because the caches may still hold it."""
    for arrival, (spare, _) in reversed(list(_spare.items())):
        if spare == size and (found := _spare.pop(arrival, None)):
            return found[1]
    return None


def _keep(size: int, memory: Any) -> None:
    _spare[next(_arrivals)] = size, memory
    waiting = list(_spare.items())
    excess = sum(spare for _, (spare, _) in waiting) - MOST_SPARE
    for arrival, (spare, _) in waiting:  # the oldest first: nobody asks for those sizes any more
        if excess <= 0:
            break
        _spare.pop(arrival, None)
        excess -= spare
