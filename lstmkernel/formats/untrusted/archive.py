"""zip from an untrusted file: sizes are checked before anything is unpacked, and nothing is written to disk."""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator

from lstmkernel.formats.untrusted import limits

MAGIC = b"PK\x03\x04"

#: Bytes of a zip's directory. An entry of 46 bytes becomes an object of 700 bytes in ``zipfile``.
MOST_DIRECTORY_BYTES = 2 << 20

_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, OverflowError, OSError)


class Archive:
    """The members of a zip file: none is there twice, names are relative, sizes are within the limits."""

    def __init__(self, path: str, file: zipfile.ZipFile) -> None:
        self._file = file
        members = file.infolist()
        self._members = {member.filename: member for member in members}
        if len(self._members) < len(members):
            names = [member.filename for member in members]
            twice = next(name for name in self._members if names.count(name) > 1)
            raise ValueError(f"zip: member {twice[:100]!r} is there twice")
        for name, member in self._members.items():
            if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                raise ValueError(f"zip: expected relative names of members, without '..', got {name[:100]!r}")
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"zip: {name[:100]}: expected a member that is stored or deflated and not encrypted")
        limits.check("zip", sum(member.file_size for member in members), os.path.getsize(path))

    @property
    def sizes(self) -> dict[str, int]:
        """The unpacked size of each member in bytes, in the order of the directory."""
        return {name: member.file_size for name, member in self._members.items()}

    def read(self, name: str) -> bytes:
        """A member's bytes; the checksum is checked."""
        if name not in self._members:
            raise ValueError(f"zip: missing member {name}")
        size = self._members[name].file_size
        try:
            with self._file.open(self._members[name]) as file:
                data = file.read(size)  # read() would unpack more than the declared size
        except _BROKEN as error:
            raise ValueError(f"zip: {name[:100]}: {error or type(error).__name__}") from error
        if len(data) != size:
            raise ValueError(f"zip: {name[:100]}: expected {size} bytes, got {len(data)}")
        return data


@contextlib.contextmanager
def opened(path: str) -> Iterator[Archive]:
    """A zip file to read from."""
    _check_directory(path)
    try:
        file = zipfile.ZipFile(path)
    except (*_BROKEN, ValueError) as error:
        raise ValueError(f"not a zip file: {error or type(error).__name__}") from error
    with file:
        yield Archive(path, file)


def names(path: str) -> list[str]:
    """The members' names, or none if the file cannot be read as zip; for a format's ``recognises``."""
    try:
        with opened(path) as found:
            return list(found.sizes)
    except ValueError:
        return []


def _check_directory(path: str) -> None:
    """Check the directory's size, because ``zipfile`` reads all of it when it opens the file."""
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 65_656))  # both end records, and the longest comment behind them
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise ValueError("not a zip file: expected a directory at its end, got none; is the file cut off?")
    (size,) = struct.unpack_from("<L", tail, end + 12)
    if tail[max(0, end - 20) : end].startswith(b"PK\x06\x07"):  # zip64's record stands before its locator
        if end < 76 or not tail.startswith(b"PK\x06\x06", end - 76):
            raise ValueError("not a zip file: expected zip64's end record before its locator, got something else")
        (size,) = struct.unpack_from("<Q", tail, end - 76 + 40)
    if size > MOST_DIRECTORY_BYTES:
        raise ValueError(f"zip: expected a directory of at most {MOST_DIRECTORY_BYTES} bytes, got {size}")
