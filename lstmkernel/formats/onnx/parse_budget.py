"""The memory that parsing an ONNX model will take, counted from its bytes before protobuf parses them.

A parsed message takes more memory than its bytes in the file: two bytes can become a hundred. A model consists almost
entirely of raw weights, where this does not matter, but a hostile file can consist of messages alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lstmkernel.formats.untrusted import limits

#: The most that a parsed field takes: the message, its name, its place in a list.
FIELD_BYTES = 200

#: The most that an integer of a packed list takes, which has one byte or more in the file. Floating-point numbers take
#: the same in both.
INTEGER_BYTES = 8

MOST_NESTING = 64


class _Fields(NamedTuple):
    """The fields of a message, by number."""

    messages: dict[int, Any]  # those that are messages, with their descriptors
    integers: set[int]


def check(data: bytes, model: Any) -> None:
    """ValueError for bytes that are not protobuf, or that would take too much memory when parsed.

    ``model`` is protobuf's descriptor of ModelProto: it knows which fields are messages, in the version that parses.
    """
    known: dict[str, _Fields] = {}
    needed, waiting = 0, [(model, 0, len(data), 0)]
    while waiting:
        kind, at, end, depth = waiting.pop()
        if depth > MOST_NESTING:
            raise ValueError(f"expected at most {MOST_NESTING} messages in one another, got more")
        fields = known.get(kind.full_name) or known.setdefault(kind.full_name, _fields(kind))
        while at < end:
            key, at = _varint(data, at, end)
            field, wire = key >> 3, key & 7
            needed += FIELD_BYTES
            if wire == 0:
                _, at = _varint(data, at, end)
                continue
            size = {1: 8, 5: 4}.get(wire, 0)
            if wire == 2:
                size, at = _varint(data, at, end)
            if (size == 0 and wire != 2) or field == 0 or at + size > end:
                raise ValueError(f"not an ONNX model: expected a field at byte {at}, got key {key} and size {size}")
            if wire == 2 and field in fields.messages:
                waiting.append((fields.messages[field], at, at + size, depth + 1))
            elif wire == 2 and field in fields.integers:
                needed += INTEGER_BYTES * size
            at += size
        limits.check("the model's structure", needed, len(data))


def _fields(kind: Any) -> _Fields:
    messages = {field.number: field.message_type for field in kind.fields if field.message_type}
    no_integers = ("CPPTYPE_STRING", "CPPTYPE_MESSAGE", "CPPTYPE_FLOAT", "CPPTYPE_DOUBLE")
    integers = {f.number for f in kind.fields if f.cpp_type not in [getattr(f, name) for name in no_integers]}
    return _Fields(messages, integers)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    raise ValueError(f"not an ONNX model: expected a number that ends before byte {end}")
