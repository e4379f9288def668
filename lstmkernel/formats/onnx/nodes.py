"""Nodes of an ONNX model as plain Python; in a call of a function, names and attributes mean what they mean there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

#: Longer names are refused, because messages contain them.
MOST_NAME = 500

#: AttributeProto.AttributeType: the field that holds the value.
_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs"}

#: What such a field holds, for messages.
_WORDS = {"f": "a float", "i": "an integer", "s": "a text", "t": "a tensor", "g": "a graph"}


class Attribute(NamedTuple):
    """An attribute's value; ``field`` is the field of AttributeProto that it stands in, such as "i" or "ints"."""

    field: str
    value: Any  # a list is protobuf's own, which is not copied: it may be long


class Call(NamedTuple):
    """The call of a function whose body is read; the plain ``Call()`` for what is in no function."""

    node: str = ""  # the name of the node that calls
    place: str = ""  # what the names of values inside begin with
    names: Mapping[str, str] = {}  # of the function's inputs and outputs: the names of the same values around the call
    attributes: Mapping[str, Attribute] = {}  # of the function
    within: tuple[tuple[str, str, str], ...] = ()  # the functions in which the call is

    def value(self, name: str) -> str:
        """The name in the graph of a value of the function's body."""
        return self.names.get(name, f"{self.place}{name}") if name else ""


class Body(NamedTuple):
    """The body of an If, Loop or Scan: a GraphProto, and the call in which it stands."""

    proto: Any
    call: Call


class Node(NamedTuple):
    """One operation, with the names of its inputs and outputs; "" is an input or output that is left out."""

    op: str  # with its domain, unless that is ONNX's own
    name: str  # the node's name; if it has none, that of its first output
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Attribute]

    def __str__(self) -> str:
        return f"{self.op} node {self.name!r}"

    def input(self, place: int) -> str:
        return self.inputs[place] if place < len(self.inputs) else ""

    def output(self, place: int) -> str:
        return self.outputs[place] if place < len(self.outputs) else ""

    def attribute(self, name: str, field: str, default: Any = None) -> Any:
        """An attribute's value, which must stand in ``field``."""
        if name not in self.attributes:
            return default
        found = self.attributes[name]
        if found.field != field:
            raise ValueError(f"{self}: {name}: expected {_in_words(field)}, got {_in_words(found.field)}")
        return found.value


def node(proto: Any, call: Call) -> Node:
    """Check a NodeProto and take it apart."""
    op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
    name = proto.name or next((name for name in proto.output if name), "")
    name = f"{call.node}/{name}" if call.node else name
    inputs, outputs = ([call.value(name) for name in names] for names in (proto.input, proto.output))
    for text in (op, name, *inputs, *outputs, *(attribute.name for attribute in proto.attribute)):
        expect_short(text)
    attributes: dict[str, Attribute] = {}
    for each in proto.attribute:
        if each.name in attributes:
            raise ValueError(f"{op} node {name!r}: attribute {each.name!r}: expected it once")
        found = attribute(each, f"{op} node {name!r}", call)
        if found:
            attributes[each.name] = found
    return Node(op, name, inputs, outputs, attributes)


def attribute(proto: Any, where: str, call: Call) -> Attribute | None:
    """An AttributeProto's value; that of the function's attribute which it refers to, None if that is not given."""
    if proto.type not in _FIELDS:
        raise ValueError(f"{where}: attribute {proto.name!r}: expected a value of a known type, got type {proto.type}")
    field = _FIELDS[proto.type]
    if proto.ref_attr_name:
        if not call.within:
            raise ValueError(f"{where}: attribute {proto.name!r}: expected a value, got an attribute of a function")
        found = call.attributes.get(proto.ref_attr_name)
        if found and found.field != field:
            raise ValueError(f"{where}: {proto.name}: expected {_in_words(field)}, got {_in_words(found.field)}")
        return found
    value = getattr(proto, field)
    if field == "g":
        value = Body(value, call)
    elif field == "graphs":
        value = [Body(each, call) for each in value]
    return Attribute(field, value)


def bodies(node: Node) -> list[Body]:
    """The graphs in a node's attributes: branches of an If, the body of a Loop or a Scan."""
    found: list[Body] = []
    for each in node.attributes.values():
        found += [each.value] if each.field == "g" else each.value if each.field == "graphs" else []
    return found


def _in_words(field: str) -> str:
    return _WORDS.get(field, f"a list of {field}")


def expect_short(name: str) -> None:
    if len(name) > MOST_NAME:
        raise ValueError(f"{name[:40]!r} ...: expected names of at most {MOST_NAME} characters, got {len(name)}")
