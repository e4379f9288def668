"""What one core can do at most, measured: probes.c, compiled when it is asked for."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import cffi  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends import BackendError
from lstmkernel.backends.c.specialised import compiler
from lstmkernel.backends.packing import empty

#: The compiler's flags for each instruction set of the C kernels.
FLAGS = {"avx512": ("-mavx512f", "-mfma"), "avx2": ("-mavx2", "-mfma"), "neon": (), "generic": ()}

TRIES = 5  # the best one counts
STREAMS = (1, 2, 4, 8)
LEAST_BYTES = 1 << 14  # smaller working sets are in L1 as this one is, and the loop around them would show
BYTES_A_TRY = 1 << 26
STEPS_A_TRY = 1 << 15

#: No core does more vectors a second than 4 a cycle at 10 GHz; a loop that the compiler took out would.
MOST_VECTORS = 4e10


class Probes:
    """Of one instruction set and dtype, in vectors of so many bytes."""

    def __init__(self, isa: str, dtype: DTypeLike, vector_bytes: int) -> None:
        self._dtype = np.dtype(dtype)
        self._vector_bytes = vector_bytes
        self._ffi, self._lib = compiled(isa, "float" if self._dtype.itemsize == 4 else "double", vector_bytes)

    def flops(self) -> float:
        """Floating-point operations a second in fused multiply-adds, which are two each."""
        seconds = least_seconds(lambda: self._lib.fma_probe(STEPS_A_TRY, 0.5, 1))
        vectors = self._plausible(STEPS_A_TRY * self._lib.fma_chains() / seconds)
        return 2 * vectors * self._vector_bytes / self._dtype.itemsize

    def read(self, size: int) -> float:
        """Bytes a second from a working set of about that many bytes, read again and again."""
        step = STREAMS[-1] * self._vector_bytes
        size = -(-max(size, LEAST_BYTES) // step) * step
        values = empty((size // self._dtype.itemsize,), self._dtype)  # as the packed weights are
        values[:] = 1
        start, count, passes = self._ffi.from_buffer(values), size // self._vector_bytes, -(-BYTES_A_TRY // size)
        probe = self._lib.read_probe
        seconds = min(least_seconds(partial(probe, streams, start, count, passes)) for streams in STREAMS)
        return self._plausible(count * passes / seconds) * self._vector_bytes

    def _plausible(self, vectors: float) -> float:
        if vectors > MOST_VECTORS:
            raise BackendError(f"probes.c: {vectors:.1e} vectors a second: the compiler has taken the loop out")
        return vectors


def least_seconds(call: Callable[[], object]) -> float:
    """Of TRIES calls."""
    times = []
    for _ in range(TRIES):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)


def compiled(isa: str, real: str, vector_bytes: int) -> tuple[cffi.FFI, Any]:
    """probes.c for that instruction set, by the compiler that $CC names, or cc."""
    command = compiler()
    source = str(Path(__file__).with_name("probes.c"))
    ffi = cffi.FFI()
    ffi.cdef(
        f"int64_t fma_chains(void); {real} fma_probe(int64_t steps, {real} factor, {real} term);"
        f"{real} read_probe(int streams, const void *from, int64_t count, int64_t passes);"
    )
    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder) / "probes.so")
        flags = ["-O3", "-ffp-contract=fast", "-shared", "-fPIC", *FLAGS[isa]]
        definitions = [f"-DREAL={real}", f"-DVECTOR_BYTES={vector_bytes}"]
        try:
            subprocess.run([*command, *flags, *definitions, source, "-o", library], check=True)
        except subprocess.CalledProcessError:
            raise BackendError(f"{command[0]!r} could not compile {source} for {isa}; its message is above") from None
        return ffi, ffi.dlopen(library)
