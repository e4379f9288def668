"""Arrays: where their numbers are, in one piece or in chunks, which may be deflated and shuffled."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.untrusted import limits
from lstmkernel.formats.untrusted.hdf5.blocks import AGAIN, NOWHERE, Blocks, Fields
from lstmkernel.formats.untrusted.hdf5.datatypes import Datatype, datatype, numpy_dtype, shape
from lstmkernel.formats.untrusted.hdf5.headers import DATASPACE, DATATYPE, EXTERNAL, FILTERS, LAYOUT, Header

# Filters and layouts, by HDF5's numbers.
_DEFLATE, _SHUFFLE = 1, 2
_COMPACT, _CONTIGUOUS, _CHUNKED = 0, 1, 2

_FILTER_NAMES = {3: "Fletcher-32", 4: "szip", 5: "nbit", 6: "scale-offset", 32000: "lzf"}


class StoredArray(NamedTuple):
    """An array that is not read yet."""

    name: str  # its path in the file
    shape: tuple[int, ...]
    kind: Datatype
    header: Header

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.kind.size


class _Chunk(NamedTuple):
    address: int
    size: int  # bytes in the file
    skipped: int  # a bit for each filter that was not used
    offset: tuple[int, ...]


def stored_array(header: Header, name: str) -> StoredArray:
    if DATASPACE not in header:
        raise ValueError(f"{name[:200]}: expected a group or an array, got neither")
    extents = shape(header.one(DATASPACE))
    if extents is None:
        raise ValueError(f"{name[:200]}: expected an array with a shape, got one without")
    return StoredArray(name, extents, datatype(header.one(DATATYPE)), header)


def check(array: StoredArray, blocks: Blocks, given: int) -> None:
    """ValueError for numbers that ``read`` would refuse, as far as it shows without reading them."""
    if EXTERNAL in array.header:
        raise ValueError(f"{array.name[:200]}: expected numbers inside the file, got some in other files")
    filters = _filters(array)
    layout = array.header.one(LAYOUT)
    layout.version(3)
    kind = layout.integer(1)
    if kind == _COMPACT:
        size = layout.integer(2)
    elif kind == _CONTIGUOUS:
        address, size = layout.integers(2, 8)
        if address == NOWHERE:
            size = 0
        elif address > blocks.size - size:
            raise ValueError(f"{array.name[:200]}: expected {size} bytes at {address}, got a file of {blocks.size}")
    elif kind == _CHUNKED:
        tree, chunk = _chunk_shape(array, layout)
        limits.check(f"{array.name[:200]}: HDF5", array.nbytes + math.prod(chunk) * array.kind.size, given)
        if tree == NOWHERE and array.nbytes:
            raise ValueError(f"{array.name[:200]}: expected numbers, got an array that was never written")
        return
    else:
        raise ValueError(f"{array.name[:200]}: expected numbers inside the file, got layout {kind}; {AGAIN}")
    if filters:
        raise ValueError(f"{array.name[:200]}: expected filters of chunks alone")
    if size != array.nbytes:
        got = "an array that was never written" if size == 0 else f"{size} bytes"
        raise ValueError(f"{array.name[:200]}: expected numbers of {array.nbytes} bytes, got {got}")


def read(array: StoredArray, blocks: Blocks) -> Array:
    """The numbers of an array that ``check`` has allowed, in the file's byte order; bfloat16 as integers."""
    dtype = numpy_dtype(array.kind)
    if not array.nbytes:
        return np.empty(array.shape, dtype)
    layout = array.header.one(LAYOUT)
    layout.take(1)
    kind = layout.integer(1)
    if kind == _CHUNKED:
        return _read_chunks(array, blocks, layout, dtype)
    if kind == _COMPACT:
        data = layout.take(layout.integer(2))
    else:
        address, size = layout.integers(2, 8)
        data = blocks.read(address, size, array.name[:200])
    return np.frombuffer(data, dtype).reshape(array.shape)


# ---------------------------------------------------------------- chunks


def _chunk_shape(array: StoredArray, layout: Fields) -> tuple[int, tuple[int, ...]]:
    """The address of the tree of chunks, and the shape of each."""
    rank = len(array.shape)
    if layout.integer(1) != rank + 1:
        raise ValueError(f"{array.name[:200]}: expected chunks of {rank} dimensions")
    tree = layout.integer(8)
    *chunk, size = layout.integers(rank + 1, 4)
    if size != array.kind.size or any(
        not 1 <= extent <= whole for extent, whole in zip(chunk, array.shape, strict=True)
    ):
        raise ValueError(f"{array.name[:200]}: expected chunks within {array.shape}, got {chunk} of {size} bytes")
    return tree, tuple(chunk)


