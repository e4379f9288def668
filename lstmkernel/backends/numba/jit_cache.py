"""Compiled kernels on disk, so that only the first process that uses one has to wait for LLVM.

Numba's ``cache=True`` has the right file formats, but it would be stale here: it looks at the one source file that
holds the function, and the kernels are spread over this package. And its index is read, changed and written back, so
two processes that save different kernels at once can leave an entry that points at the other's code. So a file here
holds one kernel, its name says everything the code depends on, and lstmkernel/host/disk_cache.py keeps it.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from lstmkernel.backends.numba.target import HOST
from lstmkernel.host import disk_cache

_PACKAGE = Path(__file__).parent

#: What compiled code depends on beside its sources: compiler, Python, CPU; and which installation it belongs to.
_VERSIONS = (numba.__version__, llvmlite.__version__, sys.implementation.cache_tag, sys.abiflags)
_SURROUNDINGS = disk_cache.digest(_VERSIONS, HOST, str(_PACKAGE))

#: And its sources: any of them may be inlined into any kernel. Read now, while they are what was imported.
_SOURCE_FILES = sorted(_PACKAGE.rglob("*.py"))
_SOURCES = disk_cache.digest(*(path.read_bytes() for path in _SOURCE_FILES))


class DiskCache:
    """What a Numba dispatcher asks of its cache, for a dispatcher with one signature."""

    def __init__(self, kernel: str) -> None:
        """kernel: name and dtype."""
        self._kernel = kernel

    def content(self) -> bytes | None:
        """The kernel's entry."""
        if not _SOURCE_FILES:  # in an archive: there is no telling whether a file is stale
            return None
        found = disk_cache.find("numba", self._file_name(_SOURCES))
        return None if found is None else found.content

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        target_context.refresh()
        content = self.content()
        if content is None:
            return None
        return CompileResult._rebuild(target_context, *pickle.loads(content))  # type: ignore[no-untyped-call]

    def save_overload(self, signature: Any, result: Any) -> None:
        name = self._file_name(_SOURCES)
        if _SOURCE_FILES and disk_cache.keep("numba", name, dumps(result._reduce())):  # type: ignore[no-untyped-call]
            disk_cache.forget("numba", self._file_name("*"), but=name)

    def _file_name(self, sources: str) -> str:
        return f"{self._kernel}-{_SURROUNDINGS}-{sources}.bin"
