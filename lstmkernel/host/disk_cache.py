"""The cache on disk: compiled code and plans, kept between runs.

The cache lies under ``LSTMKERNEL_CACHE_DIR``, or in the user's cache directory. An entry is one file. Its name says
everything that its content depends on. A file appears whole or not at all, is never changed, and ends with its own
checksum. So processes need no lock; a killed process, a full disk or a flipped bit only means that the entry is made
again. An entry is read only if nobody but this user can have written it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import platformdirs

from lstmkernel.host.files import replacing

#: One subdirectory each: machine code of Numba, machine code of the C compiler, and plans.
KINDS = ("numba", "c", "plans")

_HASH = hashlib.sha256
#: How the name of an entry ends, also of one that was never finished. Other files are not ours.
_NAME = re.compile(r"-[0-9a-f]{20}\.(so|bin|json)(\.[0-9a-f]+\.unfinished)?$")


class Found(NamedTuple):
    """An entry whose checksum is right."""

    path: Path
    content: bytes


class Entry(NamedTuple):
    """A file of the cache."""

    kind: str
    path: Path
    size: int  # bytes
    modified: float  # seconds since the epoch


def root() -> Path:
    """The directory of the cache."""
    chosen = os.environ.get("LSTMKERNEL_CACHE_DIR")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("lstmkernel", appauthor=False))


def digest(*parts: object) -> str:
    """A part of a file's name that changes with everything that the content depends on."""
    return _HASH(repr(parts).encode()).hexdigest()[:20]


def find(kind: str, name: str) -> Found | None:
    """The entry, if it exists, is whole and belongs to this user alone. A damaged entry is removed."""
    path = root() / kind / name
    if not all(_is_ours(each) for each in (root(), path.parent, path)):
        return None
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    size = _HASH().digest_size
    if _HASH(whole[:-size]).digest() == whole[-size:]:
        return Found(path, whole[:-size])
    _remove(path)
    return None


def keep(kind: str, name: str, content: bytes) -> Path | None:
    """Write an entry. If that fails, warn once and return None."""
    path = root() / kind / name
    try:
        root().parent.mkdir(parents=True, exist_ok=True)
        for directory in (root(), path.parent):
            if directory.exists() and not directory.is_dir():
                raise NotADirectoryError(f"{directory} is not a directory")
            directory.mkdir(mode=0o700, exist_ok=True)
            if not _is_ours(directory):
                raise PermissionError(f"{directory} is not this user's alone")
        with replacing(str(path)) as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o600)
            file.write(content + _HASH(content).digest())
    except OSError as error:
        _say_once(str(root()), error.strerror or str(error))
        return None
    return path


def forget(kind: str, pattern: str, but: str) -> None:
    """Remove the entries that match ``pattern``, except one: they are its earlier versions."""
    for path in (root() / kind).glob(pattern):
        if path.name != but and _NAME.search(path.name):
            _remove(path)


def entries() -> Iterator[Entry]:
    """All entries, also those that a killed process did not finish."""
    for kind in KINDS:
        for path in sorted((root() / kind).glob("*")):
            try:
                found = path.lstat()
            except OSError:  # removed meanwhile
                continue
            if _NAME.search(path.name) and stat.S_ISREG(found.st_mode):
                yield Entry(kind, path, found.st_size, found.st_mtime)


def clear() -> int:
    """Remove all entries. Returns how many files were removed."""
    return sum(_remove(entry.path) for entry in entries())


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _is_ours(path: Path) -> bool:
    """Whether the path belongs to this user and nobody else may write to it."""
    if not hasattr(os, "getuid"):  # Windows: a user's profile is the user's
        return True
    try:
        found = path.lstat()
    except OSError:
        return False
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid == os.getuid() and not others_write and not stat.S_ISLNK(found.st_mode)


@cache
def _say_once(directory: str, reason: str) -> None:
    warnings.warn(f"lstmkernel keeps no compiled code in {directory}: {reason}", stacklevel=2)
