"""What kernels are given instead of arrays: addresses; and scratch memory for each thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
from _cffi_backend import FFI  # type: ignore[import-untyped]  # cffi's compiled half, without its parser

from lstmkernel.backends.packing import Array, empty

_FFI = FFI()
_ADDRESS = _FFI.typeof("intptr_t")

#: What compiled code takes where it needs a place in memory; None is address 0 (places.py).
Place = Array | int | None


def address(array: Array) -> int:
    if array.flags.c_contiguous:  # twice as fast as ctypes.data
        return int(_FFI.cast(_ADDRESS, _FFI.from_buffer(array)))
    return array.ctypes.data


def addresses(places: Iterable[Place]) -> list[int]:
    """Those of arrays; 0 for None."""
    return [address(place) if isinstance(place, np.ndarray) else place or 0 for place in places]


class _Scratch(threading.local):
    """The workspace of this thread's kernels. Kernels own no memory, and threads may share a model."""

    size, place = 0, (empty((0,), np.uint8), 0)

    def of(self, size: int) -> tuple[Array, int]:
        """At least so many bytes, and their address.

        The caller keeps the array: a signal handler may run a larger model, which replaces this place.
        """
        if self.size < size:
            memory = empty((size,), np.uint8)
            self.place, self.size = (memory, address(memory)), size
        return self.place


scratch = _Scratch()
