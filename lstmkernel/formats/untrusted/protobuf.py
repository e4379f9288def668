"""The fields of a protobuf message, from its first bytes, without knowing which message it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Field(NamedTuple):
    """A field: its number, and an integer or bytes; bytes may be cut off where the data ends."""

    number: int
    value: int | bytes


def fields(data: bytes, most: int = 1000) -> Iterator[Field]:
    """Up to ``most`` fields; they end where the data ends or is no protobuf."""
    at = 0
    for _ in range(most):
        key, at = _varint(data, at)
        if key is None or key < 8:
            return
        value: int | bytes | None
        if key & 7 == 0:
            value, at = _varint(data, at)
        else:
            size, at = ({1: 8, 5: 4}.get(key & 7), at) if key & 7 != 2 else _varint(data, at)
            value = None if size is None else data[at : at + size]
            at += size or 0
        if value is None:
            return
        yield Field(key >> 3, value)


def _varint(data: bytes, at: int) -> tuple[int | None, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value, at = value | (data[at] & 127) << shift, at + 1
        if data[at - 1] < 128:
            return value, at
    return None, at
