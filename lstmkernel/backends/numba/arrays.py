"""What kernels are given instead of arrays: addresses; and scratch memory for each thread."""

from __future__ import annotations

import threading

import numpy as np
from _cffi_backend import FFI  # type: ignore[import-untyped]  # cffi's compiled half, without its parser

from lstmkernel.backends.packing import Array, empty

ffi = FFI()
ADDRESS = ffi.typeof("intptr_t")


def address(array: Array) -> int:
    if array.flags.c_contiguous:  # twice as fast as ctypes.data
        return int(ffi.cast(ADDRESS, ffi.from_buffer(array)))
    return array.ctypes.data


def addresses(*arrays: Array | None) -> list[int]:
    """0 for None."""
    return [0 if array is None else address(array) for array in arrays]


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
