"""JSON from an untrusted file: no key twice, no more memory than the file's size allows, and fields of a known kind.

The functions that read a file carry "json" in their names, so that a reader does not take them for the module of the
standard library.
"""

from __future__ import annotations

import json
import mmap
import os
from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments
from lstmkernel.formats.untrusted import limits

#: Bytes of the Python objects that one such character of the text stands for: containers, strings, elements.
_COSTS = {b"{": 240, b"[": 72, b'"': 32, b",": 40, b":": 8}

_KINDS = {bool: "true or false", int: "an integer", str: "a string", list: "a list", dict: "an object"}


# ---------------------------------------------------------------- text


def mentions(path: str, head: bytes, *keys: str) -> bool:
    """Whether the file begins like a JSON object and contains all these keys in quotes. It need not be valid JSON."""
    if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return all(text.find(b'"%b"' % key.encode()) >= 0 for key in keys)


def read_json(path: str) -> Any:
    """The value of a JSON file in UTF-8."""
    size = os.path.getsize(path)
    limits.check("JSON", size, size)
    with open(path, "rb") as file:
        return parse_json(file.read())


def parse_json(data: bytes) -> Any:
    """The value of JSON in UTF-8; a ValueError says where the text is not JSON."""
    limits.check("JSON", sum(cost * data.count(mark) for mark, cost in _COSTS.items()), 2 * len(data))
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise ValueError(f"JSON: expected UTF-8, got byte {data[error.start]:#04x} at {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("JSON: nests too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"JSON: key {twice[:100]!r} is there twice")
    return found


# ---------------------------------------------------------------- values


def field(mapping: Any, key: str, kind: type, default: Any = None, *, where: str = "") -> Any:
    """``mapping[key]``, which must be of that kind. ``where`` stands before the key in messages."""
    if not isinstance(mapping, dict):
        raise ValueError(f"{where.removesuffix('.') or 'JSON'}: expected an object, got {shown(mapping)}")
    value = mapping.get(key, default)
    if value is None and key not in mapping:
        raise ValueError(f"{where}{key}: missing, among {', '.join(map(shown, list(mapping)[:8])) or 'nothing'}")
    if not isinstance(value, kind):
        raise ValueError(f"{where}{key}: expected {_KINDS[kind]}, got {shown(value)}")
    return value


def size(mapping: Any, key: str, default: int | None = None, *, where: str = "", least: int = 1) -> int:
    """``mapping[key]``, which must be an integer of at least ``least``."""
    value = field(mapping, key, int, default, where=where)
    try:
        return arguments.size(f"{where}{key}", value, least)
    except TypeError as error:  # a bool
        raise ValueError(str(error)) from error


def array(name: str, value: Any, shape: tuple[int, ...] | None = None) -> Array:
    """Numbers in lists, or in lists of lists and so on, as float64; of exactly this shape where one is given.

    A file that claims a large shape costs nothing: the array is only as large as the numbers in the file.
    """
    kind = _not_a_number(value)
    if kind is not None:
        raise ValueError(f"{name[:100]}: expected numbers in lists, got {kind}")
    try:
        found = np.array(value, np.float64)
    except OverflowError as error:
        raise ValueError(f"{name[:100]}: expected numbers that fit float64: {error}") from error
    except ValueError as error:
        raise ValueError(f"{name[:100]}: expected numbers in lists of equal lengths, got unequal ones") from error
    if shape is not None and found.shape != shape:
        raise ValueError(f"{name}: expected numbers of shape {shape}, got {found.shape}")
    return found


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of lists of lists, taken from the first element of each."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def shown(value: Any) -> str:
    """A value in a message, short."""
    if isinstance(value, list):
        return f"lists of shape {shape_of(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."


def _not_a_number(value: Any) -> str | None:
    """The type of the first element that is not a number, or None. NumPy itself would take "1.5" and true."""
    if isinstance(value, list):
        return next((kind for element in value if (kind := _not_a_number(element)) is not None), None)
    return None if type(value) in (int, float) else type(value).__name__
