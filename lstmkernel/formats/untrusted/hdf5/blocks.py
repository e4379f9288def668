"""Bytes of the file, and the integers in them: never beyond the end, and in all no more than a multiple of the file."""

from __future__ import annotations

from typing import BinaryIO

#: What every HDF5 file begins with.
SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: How often the whole file may be read, and bytes beside that. Blocks that name each other in circles end here.
MOST_READINGS, BESIDE = 3, 1 << 22

#: What a read counts at least, so that many small ones end, too.
LEAST_COUNTED = 64

#: An address that says: nowhere.
NOWHERE = (1 << 64) - 1


class Blocks:
    """Parts of a file of ``size`` bytes by their addresses."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.size = file, size
        self._left = MOST_READINGS * size + BESIDE

    def read(self, at: int, size: int, what: str) -> bytes:
        """Exactly these bytes; ``what`` they are stands in the message of a ValueError."""
        if not 0 <= at <= self.size - size:
            raise ValueError(f"HDF5: {what}: expected {size} bytes at {at}, got a file of {self.size}")
        self._left -= max(size, LEAST_COUNTED)
        if self._left < 0:
            raise ValueError(f"HDF5: {what}: expected blocks that are read once, got some that are named many times")
        self._file.seek(at)
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError(f"HDF5: {what}: expected {size} bytes at {at}, got {len(data)}; is the file cut off?")
        return data

    def fields(self, at: int, size: int, what: str, signature: bytes = b"") -> Fields:
        """The same, to be taken field by field, after the signature with which they begin."""
        fields = Fields(self.read(at, size, what), what)
        found = fields.take(len(signature))
        if found != signature:
            raise ValueError(f"HDF5: {what}: expected {signature!r} at {at}, got {found!r}")
        return fields


class Fields:
    """Bytes that are taken from the front, one field after the other."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._what = data, what
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise ValueError(f"HDF5: {self._what}: expected {size} bytes more, got {self.left}")
        self._at += size
        return self._data[self._at - size : self._at]

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def integers(self, count: int, size: int) -> list[int]:
        return [self.integer(size) for _ in range(count)]

    def version(self, *known: int) -> int:
        """One byte, which must be a version of these."""
        found = self.integer(1)
        if found not in known:
            expected = " or ".join(map(str, known))
            raise ValueError(f"HDF5: {self._what}: expected version {expected}, got {found}; {AGAIN}")
        return found


#: The way out of every layout that is not Keras's.
AGAIN = "save the model again with Keras, which writes HDF5's oldest layout"
