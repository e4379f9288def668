"""C kernels with the sizes of one layer as constants, made at run time by the system's compiler.

The sources are the package's own (csrc/tables/specialised.c); what the compiler makes of them is kept in the cache.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.contract import BackendError
from lstmkernel.host import disk_cache as disk

#: input_size, hidden_size and proj_size of a layer.
Sizes = tuple[int, int, int]

#: Vector header and target region of the instruction sets that one answer is promised for.
TARGETS = {
    "avx512": ("vec/avx512.h", 'LK_TARGET_BEGIN("avx512f")', "LK_TARGET_END"),
    "avx2": ("vec/avx2.h", 'LK_TARGET_BEGIN("avx2,fma")', "LK_TARGET_END"),
    "neon": ("vec/neon.h", "", ""),
}
#: Those of csrc/build.py, and no warnings of functions that the table leaves out.
FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=off", "-fno-wrapv", "-fvisibility=hidden", "-fPIC", "-shared", "-w")

_SYMBOL = "lk_specialised"
_libraries: list[Any] = []  # code that is in use must stay


class Specialised(NamedTuple):
    """Kernels for one layer's sizes."""

    kernels: Any  # const lk_kernels *
    seconds: float  # that the compiler took; 0 where they were in the cache
    code: bytes  # the shared library


_made: dict[str, Specialised] = {}  # by the name of the cache's entry


def compiler() -> list[str]:
    """The C compiler's command: ``CC``, or the first of cc, gcc and clang. Raises BackendError where there is none."""
    if chosen := os.environ.get("CC", "").strip():
        try:
            command = shlex.split(chosen)
        except ValueError as error:
            raise BackendError(f"no C compiler: CC={chosen!r}: {error}") from None
        if shutil.which(command[0]):
            return command
        raise BackendError(f"no C compiler: CC={chosen!r} is not a program")
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise BackendError("no C compiler: neither cc, gcc nor clang is a program here, and CC is not set")


def compiler_key() -> tuple[str, ...]:
    """What tells one compiler from another, without starting it."""
    command = compiler()
    path = os.path.realpath(shutil.which(command[0]) or command[0])
    found = os.stat(path)
    return (*command[1:], path, str(found.st_size), str(found.st_mtime_ns))


def sources() -> Path:
    """The directory of the C sources: in the package where it was installed, beside it in a clone."""
    package = Path(__file__).parents[2]
    for place in (package / "csrc", package.parent / "csrc"):
        if (place / "tables" / "specialised.c").exists():
            return place
    raise BackendError("the C sources are not here: this installation has none")


@cache
def sources_key() -> str:
    """Changes when they do."""
    files = sorted([*sources().rglob("*.h"), sources() / "tables" / "specialised.c"])
    return disk.digest(*(file.read_bytes() for file in files))


def get(isa: str, dtype: np.dtype[Any], sizes: Sizes) -> Specialised:
    """Kernels for a layer of those sizes: from the cache, or compiled now.

    Raises BackendError, with the compiler's own words where it refused.
    """
    if isa not in TARGETS:
        raise BackendError(f"no specialised kernels for {isa!r}, only for {', '.join(TARGETS)}")
    I, H, P = sizes
    key = disk.digest(sources_key(), compiler_key(), FLAGS, isa, dtype.name, sizes)
    name = f"{isa}-{dtype.name}-{I}-{H}-{P}-{key}.so"
    if name not in _made:
        _made[name] = _from_disk(name) or _from_compiler(name, isa, dtype, sizes)
    return _made[name]


def _from_disk(name: str) -> Specialised | None:
    found = disk.find("c", name)
    if found is None:
        return None
    try:
        return Specialised(_load(found.path), 0.0, found.content)
    except OSError:  # whole, and yet not for this machine, or on a disk that programs may not run from
        return None


def _from_compiler(name: str, isa: str, dtype: np.dtype[Any], sizes: Sizes) -> Specialised:
    start = perf_counter()
    try:
        code = _compile(isa, dtype, sizes)
        seconds = perf_counter() - start
        kernels = _load_from_memory(code)
    except OSError as error:
        raise BackendError(f"{shlex.join(compiler())} made nothing that can be loaded: {error}") from error
    disk.keep("c", name, code)
    return Specialised(kernels, seconds, code)


def _compile(isa: str, dtype: np.dtype[Any], sizes: Sizes) -> bytes:
    vectors, begin, end = TARGETS[isa]
    named = zip(("LK_INPUT_SIZE", "LK_HIDDEN_SIZE", "LK_PROJ_SIZE"), sizes, strict=True)
    defines = [f"-D{name}={size}" for name, size in named]
    defines += [f'-DLK_VECTORS="{vectors}"', f"-DLK_REGION_BEGIN={begin}", f"-DLK_REGION_END={end}"]
    defines += ["-DLK_F32"] if dtype == np.float32 else []
    with tempfile.TemporaryDirectory(prefix="lstmkernel-") as place:
        output = os.path.join(place, "specialised.so")
        source = str(sources() / "tables" / "specialised.c")
        command = [*compiler(), *FLAGS, f"-I{sources()}", *defines, source, "-o", output]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            raise BackendError(f"{shlex.join(command)}\nended with status {done.returncode}:\n{done.stderr.strip()}")
        return Path(output).read_bytes()


def _load(path: Path) -> Any:
    from lstmkernel.backends.c._kernels import ffi

    library = ctypes.CDLL(str(path))
    _libraries.append(library)
    return ffi.cast("const lk_kernels *", ctypes.addressof(ctypes.c_char.in_dll(library, _SYMBOL)))


def _load_from_memory(code: bytes) -> Any:
    """Through a file that is gone again when its code is loaded."""
    with tempfile.TemporaryDirectory(prefix="lstmkernel-") as place:
        path = Path(place) / "specialised.so"
        path.write_bytes(code)
        return _load(path)
