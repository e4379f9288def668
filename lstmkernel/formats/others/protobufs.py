"""Protobuf messages that begin as an ONNX model does, told from each other by their fields."""

from __future__ import annotations

from lstmkernel.formats.untrusted.protobuf import fields

#: Where Core ML's Model has the network: one of many fields from this number on.
_CORE_ML_NETWORKS = 200


def kind(head: bytes) -> str | None:
    """ "Core ML", "SavedModel", "GraphDef" or "MetaGraphDef"; None for ONNX and for what is no such message."""
    if head[:1] == b"\x0a":
        return _graph(head)
    if head[:1] != b"\x08":
        return None
    for number, value in fields(head):
        if number >= _CORE_ML_NETWORKS:
            return "Core ML"
        if number == 2 and isinstance(value, bytes) and not _is_text(value):
            return _described(value)
    return None


def _described(message: bytes) -> str | None:
    """Field 2 of Core ML's Model describes inputs, each with a name; that of a SavedModel is a graph."""
    first = next(fields(message), None)
    if first is None or first.number not in (1, 2, 10, 11, 100) or isinstance(first.value, int):
        return None
    inner = next(fields(first.value), None)
    named = inner is not None and inner.number == 1 and isinstance(inner.value, bytes) and _is_text(inner.value)
    return "Core ML" if named or first.number >= 10 else "SavedModel"


def _graph(head: bytes) -> str | None:
    """TensorFlow's GraphDef begins with a node, which has a name and an operator; a MetaGraphDef with its origin."""
    first = next(fields(head), None)
    inner = list(fields(first.value, 8)) if first and isinstance(first.value, bytes) else []
    texts = {number for number, value in inner if isinstance(value, bytes) and value and _is_text(value)}
    if [field.number for field in inner[:2]] == [1, 2] and texts >= {1, 2}:
        return "GraphDef"
    return "MetaGraphDef" if texts & {4, 5, 6} else None


def _is_text(value: bytes) -> bool:
    return all(32 <= byte < 127 for byte in value[:200])
