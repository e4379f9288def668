"""The memory that parsing an ONNX model will take, counted from its bytes before protobuf parses them.

A parsed message takes more memory than its bytes in the file: two bytes can become a hundred. A model consists almost
entirely of raw weights, where this does not matter, but a hostile file can consist of messages alone.
"""

from __future__ import annotations

from lstmkernel.formats.untrusted import limits

#: For each message of onnx.proto, its fields that are messages themselves, by number.
MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "small", 14: "small", 20: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "small", 15: "sparse", 16: "small"},
    "node": {5: "attribute", 9: "small", 10: "small"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        14: "value",
        15: "value",
        22: "sparse",
        23: "sparse",
    },
    "tensor": {3: "small", 13: "small", 16: "small"},
    "sparse": {1: "tensor", 2: "tensor"},
    "value": {2: "small", 4: "small"},
    "function": {7: "node", 9: "small", 10: "small", 11: "attribute", 12: "value", 14: "small"},
    "small": {},
}
#: Packed lists of integers, by number. An integer takes one byte or more in the file and eight in memory.
PACKED = {"tensor": {1, 5, 7, 11}, "attribute": {8}, "sparse": {3}}

#: The most that a parsed field takes: the message, its name, its place in a list.
FIELD_BYTES = 200

MOST_NESTING = 64


def check(data: bytes) -> None:
    """ValueError for bytes that are not protobuf, or that would take too much memory when parsed."""
    needed, waiting = 0, [("model", 0, len(data), 0)]
    while waiting:
        kind, at, end, depth = waiting.pop()
        if depth > MOST_NESTING:
            raise ValueError(f"expected at most {MOST_NESTING} messages in one another, got more")
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
            inner = MESSAGES[kind].get(field)
            if wire == 2 and inner:
                waiting.append((inner, at, at + size, depth + 1))
            elif wire == 2 and field in PACKED.get(kind, ()):
                needed += 8 * size
            at += size
        limits.check("the model's structure", needed, len(data))


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
