"""Machine code as objdump shows it: of the package's C kernels, of those compiled for a layer's sizes, and of Numba's.

The C library has most functions once for each file of csrc/tables, under the same name. In its list of symbols, the
name of a file stands before the local functions that come from there. A table's functions are those at their addresses.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np

from lstmkernel.backends import BackendError
from lstmkernel.backends.c import specialised
from lstmkernel.engine.precision import Precision
from lstmkernel.host import compile_c

#: A function's first line in a listing: its address and its name.
FUNCTION = re.compile(r"^([0-9a-f]+) <(.+)>:$")
#: A line of symbols: address, seven letters that say what it is, section, size, name.
_SYMBOL = re.compile(r"^([0-9a-f]+) (.{5})(.)(.) \S+\t[0-9a-f]+ *(.*)$")


def require_objdump() -> None:
    if shutil.which("objdump") is None:
        raise BackendError("--asm needs the program objdump, a part of GNU binutils")


def of_bytes(code: bytes) -> str:
    """The listing of a library or an object file."""
    with compile_c.as_file(code) as path:
        return _objdump("-d", "--no-show-raw-insn", path)


def of_table(isa: str, precision: Precision) -> str:
    """The listing of the functions of the package's C kernels. Raises BackendError where they cannot be told apart."""
    from lstmkernel.backends.c import _kernels, calls

    file = calls.source(isa, _dtype(precision)) or calls.source(isa, np.float32)  # which widened float16 weights take
    assert file is not None
    listing, symbols = _of_library(Path(str(_kernels.__file__)))
    if file not in symbols:
        raise BackendError(
            f"the C library does not say which of its functions are from {file}; it was stripped, or this system's "
            "libraries never say so"
        )
    return functions_at(listing, symbols[file])


def of_specialised(isa: str, precision: Precision, sizes: tuple[int, int, int]) -> str:
    """The listing of C kernels that were compiled for a layer of those sizes."""
    return of_bytes(specialised.get(isa, np.dtype(precision.weights), sizes).code)


def of_numba(kernel: str, precision: Precision) -> str | None:
    """The listing of the object file that is a part of the cache's entry; None where there is none."""
    from lstmkernel.backends.numba.jit_cache import DiskCache

    name, real = kernel, "float32" if precision.weights == "float16" else precision.weights  # they are widened
    if precision.is_int8:
        name, real = f"i8a{8 * np.dtype(precision.activations).itemsize}_forward", "float32"
    entry = DiskCache(f"{name}-{real}").content()
    return of_bytes(entry[entry.index(b"\x7fELF") :]) if entry and b"\x7fELF" in entry else None


def files_of(symbols: str) -> dict[str, set[int]]:
    """For each source file, the addresses of its local functions. symbols: what objdump --syms says."""
    files: dict[str, set[int]] = {}
    file = ""
    for line in symbols.splitlines():
        if not (found := _SYMBOL.match(line)):
            continue
        address, flags, debugging, kind, name = found.groups()
        if debugging + kind == "df":
            file = name
        elif kind == "F" and flags.startswith("l"):
            files.setdefault(file, set()).add(int(address, 16))
    return files


def functions_at(listing: str, addresses: set[int]) -> str:
    """The listing of the functions at those addresses."""
    lines, wanted = [], False
    for line in listing.splitlines():
        if found := FUNCTION.match(line):
            wanted = int(found[1], 16) in addresses
        if wanted:
            lines.append(line)
    return "\n".join(lines)


def _dtype(precision: Precision) -> str:
    """As backends/c/calls.py names tables."""
    return precision.activations if precision.is_int8 else precision.weights


@cache
def _of_library(path: Path) -> tuple[str, dict[str, set[int]]]:
    return _objdump("-d", "--no-show-raw-insn", path), files_of(_objdump("--syms", path))


def _objdump(*arguments: str | Path) -> str:
    try:
        done = subprocess.run(["objdump", *arguments], capture_output=True, text=True, errors="replace", check=True)
    except subprocess.CalledProcessError as error:
        raise BackendError(f"objdump: {error.stderr.strip()}") from None
    return done.stdout