def _read_chunks(array: StoredArray, blocks: Blocks, layout: Fields, dtype: np.dtype[np.generic]) -> Array:
    tree, chunk = _chunk_shape(array, layout)
    filters = _filters(array)
    count = math.prod(-(-whole // step) for whole, step in zip(array.shape, chunk, strict=True))
    if count > blocks.size // 16:  # each has an entry in the tree
        raise ValueError(f"{array.name[:200]}: expected {count} chunks, more than the file has room for")
    result = np.empty(array.shape, dtype)
    missing = set(itertools.product(*(range(0, whole, step) for whole, step in zip(array.shape, chunk, strict=True))))
    for found in _chunks(array, blocks, tree):
        if found.offset not in missing:
            raise ValueError(f"{array.name[:200]}: expected each chunk once, got {found.offset[:8]} twice or beside it")
        missing.remove(found.offset)
        data = blocks.read(found.address, found.size, array.name[:200])
        data = _unfiltered(array, data, filters, found.skipped, math.prod(chunk) * array.kind.size)
        place = tuple(slice(start, start + step) for start, step in zip(found.offset, chunk, strict=True))
        extents = tuple(slice(0, extent) for extent in result[place].shape)
        result[place] = np.frombuffer(data, dtype).reshape(chunk)[extents]
    if missing:
        raise ValueError(f"{array.name[:200]}: expected all chunks, got an array of which some were never written")
    return result


def _chunks(array: StoredArray, blocks: Blocks, tree: int) -> Iterator[_Chunk]:
    """Every chunk of the tree. Levels count down, so there is no circle."""
    rank = len(array.shape)
    key_size = 8 + 8 * (rank + 1)
    waiting = [(tree, -1)]
    while waiting:
        at, expected = waiting.pop()
        fields = blocks.fields(at, 24, "tree of chunks", b"TREE")
        kind, level = fields.integers(2, 1)
        count = fields.integer(2)
        if kind != 1 or (expected >= 0 and level != expected):
            raise ValueError(f"HDF5: tree of chunks: expected level {expected}, got {level}")
        entries = blocks.fields(at + 24, count * (key_size + 8), "tree of chunks")
        for _ in range(count):
            size, skipped = entries.integers(2, 4)
            *offset, _ = entries.integers(rank + 1, 8)
            address = entries.integer(8)
            if level:
                waiting.append((address, level - 1))
            else:
                yield _Chunk(address, size, skipped, tuple(offset))


# ---------------------------------------------------------------- filters


def _filters(array: StoredArray) -> list[int]:
    """The filters by number, in the order in which they were applied."""
    if FILTERS not in array.header:
        return []
    fields = array.header.one(FILTERS)
    version = fields.version(1, 2)
    count = fields.integer(1)
    fields.take(6 if version == 1 else 0)
    found = []
    for _ in range(count):
        number = fields.integer(2)
        named = version == 1 or number >= 256
        length = fields.integer(2) if named else 0
        _, values = fields.integers(2, 2)
        fields.take(-(-length // 8) * 8 if version == 1 else length)
        fields.take(4 * (values + (values % 2 if version == 1 else 0)))
        if number not in (_DEFLATE, _SHUFFLE):
            got = f"{_FILTER_NAMES.get(number, 'another one')} ({number})"
            raise ValueError(f"{array.name[:200]}: filters: expected none, or deflate and shuffle, got {got}; {AGAIN}")
        found.append(number)
    if len(set(found)) < len(found):
        raise ValueError(f"{array.name[:200]}: filters: expected each once, got {found[:8]}")
    return found


def _unfiltered(array: StoredArray, data: bytes, filters: list[int], skipped: int, size: int) -> bytes:
    """A chunk as it was before its filters, ``size`` bytes."""
    for place, number in reversed([*enumerate(filters)]):
        if skipped >> place & 1:
            continue
        if number == _DEFLATE:
            try:
                data = zlib.decompressobj().decompress(data, size + 1)
            except zlib.error as error:
                raise ValueError(f"{array.name[:200]}: deflate: {error}") from error
        elif len(data) % array.kind.size == 0:
            data = np.frombuffer(data, np.uint8).reshape(array.kind.size, -1).T.tobytes()
    if len(data) != size:
        raise ValueError(f"{array.name[:200]}: expected chunks of {size} bytes, got {len(data)}")
    return data
