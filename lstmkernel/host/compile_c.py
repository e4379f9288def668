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
            command = shlex.split(chosen)
        except ValueError as error:
            raise NoCompilerError(f"no C compiler: CC={chosen!r}: {error}") from None
        if shutil.which(command[0]):
            return command
        raise NoCompilerError(f"no C compiler: CC={chosen!r} is not a program")
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise NoCompilerError("no C compiler: neither cc, gcc nor clang is a program here, and CC is not set")


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
            command = [*command, *options, "-shared", "-fPIC", str(source), "-o", str(output), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode == 0:
                return Library(output.read_bytes(), done.stderr.rstrip())
    except OSError as error:  # no room for temporary files, for example
        raise CompileError(f"{shlex.join(compiler())} made nothing that can be loaded: {error}") from error
    raise CompileError(f"{shlex.join(command)}\nended with status {done.returncode}:\n{done.stderr.strip()}")


def load(code: bytes) -> ctypes.CDLL:
    """Load a library that was just compiled. ctypes never unloads it."""
    try:
        with as_file(code) as path:
            return ctypes.CDLL(str(path))
    except OSError as error:
        raise CompileError(f"{shlex.join(compiler())} made nothing that can be loaded: {error}") from error


@contextmanager
def as_file(code: bytes) -> Iterator[Path]:
    """A file with this machine code, for programs that read only files. It is removed after the block."""
    with tempfile.TemporaryDirectory(prefix="lstmkernel-") as folder:
        path = Path(folder) / "code"
        path.write_bytes(code)
        yield path
