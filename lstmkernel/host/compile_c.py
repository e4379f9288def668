"""Compile a C file at run time with the system's compiler, and load what it made."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class CompileError(RuntimeError):
    """There is no C compiler, or it refused, or what it made cannot be loaded; the message says which, and why."""


#: For a shared library, before the source and after it.
#:
#: On Windows, ctypes finds no library beside the one that it loads, so GCC's own is put in. And GCC aligns the stack to
#: 16 bytes there, but may keep vectors of 32 and 64 bytes on it with instructions that want them aligned (GCC's bug
#: 54412). The assembler (binutils 2.38 or newer) then writes those in their place that do not. csrc/build.py has the
#: same. Clang aligns the stack.
SHARED, LIBRARIES = ("-shared", "-fPIC"), ("-lm",)
SHARED_ON_WINDOWS, UNALIGNED = ("-shared", "-static-libgcc"), "-Wa,-muse-unaligned-vector-move"


class NoCompilerError(CompileError):
    """There is none. That stays so until one is installed."""


class Library(NamedTuple):
    """A shared library, not loaded."""

    code: bytes
    warnings: str  # of the compiler


def compiler() -> list[str]:
    """The C compiler's command: ``CC``, or the first of cc, gcc and clang. Raises NoCompilerError."""
    if chosen := os.environ.get("CC", "").strip():
        try:
            command = _words(chosen)
        except ValueError as error:
            raise NoCompilerError(f"no C compiler: CC={chosen!r}: {error}") from None
        if shutil.which(command[0]):
            return command
        raise NoCompilerError(f"no C compiler: CC={chosen!r} is not a program")
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise NoCompilerError("no C compiler: neither cc, gcc nor clang is a program here, and CC is not set")


def _words(command: str) -> list[str]:
    r"""As a shell would take them apart; on Windows, where paths have \, that is no escape."""
    if _posix():
        return shlex.split(command)
    return [word.strip('"') for word in shlex.split(command, posix=False)]


def compiler_key() -> tuple[str, ...]:
    """Differs between two compilers, and between two versions of one. The compiler is not started."""
    command = compiler()
    path = os.path.realpath(shutil.which(command[0]) or command[0])
    try:
        found = os.stat(path)
    except OSError as error:
        raise CompileError(f"no C compiler: {path}: {error.strerror}") from error
    return (*command[1:], path, str(found.st_size), str(found.st_mtime_ns))


def library(source: Path, options: Sequence[str]) -> Library:
    """Compile one C file to a shared library. Raises CompileError, with the compiler's own message."""
    command = compiler()
    try:
        with tempfile.TemporaryDirectory(prefix="lstmkernel-") as folder:
            output = Path(folder) / "library.so"
            before, after = _for_shared(command[0])
            command = [*command, *options, *before, str(source), "-o", str(output), *after]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode == 0:
                return Library(output.read_bytes(), done.stderr.rstrip())
    except OSError as error:  # no room for temporary files, for example
        raise CompileError(f"{shlex.join(compiler())} made nothing that can be loaded: {error}") from error
    raise CompileError(f"{shlex.join(command)}\nended with status {done.returncode}:\n{done.stderr.strip()}")


def _for_shared(program: str) -> tuple[list[str], list[str]]:
    """Options of a shared library, before the source and after it."""
    if _posix():
        return [*SHARED], [*LIBRARIES]
    return [*SHARED_ON_WINDOWS, *([] if "clang" in Path(program).name else [UNALIGNED])], []


def _posix() -> bool:
    return os.name != "nt"


def load(code: bytes) -> ctypes.CDLL:
    """Load a library that was just compiled. ctypes never unloads it."""
    try:
        with as_file(code) as path:
            return ctypes.CDLL(str(path))
    except OSError as error:
        raise CompileError(f"{shlex.join(compiler())} made nothing that can be loaded: {error}") from error


@contextmanager
def as_file(code: bytes) -> Iterator[Path]:
    """A file with this machine code, for programs that read only files.

    It is removed after the block. (Windows removes no library that is loaded: it stays among the temporary files.)
    """
    with tempfile.TemporaryDirectory(prefix="lstmkernel-", ignore_cleanup_errors=not _posix()) as folder:
        path = Path(folder) / "code.so"  # without a dot, Windows looks for code.dll
        path.write_bytes(code)
        yield path
