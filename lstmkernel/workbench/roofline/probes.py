"""Measure what one core can do at most, with probes.c and dot_probe.c, which are compiled when they are needed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends import BackendError
from lstmkernel.backends.c.specialised import sources
from lstmkernel.backends.packing import Array, empty
from lstmkernel.host import compile_c

#: The compiler's flags for each instruction set of the C kernels.
FLAGS = {"avx512": ("-mavx512f", "-mfma"), "avx2": ("-mavx2", "-mfma"), "neon": (), "generic": ()}

#: What dot_probe.c is compiled with for each csrc/tables/<name>_i8a16.c and _i8a8.c: the header of integers, the target
#: region, and what the table defines. "generic" is left out: there, how fast products are is the compiler's choice.
INTEGERS = {
    "avx512_vnni": ("vec/dot_avx512.h", "LK_AVX512_VNNI", ("LK_VNNI",)),
    "avx512": ("vec/dot_avx512.h", "LK_AVX512_DOT", ()),
    "avx2_vnni": ("vec/dot_avx2.h", "LK_AVX2_VNNI", ("LK_VNNI",)),
    "avx2": ("vec/dot_avx2.h", "LK_AVX2_DOT", ()),
    "neon_dotprod": ("vec/dot_neon.h", "LK_NEON_DOTPROD", ("LK_DOTPROD",)),
    "neon": ("vec/dot_neon.h", None, ()),
}

#: A measurement is the best of so many tries, each of so many bytes read or steps of multiply-adds.
TRIES, BYTES_A_TRY, STEPS_A_TRY = 5, 1 << 26, 1 << 15
#: Memory is read from one place, or from several at once: the fastest way counts.
STREAMS = (1, 2, 4, 8)
#: A smaller working set is also in L1, but the loop around it would take part of the time.
LEAST_BYTES = 1 << 14
#: Vectors a second that no core reaches: 4 a cycle at 10 GHz. A loop that the compiler removed would reach more.
MOST_VECTORS = 4e10
#: Products of 8-bit weights in a vector of the widest.
PRODUCTS_A_VECTOR = 64


class Probes:
    """The measurements for one instruction set and dtype, in vectors of so many bytes."""

    def __init__(self, isa: str, dtype: DTypeLike, vector_bytes: int) -> None:
        self._dtype = np.dtype(dtype)
        self._vector_bytes = vector_bytes
        self._library = compiled(isa, "float" if self._dtype.itemsize == 4 else "double", vector_bytes)

    def flops(self) -> float:
        """Floating-point operations a second; a fused multiply-add counts as two."""
        seconds = least_seconds(lambda: self._library.fma_probe(STEPS_A_TRY, 0.5, 1))
        vectors = plausible(STEPS_A_TRY * self._library.fma_chains() / seconds)
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
        return plausible(count * passes / seconds) * self._vector_bytes


class DotProbe:
    """The measurement for the kernels of 8-bit weights of that name, and activations of 16 or 8 bits."""

    def __init__(self, kernels: str, bits: int) -> None:
        self._library = compiled_dots(kernels, bits)
        # Weights and activations, and sums of 0, for the widest vectors and the most sums.
        self._arrays: list[Array] = [np.ones(64, np.uint8), np.ones(64, np.uint8), np.zeros(16 * 16, np.int32)]

    def total(self, steps: int) -> int:
        """The sum of all products of so many steps; all bytes are 1."""
        return int(self._library.dot_probe(steps, *(array.ctypes.data for array in self._arrays)))

    def products(self) -> int:
        """Of a weight and an activation, of one step."""
        return int(self._library.dot_products())

    def operations(self) -> float:
        """Operations a second; a product that is added to a sum counts as two."""
        seconds = least_seconds(lambda: self.total(STEPS_A_TRY))
        products = STEPS_A_TRY * self.products() / seconds
        plausible(products / PRODUCTS_A_VECTOR)
        return 2 * products


def plausible(vectors: float) -> float:
    """The same vectors a second. Raises BackendError where there are too many."""
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


def compiled_dots(kernels: str, bits: int) -> ctypes.CDLL:
    """dot_probe.c for those kernels, of INTEGERS. Raises CompileError."""
    header, target, defined = INTEGERS[kernels]
    begin, end = (f"LK_TARGET_BEGIN({target})", "LK_TARGET_END") if target else ("", "")
    options = ["-std=gnu11", "-O3", f"-I{sources()}", f"-DLK_I8={bits}", *(f"-D{name}" for name in defined)]
    options += [f'-DLK_INTEGERS="{header}"', f"-DLK_REGION_BEGIN={begin}", f"-DLK_REGION_END={end}"]
    library = compile_c.load(compile_c.library(Path(__file__).with_name("dot_probe.c"), options).code)
    library.dot_products.restype = library.dot_probe.restype = ctypes.c_int64
    library.dot_probe.argtypes = (ctypes.c_int64, *(ctypes.c_void_p,) * 3)
    return library
