"""Arrays on disk (.npy, .npz, numbers without a header), of which parts are read and written.

They are read and written, and not mapped: where a file is cut short or a disk is full, that is an exception, while a
mapped page would end the process. Nor do pages that were read count as this process's memory.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from math import prod
from typing import IO, Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.host import files

Shape = tuple[int, ...]
#: Of the first axes of an array; the others are taken whole.
Index = tuple[slice, ...]

#: How much of a file is copied at a time.
COPIED = 1 << 22


class Stored:
    """An array in an open file, its numbers from ``offset`` on. Reads and writes take contiguous pieces, in order."""

    def __init__(self, file: IO[bytes], shape: Shape, dtype: np.dtype[Any], offset: int, fortran: bool = False) -> None:
        self.file, self.shape, self.dtype = file, shape, dtype
        self._offset, self._fortran = offset, fortran

    @property
    def nbytes(self) -> int:
        """Of the numbers."""
        return prod(self.shape) * self.dtype.itemsize

    def read(self, index: Index) -> Array:
        """A part as a new array. ValueError if the file ends before it."""
        whole = self._whole(index)
        if self._fortran:  # in the file, the last axis is the first one
            return self._read(whole[::-1], self.shape[::-1]).T
        return self._read(whole, self.shape)

    def write(self, index: Index, block: Array) -> None:
        """Write a part; ``block`` has its shape and dtype."""
        memory = _bytes_of(np.ascontiguousarray(block, self.dtype))
        for place, piece in self._pieces(self._whole(index), self.shape, memory):
            self.file.seek(place)
            self.file.write(piece)

    def _whole(self, index: Index) -> Index:
        return (*index, *(slice(0, size) for size in self.shape[len(index) :]))

    def _read(self, index: Index, shape: Shape) -> Array:
        block = np.empty([each.stop - each.start for each in index], self.dtype)
        for place, piece in self._pieces(index, shape, _bytes_of(block)):
            self.file.seek(place)
            if self.file.readinto(piece) != len(piece):  # type: ignore[attr-defined]  # of every file that is read
                raise ValueError("the file became shorter while it was read")
        return block

    def _pieces(self, index: Index, shape: Shape, memory: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Where in the file each piece is, and its part of ``memory``, which holds all pieces one after the other."""
        if not len(memory):
            return
        sizes = [each.stop - each.start for each in index]
        cut = max((axis for axis, size in enumerate(sizes) if size != shape[axis]), default=0)
        strides = [self.dtype.itemsize * prod(shape[axis + 1 :]) for axis in range(cut + 1)]
        length = sizes[cut] * strides[cut]
        first = self._offset + index[cut].start * strides[cut]
        before = product(*(range(each.start, each.stop) for each in index[:cut]))
        for number, places in enumerate(before):
            place = first + sum(place * stride for place, stride in zip(places, strides, strict=False))
            yield place, memory[number * length : (number + 1) * length]


def _bytes_of(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


# ---------------------------------------------------------------- reading


@contextmanager
def opened(path: str, name: str | None, scratch: str) -> Iterator[Stored]:
    """The array of a .npy file, or the array ``name`` of a .npz file, which is unpacked to the folder ``scratch``."""
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(open(path, "rb"))
        with _naming(path):
            zipped = file.read(2) == b"PK"
            file.seek(0)
            if zipped:
                file = stack.enter_context(_unpacked(file, path, name, scratch))
            elif name is not None:
                raise _ToldError(f"{path}: --array is for .npz files, which hold several arrays")
            found = _checked(path, _described(file))
        yield found


@contextmanager
def raw(path: str, shape: Shape, dtype: np.dtype[Any]) -> Iterator[Stored]:
    """Numbers without a header, in C order."""
    with open(path, "rb") as file:
        found, size = Stored(file, shape, dtype, 0), _size(file)
        if size != found.nbytes:
            raise ValueError(f"{path}: expected {found.nbytes} bytes for {dtype} {shape}, got {size}")
        yield found


def read_whole(path: str, what: str, scratch: str) -> Array:
    """A small array of whole numbers with one axis, such as lengths: ``what``."""
    with opened(path, None, scratch) as stored:
        if len(stored.shape) != 1 or stored.dtype.kind not in "iu":
            raise ValueError(f"{path}: expected {what}, got {stored.dtype} {stored.shape}")
        return stored.read(())


class _ToldError(ValueError):
    """Its message is complete."""


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Any error about the content becomes one that names the file.

    NumPy reads the header with Python's own parser, and zipfile raises many things.
    """
    try:
        yield
    except (_ToldError, OSError):  # an OSError has the file's name, or is about the disk
        raise
    except Exception as error:
        raise ValueError(f"{path}: expected an array of numbers, as numpy.save writes it: {error}") from error


def _described(file: IO[bytes]) -> Stored:
    """What a .npy file's header says; the file is at its start."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return Stored(file, shape, dtype, file.tell(), fortran and len(shape) > 1)


def _checked(path: str, found: Stored) -> Stored:
    if found.dtype.kind not in "fiub":
        raise _ToldError(f"{path}: expected an array of real numbers, got {found.dtype}")
    place = found.file.tell()
    size = _size(found.file) - place
    if size < found.nbytes:
        raise ValueError(f"its header says {found.nbytes} bytes for {found.dtype} {found.shape}, and there are {size}")
    return found


def _size(file: IO[bytes]) -> int:
    return file.seek(0, 2)


@contextmanager
def _unpacked(file: IO[bytes], path: str, name: str | None, scratch: str) -> Iterator[IO[bytes]]:
    """The array of a .npz file as a file without a name, at its start."""
    with zipfile.ZipFile(file) as archive, files.without_name(scratch, f"{scratch} (a copy of {path})") as target:
        names = [each.removesuffix(".npy") for each in archive.namelist() if each.endswith(".npy")]
        if not names:
            raise _ToldError(f"{path}: expected a .npz file with arrays, as numpy.savez writes it; it holds none")
        if name is None and len(names) > 1:
            raise _ToldError(f"{path}: it holds several arrays; choose with --array: {', '.join(names)}")
        if name is not None and name not in names:
            raise _ToldError(f"{path}: no array {name!r}; it holds {', '.join(names)}")
        with archive.open(f"{name or names[0]}.npy") as member:
            shutil.copyfileobj(member, target, COPIED)
        target.seek(0)
        yield target


# ---------------------------------------------------------------- writing


def new(file: IO[bytes], shape: Shape, dtype: np.dtype[Any]) -> Stored:
    """A .npy file of that shape, whose numbers are to be written."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return Stored(file, shape, dtype, file.tell())


@contextmanager
def new_npz(file: IO[bytes], arrays: Mapping[str, Shape], dtype: np.dtype[Any], path: str) -> Iterator[list[Stored]]:
    """The .npz file ``path`` of arrays that are to be written in the block, in any order: until then beside it."""
    with ExitStack() as stack:
        parts = [stack.enter_context(files.without_name(os.path.dirname(path) or ".", path)) for _ in arrays]
        yield [new(each, shape, dtype) for each, shape in zip(parts, arrays.values(), strict=True)]
        _pack(file, arrays, parts)


def _pack(file: IO[bytes], names: Mapping[str, Shape], parts: Sequence[IO[bytes]]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, each in zip(names, parts, strict=True):
            each.seek(0)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                shutil.copyfileobj(each, member, COPIED)
