"""Arrays as the kernels take them: addresses, and this thread's scratch memory."""

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


class _Scratch(threading.local):
    """Kernels own no memory, and a model is shared by threads."""

    size, place = 0, (empty((0,), np.uint8), 0)

    def of(self, size: int) -> tuple[Array, int]:
        """At least so many bytes, and their address. The caller holds on: a signal handler may run a larger model."""
        if self.size < size:
            memory = empty((size,), np.uint8)
            self.place, self.size = (memory, address(memory)), size
        return self.place


scratch = _Scratch()
