"""ONNX's tensors as arrays: sizes are checked before memory is taken; other files only from the model's folder."""

from __future__ import annotations

import os
import stat
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.inspection import Tensor
from lstmkernel.formats.untrusted import limits
from lstmkernel.formats.untrusted.raw_tensors import from_bfloat16

#: TensorProto.DataType: NumPy's name of the type, and the field that holds the numbers if raw_data does not. float16
#: and bfloat16 stand in int32_data as their bits.
TYPES = {
    1: ("float32", "float_data"),
    2: ("uint8", "int32_data"),
    3: ("int8", "int32_data"),
    6: ("int32", "int32_data"),
    7: ("int64", "int64_data"),
    10: ("float16", "int32_data"),
    11: ("float64", "double_data"),
    16: ("bfloat16", "int32_data"),
}


class TensorReader:
    """Reads the tensors of one model, whose data may be in other files of its folder, and counts the memory.

    A copy counts on its own from there, so that an attempt that fails is not counted.
    """

    def __init__(self, path: str) -> None:
        self._folder = os.path.dirname(os.path.abspath(path))
        self.file_size = self._given = os.path.getsize(path)
        self._made = 0
        self._of_bfloat16 = 0
        self._handed = 0
        self._of_integers = [0]  # bytes that float32 has more than integers of 8 bits; copies share it
        self._external: dict[str, int] = {}  # each file once, with its size

    def make(self, what: str, count: int) -> None:
        """Count bytes that are about to be allocated beside the file's own; ValueError for too many."""
        limits.check(what, self._made + count, self._as_float32)
        self._made += count

    def hand(self, what: str, array: Array) -> None:
        """Count weights that a layer will copy; ValueError if nodes share weights and the copies become too large."""
        self._handed += array.nbytes
        limits.check(what, 2 * self._handed, self._as_float32 + self._of_bfloat16)

    @property
    def _as_float32(self) -> int:
        """The bytes of the file, if it had float32 in place of integers of 8 bits; functions may read them often."""
        return self._given + min(self._of_integers[0], 3 * self._given)

    def array(self, tensor: Any) -> Array:
        """A tensor's numbers, bfloat16 as float32; read-only if they are the file's own bytes."""
        about = described(tensor)
        if tensor.data_type not in TYPES:
            known = ", ".join(name for name, _ in TYPES.values())
            raise ValueError(f"{about.name}: expected one of {known}, got {about.dtype}")
        name, field = TYPES[tensor.data_type]
        stored = np.dtype("<u2") if name == "bfloat16" else np.dtype(name).newbyteorder("<")
        count = 1
        for extent in about.shape:
            if extent < 0:
                raise ValueError(f"{about.name}: expected sizes of at least 0, got shape {about.shape}")
            count *= extent
        external = tensor.data_location == tensor.EXTERNAL
        if (external and tensor.HasField("raw_data")) or tensor.HasField("segment"):
            raise ValueError(
                f"{about.name}: expected all its data in the model or all in a file beside it, got a segment or both"
            )
        if external:
            values = np.frombuffer(self._outside(tensor, count * stored.itemsize), stored)
        elif tensor.HasField("raw_data"):
            _expect_bytes(about, len(tensor.raw_data), count * stored.itemsize)
            values = np.frombuffer(tensor.raw_data, stored)
        else:
            values = self._from_field(about, getattr(tensor, field), count, stored)
        self._of_integers[0] += 3 * values.size if stored.itemsize == 1 else 0
        return self._widened(about, values).reshape(about.shape)

    def _from_field(self, about: Tensor, numbers: Any, count: int, stored: np.dtype[Any]) -> Array:
        if len(numbers) != count:
            raise ValueError(f"{about.name}: expected {count} numbers for shape {about.shape}, got {len(numbers)}")
        self.make(about.name, count * stored.itemsize)
        if stored.itemsize > 2:
            return np.fromiter(numbers, stored, count)
        if stored.itemsize == 1:
            return self._bytes(about, np.fromiter(numbers, np.int64, count), stored)
        bits = np.fromiter(numbers, np.int64, count)
        if count and not 0 <= bits.min() <= bits.max() < 1 << 16:
            raise ValueError(f"{about.name}: expected 16 bits a number, got {bits.min()}..{bits.max()}")
        return bits.astype("<u2").view(stored)

    def _bytes(self, about: Tensor, numbers: Array, stored: np.dtype[Any]) -> Array:
        least, most = np.iinfo(stored).min, np.iinfo(stored).max
        if numbers.size and not least <= numbers.min() <= numbers.max() <= most:
            raise ValueError(f"{about.name}: expected numbers of {stored}, got {numbers.min()}..{numbers.max()}")
        return numbers.astype(stored)

    def _widened(self, about: Tensor, values: Array) -> Array:
        if about.dtype != "bfloat16":
            return values
        self.make(about.name, 4 * values.size)
        self._of_bfloat16 += 2 * values.size
        return from_bfloat16(values)

    def _outside(self, tensor: Any, expected: int) -> bytes:
        """The bytes of external data, from a regular file in the model's folder or below, never through a link."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        path = self._beside(tensor.name, location)
        offset = _number(tensor.name, "offset", entries.get("offset", "0"))
        length = _number(tensor.name, "length", entries.get("length", str(expected)))
        _expect_bytes(described(tensor), length, expected)
        try:
            file = open(path, "rb", opener=_no_link_no_waiting)  # noqa: SIM115
        except OSError as error:
            raise ValueError(f"{tensor.name}: external data {location!r}: {error.strerror}") from error
        with file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{tensor.name}: external data {location!r}: expected a regular file")
            if offset + length > found.st_size:
                raise ValueError(
                    f"{tensor.name}: external data {location!r}: expected {length} bytes from {offset} on, "
                    f"got a file of {found.st_size}"
                )
            if path not in self._external:
                self._external[path] = found.st_size
                self._given += found.st_size
            self.make(tensor.name, length)
            file.seek(offset)
            data = file.read(length)
        _expect_bytes(described(tensor), len(data), expected)
        return data

    def _beside(self, name: str, location: str) -> str:
        parts = PurePosixPath(location).parts + PureWindowsPath(location).parts
        absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
        if not parts or absolute or ".." in parts or "\0" in location:
            raise ValueError(f"{name}: external data: expected a file in the model's folder, got {location!r}")
        folder = os.path.realpath(self._folder)
        path = os.path.join(folder, *PurePosixPath(location).parts)
        if os.path.normcase(os.path.realpath(path)) != os.path.normcase(path):  # Windows knows no case
            raise ValueError(f"{name}: external data: expected a file in the model's folder, got a link {location!r}")
        return path


def described(tensor: Any) -> Tensor:
    """Name, shape and dtype, as the file says."""
    types = type(tensor).DataType
    if tensor.data_type in TYPES:
        dtype = TYPES[tensor.data_type][0]
    else:
        dtype = types.Name(tensor.data_type).lower() if tensor.data_type in types.values() else str(tensor.data_type)
    return Tensor(tensor.name or "a constant", tuple(tensor.dims), dtype)


def _no_link_no_waiting(path: str, flags: int) -> int:
    """An opener for ``open`` that does not follow a link and does not wait for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _expect_bytes(about: Tensor, got: int, expected: int) -> None:
    if got != expected:
        raise ValueError(f"{about.name}: expected {expected} bytes for {about.dtype} {about.shape}, got {got}")


def _number(name: str, key: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ValueError(f"{name}: external data: expected a number for {key}, got {text[:40]!r}")
    return int(text)
