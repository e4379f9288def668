"""C kernels with the sizes of one layer as constants, compiled at run time.

Their source is the package's own (csrc/tables/specialised.c). The compiled code is kept in the cache on disk.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.contract import Backend, BackendError
from lstmkernel.host import compile_c, disk_cache

#: Follows the instruction set in the name of a backend that has such kernels.
SPECIALISED = " special"

#: input_size, hidden_size and proj_size of a layer.
Sizes = tuple[int, int, int]

#: Vector header and target region of each instruction set whose results are bit-identical.
TARGETS = {
    "avx512": ("vec/avx512.h", 'LK_TARGET_BEGIN("avx512f")', "LK_TARGET_END"),
    "avx2": ("vec/avx2.h", 'LK_TARGET_BEGIN("avx2,fma,f16c")', "LK_TARGET_END"),
    "neon": ("vec/neon.h", "", ""),
}
#: As csrc/build.py has them. No warnings: the table leaves out many functions of the headers.
FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=off", "-fno-wrapv", "-fvisibility=hidden", "-w")

_SYMBOL = "lk_specialised"


class Kernels(NamedTuple):
    """Kernels for one layer's sizes."""

    table: Any  # const lk_kernels *
    seconds: float  # that the compiler took; 0 where they were in the cache
    code: bytes  # the shared library


def backend(isa: str, dtype: np.dtype[Any], layers: Iterable[Sizes]) -> tuple[Backend, float]:
    """The C backend with kernels for layers of these sizes, and the seconds that the compiler took.

    Raises BackendError, or CompileError with the compiler's own message.
    """
    from lstmkernel.backends.c import calls

    made = {sizes: get(isa, dtype, sizes) for sizes in layers}
    tables = {sizes: kernels.table for sizes, kernels in made.items()}
    name = f"c:{isa}{SPECIALISED}"
    return calls.backend(isa, tables)._replace(name=name), sum(kernels.seconds for kernels in made.values())


def get(isa: str, dtype: np.dtype[Any], sizes: Sizes) -> Kernels:
    """Kernels for a layer of these sizes: from the cache, or compiled now. Raises as ``backend``."""
    if isa not in TARGETS:
        raise BackendError(f"no specialised kernels for {isa!r}, only for {', '.join(TARGETS)}")
    I, H, P = sizes
    key = disk_cache.digest(sources_key(), compile_c.compiler_key(), FLAGS, isa, dtype.name, sizes)
    return _found_or_compiled(f"{isa}-{dtype.name}-{I}-{H}-{P}-{key}.so", isa, dtype, sizes)


def compiled(isa: str, dtype: np.dtype[Any], sizes: Sizes) -> bytes:
    """The shared library, compiled now. Raises CompileError."""
    vectors, begin, end = TARGETS[isa]
    I, H, P = sizes
    options = [*FLAGS, f"-I{sources()}", f"-DLK_INPUT_SIZE={I}", f"-DLK_HIDDEN_SIZE={H}", f"-DLK_PROJ_SIZE={P}"]
    options += [f'-DLK_VECTORS="{vectors}"', f"-DLK_REGION_BEGIN={begin}", f"-DLK_REGION_END={end}"]
    options += ["-DLK_F32"] if dtype == np.float32 else []
    return compile_c.library(sources() / "tables" / "specialised.c", options).code


def sources() -> Path:
    """The directory of the C sources: in the package where it was installed, beside it in a clone."""
    package = Path(__file__).parents[2]
    for place in (package / "csrc", package.parent / "csrc"):
        if (place / "tables" / "specialised.c").exists():
            return place
    raise BackendError("the C sources are missing from this installation")


@cache
def sources_key() -> str:
    """Changes when the sources change."""
    files = sorted([*sources().rglob("*.h"), sources() / "tables" / "specialised.c"])
    return disk_cache.digest(*(file.read_bytes() for file in files))


@cache
def _found_or_compiled(name: str, isa: str, dtype: np.dtype[Any], sizes: Sizes) -> Kernels:
    """name: of the cache's entry."""
    if found := disk_cache.find("c", name):
        try:
            return Kernels(_table(ctypes.CDLL(str(found.path))), 0.0, found.content)
        except (OSError, ValueError):  # made for another machine, or the disk's files may not be run: compile it again
            pass
    start = perf_counter()
    code = compiled(isa, dtype, sizes)
    seconds = perf_counter() - start
    kernels = Kernels(_table(compile_c.load(code)), seconds, code)
    disk_cache.keep("c", name, code)
    return kernels


def _table(library: ctypes.CDLL) -> Any:
    from lstmkernel.backends.c._kernels import ffi

    return ffi.cast("const lk_kernels *", ctypes.addressof(ctypes.c_char.in_dll(library, _SYMBOL)))
