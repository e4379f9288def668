"""JSON from a file that may be hostile: no key twice, and no more memory than the file's size allows for."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.untrusted import limits

#: Bytes of the Python objects that a character of the text stands for: containers, strings (by their quotes), elements.
_COSTS = {b"{": 240, b"[": 72, b'"': 32, b",": 40, b":": 8}


def read(path: str) -> Any:
    """The value of a JSON file in UTF-8."""
    size = os.path.getsize(path)
    limits.check("JSON", size, size)
    with open(path, "rb") as file:
        return parse(file.read())


def parse(data: bytes) -> Any:
    """The value of JSON in UTF-8, or a ValueError that says where it stops being that."""
    limits.check("JSON", sum(cost * data.count(mark) for mark, cost in _COSTS.items()), 2 * len(data))
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise ValueError(f"JSON: expected UTF-8, got byte {data[error.start]:#04x} at {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("JSON: nests too deeply") from error


def array(name: str, value: Any) -> Array:
    """Numbers in lists, or in lists of lists and so on, as float64; anything else is a ValueError about ``name``."""
    kind = _kind(value)
    if kind is not None:
        raise ValueError(f"{name[:100]}: expected numbers in lists, got {kind}")
    try:
        return np.array(value, np.float64)
    except OverflowError as error:
        raise ValueError(f"{name[:100]}: expected numbers that fit float64: {error}") from error
    except ValueError as error:
        raise ValueError(f"{name[:100]}: expected numbers in lists of equal lengths, got others") from error


def _kind(value: Any) -> str | None:
    """What is there instead of a number in a list; None where nothing is. NumPy itself would take "1.5" and true."""
    if isinstance(value, list):
        return next((kind for element in value if (kind := _kind(element)) is not None), None)
    return None if type(value) in (int, float) else type(value).__name__


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"JSON: key {twice[:100]!r} is there twice")
    return found
