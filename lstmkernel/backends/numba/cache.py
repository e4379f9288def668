"""Compiled kernels on disk, so that only the first process that uses one has to wait for LLVM.

Numba's ``cache=True`` has the right locations and file formats, but it would be stale here: it looks at the one source
file that holds the function, and the kernels are spread over this package. And its index is read, changed and written
back, so two processes that save different kernels at once can leave an entry that points at the other's code. So a file
here holds one kernel, its name says everything the code depends on, and it appears whole or not at all. There is no
index, nothing is ever updated, and a file that cannot be read or written is no error, only time.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from lstmkernel.backends.numba.target import HOST
from lstmkernel.files import replacing

_PACKAGE = Path(__file__).parent
_CHECKSUM = hashlib.sha256


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


#: What compiled code depends on beside its sources: compiler, Python, CPU; and which installation it belongs to.
_VERSIONS = (numba.__version__, llvmlite.__version__, sys.implementation.cache_tag, sys.abiflags)
_SURROUNDINGS = _digest(repr((_VERSIONS, HOST, str(_PACKAGE))).encode())

#: And its sources: any of them may be inlined into any kernel. Read now, while they are what was imported.
_SOURCE_FILES = sorted(_PACKAGE.glob("*.py"))
_SOURCES = _digest(*(path.read_bytes() for path in _SOURCE_FILES))


class DiskCache:
    """What a Numba dispatcher asks of its cache, for a dispatcher with one signature."""

    def __init__(self, kernel: str) -> None:
        """kernel: name and dtype."""
        self._kernel = kernel

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        target_context.refresh()
        for directory in _directories():
            try:
                content = (directory / self._file_name(_SOURCES)).read_bytes()
            except OSError:
                continue
            size = _CHECKSUM().digest_size
            if _CHECKSUM(content[size:]).digest() == content[:size]:
                return CompileResult._rebuild(target_context, *pickle.loads(content[size:]))  # type: ignore[no-untyped-call]
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        content = dumps(result._reduce())  # type: ignore[no-untyped-call]
        for directory in _directories():
            try:
                directory.mkdir(parents=True, exist_ok=True)
                with replacing(str(directory / self._file_name(_SOURCES))) as file:
                    file.write(_CHECKSUM(content).digest() + content)
                self._remove_stale(directory)
            except OSError:
                continue
            return

    def _remove_stale(self, directory: Path) -> None:
        """Earlier versions of the sources left them."""
        for path in directory.glob(self._file_name("*")):
            if path.name != self._file_name(_SOURCES):
                path.unlink(missing_ok=True)

    def _file_name(self, sources: str) -> str:
        return f"lstmkernel-{self._kernel}-{_SURROUNDINGS}-{sources}.bin"


def _directories() -> list[Path]:
    """Where to look and to write, in this order: what the user says, else the places that Numba itself uses."""
    if not _SOURCE_FILES:  # in an archive: there is no telling whether a file is stale
        return []
    if chosen := os.environ.get("LSTMKERNEL_CACHE_DIR"):
        return [Path(chosen) / "numba"]
    user_wide = Path(AppDirs(appname="numba", appauthor=False).user_cache_dir) / "lstmkernel"  # type: ignore[no-untyped-call]
    return [*([Path(config.CACHE_DIR)] if config.CACHE_DIR else []), _PACKAGE / "__pycache__", user_wide]  # type: ignore[attr-defined]
