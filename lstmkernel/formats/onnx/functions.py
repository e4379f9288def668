"""A model's own functions: the body of each is put in the place of every call, with its own names for its values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lstmkernel.formats.onnx import nodes
from lstmkernel.formats.onnx.nodes import Attribute, Call, Node
from lstmkernel.formats.untrusted import limits

#: The most that a node's own part, a name or an attribute takes, beside the letters of names.
FIELD_BYTES = 200

#: How deep calls of functions may be nested.
MOST_NESTING = 32


class Functions:
    """The functions of one model, by domain, name and overload; counts the memory of their bodies."""

    def __init__(self, model: Any, given: int) -> None:
        """``given`` is the size of the file."""
        self._known: dict[tuple[str, str, str], Any] = {}
        self._given, self._made, self._calls = given, 0, 0
        for proto in model.functions:
            nodes.expect_short(proto.name)
            if _key(proto, proto.name) in self._known:
                raise ValueError(f"function {proto.name!r}: expected one of this name, domain and overload, got more")
            self._known[_key(proto, proto.name)] = proto

    def inlined(self, protos: Iterable[Any], call: Call) -> Iterator[Node]:
        """NodeProtos as nodes; for a call of a function those of its body."""
        for proto in protos:
            if call.within:
                names = len(proto.input) + len(proto.output)
                self._made += FIELD_BYTES * (1 + len(proto.attribute)) + (FIELD_BYTES + len(call.place)) * names
                limits.check("the functions that nodes call", self._made, self._given)
            node = nodes.node(proto, call)
            key = _key(proto, proto.op_type)
            if key in self._known:
                yield from self._body(node, key, call)
            else:
                yield node

    def _body(self, node: Node, key: tuple[str, str, str], outside: Call) -> Iterator[Node]:
        function = self._known[key]
        if key in outside.within:
            raise ValueError(f"{node}: expected functions that do not call themselves, got one that does")
        if len(outside.within) == MOST_NESTING:
            raise ValueError(f"{node}: expected at most {MOST_NESTING} calls of functions in one another, got more")
        inputs, outputs = list(function.input), list(function.output)
        if len(node.inputs) > len(inputs) or len(node.outputs) > len(outputs) or len({*inputs}) < len(inputs):
            raise ValueError(
                f"{node}: expected at most {len(inputs)} inputs and {len(outputs)} outputs of different names, as its "
                f"function has, got {len(node.inputs)} and {len(node.outputs)}"
            )
        names = {inner: node.input(place) for place, inner in enumerate(inputs)}
        handed_on = [place for place, inner in enumerate(outputs) if inner in names and node.output(place)]
        names |= {
            inner: node.output(place)
            for place, inner in enumerate(outputs)
            if inner not in names and node.output(place)
        }
        self._calls += 1
        place = f"{function.name}.{self._calls}/"
        yield from self.inlined(
            function.node, Call(node.name, place, names, _attributes(node, function), (*outside.within, key))
        )
        for number in handed_on:  # outputs that are inputs
            yield Node("Identity", node.name, [names[outputs[number]]], [node.output(number)], {})


def _key(proto: Any, name: str) -> tuple[str, str, str]:
    return "" if proto.domain == "ai.onnx" else proto.domain, name, proto.overload


def _attributes(node: Node, function: Any) -> dict[str, Attribute]:
    """The attributes that a function has in a call: those of the node, and its own where the node has none."""
    given = {proto.name: nodes.attribute(proto, str(node), Call()) for proto in function.attribute_proto}
    unknown = sorted({*node.attributes} - {*given, *function.attribute})
    if unknown:
        raise ValueError(f"{node}: expected the attributes of its function, got {', '.join(unknown[:6])}")
    return {name: value for name, value in given.items() if value} | node.attributes
