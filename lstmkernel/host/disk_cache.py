"""The cache on disk: compiled code and plans, kept between runs.

The cache lies under ``LSTMKERNEL_CACHE_DIR``, or in the user's cache directory. An entry is one file. Its name says
everything that its content depends on. A file appears whole or not at all, is never changed, and ends with a checksum
of its content and its name. So processes need no lock; a killed process, a full disk, a flipped bit or a file under
another one's name only means that the entry is made again. An entry is read only if it is a file that nobody but this
user can have written.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
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
#: A larger file is none of ours.
MOST_BYTES = 1 << 28
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
    if chosen:
        return Path(chosen)
    users = Path(platformdirs.user_cache_dir("lstmkernel", appauthor=False))
    if users.is_absolute():
        return users
    return Path(tempfile.gettempdir(), f"lstmkernel-{_user()}")  # a user without a home, as some containers have


def digest(*parts: object) -> str:
    """A part of a file's name that changes with everything that the content depends on."""
    return _HASH(repr(parts).encode()).hexdigest()[:20]


def find(kind: str, name: str) -> Found | None:
    """The entry, if it exists, is whole and belongs to this user alone. A damaged entry is removed."""
    path = root() / kind / name
    if _whose(root()) or _whose(path.parent):
        return None
    whole = _read(path)
    if whole is None:
        return None
    content, checksum = whole[: -_HASH().digest_size], whole[-_HASH().digest_size :]
    if checksum == _checksum(kind, name, content):
        return Found(path, content)
    _remove(path)
    return None


def _read(path: Path) -> bytes | None:
    """A file of this user's. Nothing is waited for, as opening a pipe would; what was opened is what is judged."""
    flags = ("O_RDONLY", "O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
    try:
        descriptor = os.open(path, sum(getattr(os, flag, 0) for flag in flags))
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or _whose_is(found):
                return None
            return file.read(MOST_BYTES)
    except OSError:
        return None


def _checksum(kind: str, name: str, content: bytes) -> bytes:
    hashed = _HASH(f"{kind}/{name}\n".encode())
    hashed.update(content)
    return hashed.digest()


def keep(kind: str, name: str, content: bytes) -> Path | None:
    """Write an entry. If that fails, warn once and return None."""
    path = root() / kind / name
    try:
        root().parent.mkdir(parents=True, exist_ok=True)
        for directory in (root(), path.parent):
            if directory.exists() and not directory.is_dir():
                raise NotADirectoryError(f"{directory} is not a directory")
            directory.mkdir(mode=0o700, exist_ok=True)
            if reason := _whose(directory):
                raise PermissionError(f"{directory} is not this user's alone: {reason}")
        with replacing(str(path)) as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o600)
            file.write(content + _checksum(kind, name, content))
    except OSError as error:
        if find(kind, name):  # another process was first, and uses it: Windows replaces no library that is loaded
            return path
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


def _whose(path: Path) -> str:
    """Why the path is not this user's alone; empty if it is."""
    try:
        return _whose_is(path.lstat())
    except OSError as error:
        return error.strerror or str(error)


def _whose_is(found: os.stat_result) -> str:
    if not hasattr(os, "geteuid"):  # Windows: a user's profile is the user's
        return ""
    if stat.S_ISLNK(found.st_mode):
        return "it is a symbolic link"
    if found.st_uid != _user():
        return "it belongs to another user"
    return "others may write to it" if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else ""


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


@cache
def _say_once(directory: str, reason: str) -> None:
    warnings.warn(f"lstmkernel keeps no compiled code in {directory}: {reason}", stacklevel=2)
