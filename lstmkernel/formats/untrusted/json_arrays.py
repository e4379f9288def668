"""Numbers out of parsed JSON: only what a model may hold, in the shape that it must have."""

from __future__ import annotations

import mmap
from typing import Any

from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments
from lstmkernel.formats.untrusted import json_text


def mentions(path: str, head: bytes, *keys: str) -> bool:
    """Whether the file begins as a JSON object does and has these keys somewhere, broken or not."""
    if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return all(text.find(b'"%b"' % key.encode()) >= 0 for key in keys)


def array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Numbers in lists as float64 of exactly this shape. What a shape claims costs nothing."""
    found = json_text.array(name, value)
    if found.shape != shape:
        raise ValueError(f"{name}: expected numbers of shape {shape}, got {found.shape}")
    return found


def shape_of(value: Any) -> tuple[int, ...]:
    """That of lists of lists, by the first of each."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def field(mapping: Any, key: str, kind: type, default: Any = None, *, where: str = "") -> Any:
    """mapping[key], of that kind; where: what stands before the key in messages."""
    if not isinstance(mapping, dict):
        raise ValueError(f"{where.removesuffix('.') or 'JSON'}: expected an object, got {shown(mapping)}")
    value = mapping.get(key, default)
    if value is None and key not in mapping:
        raise ValueError(f"{where}{key}: missing, among {', '.join(map(shown, list(mapping)[:8])) or 'nothing'}")
    if not isinstance(value, kind):
        raise ValueError(f"{where}{key}: expected {_KINDS[kind]}, got {shown(value)}")
    return value


def size(mapping: Any, key: str, default: int | None = None, *, where: str = "", least: int = 1) -> int:
    """An integer of at least ``least`` under that key."""
    value = field(mapping, key, int, default, where=where)
    try:
        return arguments.size(f"{where}{key}", value, least)
    except TypeError as error:  # a bool
        raise ValueError(str(error)) from error


def shown(value: Any) -> str:
    """Short enough for a message."""
    if isinstance(value, list):
        return f"lists of shape {shape_of(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."


_KINDS = {bool: "true or false", int: "an integer", str: "a string", list: "a list", dict: "an object"}
