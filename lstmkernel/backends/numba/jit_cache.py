"""Compiled kernels on disk, so that only the first process that uses one has to wait for LLVM.

Numba's own ``cache=True`` does not do, for two reasons. It looks for changes only in the source file of the function
itself, but the kernels are spread over this package. And two processes that save different kernels at once can leave an
entry in its index that points at the other's code. So here a file holds one kernel, the name of the file says all that
the code depends on, and lstmkernel/host/disk_cache.py keeps it.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import CompileResultCacheImpl
from numba.core.serialize import dumps

from lstmkernel.backends.numba.target import HOST
from lstmkernel.host import disk_cache

_PACKAGE = Path(__file__).parent

#: What compiled code depends on besides its sources: compiler, Python, CPU; and the installation it belongs to.
_VERSIONS = (numba.__version__, llvmlite.__version__, sys.implementation.cache_tag, sys.abiflags)
_SURROUNDINGS = disk_cache.digest(_VERSIONS, HOST, str(_PACKAGE))

#: Its sources: any of them may be inlined into any kernel. They are read now, while they are what was imported.
_SOURCE_FILES = sorted(_PACKAGE.rglob("*.py"))
_SOURCES = disk_cache.digest(*(path.read_bytes() for path in _SOURCE_FILES))


class _Format(CompileResultCacheImpl):
    """How Numba's own cache writes a compiled function, and reads it. It looks for no file."""

    def __init__(self) -> None:
        pass


_FORMAT = _Format()


class DiskCache:
    """What a Numba dispatcher asks of its cache, for a dispatcher with one signature."""

    def __init__(self, kernel: str) -> None:
        """kernel: name and dtype."""
        self._kernel = kernel

    def content(self) -> bytes | None:
        """The kernel's entry."""
        if not _SOURCE_FILES:  # in an archive, where one cannot know whether a file is stale
            return None
        found = disk_cache.find("numba", self._file_name(_SOURCES))
        return None if found is None else found.content

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        target_context.refresh()
        content = self.content()
        if content is None:
            return None
        try:
            return _FORMAT.rebuild(target_context, pickle.loads(content))  # type: ignore[no-untyped-call]
        except Exception:  # whatever this Numba does not like about it: then it is compiled
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        name = self._file_name(_SOURCES)
        content = dumps(_FORMAT.reduce(result))  # type: ignore[no-untyped-call]
        if _SOURCE_FILES and disk_cache.keep("numba", name, content):
            disk_cache.forget("numba", self._file_name("*"), but=name)

    def _file_name(self, sources: str) -> str:
        return f"{self._kernel}-{_SURROUNDINGS}-{sources}.bin"
