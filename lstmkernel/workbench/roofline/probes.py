"""Measure what one core can do at most, with probes.c, which is compiled when it is needed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends import BackendError
from lstmkernel.backends.packing import empty
from lstmkernel.host import compile_c

#: The compiler's flags for each instruction set of the C kernels.
FLAGS = {"avx512": ("-mavx512f", "-mfma"), "avx2": ("-mavx2", "-mfma"), "neon": (), "generic": ()}

#: A measurement is the best of so many tries, each of so many bytes read or steps of multiply-adds.
TRIES, BYTES_A_TRY, STEPS_A_TRY = 5, 1 << 26, 1 << 15
#: Memory is read from one place, or from several at once: the fastest way counts.
STREAMS = (1, 2, 4, 8)
#: A smaller working set is also in L1, but the loop around it would take part of the time.
LEAST_BYTES = 1 << 14
#: Vectors a second that no core reaches: 4 a cycle at 10 GHz. A loop that the compiler removed would reach more.
MOST_VECTORS = 4e10


class Probes:
    """The measurements for one instruction set and dtype, in vectors of so many bytes."""

    def __init__(self, isa: str, dtype: DTypeLike, vector_bytes: int) -> None:
        self._dtype = np.dtype(dtype)
        self._vector_bytes = vector_bytes
        self._library = compiled(isa, "float" if self._dtype.itemsize == 4 else "double", vector_bytes)

    def flops(self) -> float:
        """Floating-point operations a second; a fused multiply-add counts as two."""
        seconds = least_seconds(lambda: self._library.fma_probe(STEPS_A_TRY, 0.5, 1))
        vectors = self._plausible(STEPS_A_TRY * self._library.fma_chains() / seconds)
        return 2 * vectors * self._vector_bytes / self._dtype.itemsize

    def read(self, size: int) -> float:
        """Bytes a second from a working set of about this many bytes, read again and again."""
        step = STREAMS[-1] * self._vector_bytes
        size = -(-max(size, LEAST_BYTES) // step) * step
        values = empty((size // self._dtype.itemsize,), self._dtype)  # aligned as packed weights are
        values[:] = 1
        start, count, passes = values.ctypes.data, size // self._vector_bytes, -(-BYTES_A_TRY // size)
        probe = self._library.read_probe
        seconds = min(least_seconds(partial(probe, streams, start, count, passes)) for streams in STREAMS)
        return self._plausible(count * passes / seconds) * self._vector_bytes

    def _plausible(self, vectors: float) -> float:
        if vectors > MOST_VECTORS:
            raise BackendError(f"probes.c: {vectors:.1e} vectors a second: the compiler has removed the loop")
        return vectors


def least_seconds(call: Callable[[], object]) -> float:
    """Seconds of the fastest of TRIES calls."""
    times = []
    for _ in range(TRIES):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)


def compiled(isa: str, real: str, vector_bytes: int) -> ctypes.CDLL:
    """probes.c for that instruction set. real: "float" or "double". Raises CompileError."""
    source = Path(__file__).with_name("probes.c")
    options = ["-O3", "-ffp-contract=fast", *FLAGS[isa], f"-DREAL={real}", f"-DVECTOR_BYTES={vector_bytes}"]
    library = compile_c.load(compile_c.library(source, options).code)
    number = ctypes.c_float if real == "float" else ctypes.c_double
    library.fma_chains.restype = ctypes.c_int64
    library.fma_probe.restype = library.read_probe.restype = number
    library.fma_probe.argtypes = (ctypes.c_int64, number, number)
    library.read_probe.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    return library
