"""A graph of an ONNX model, as plain Python: nodes in order, each value made once, before it is used."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

#: The operator LSTM has not changed since this operator set.
OLDEST_OPSET = 7

#: Longer names are refused, because messages contain them.
MOST_NAME = 500

#: AttributeProto.AttributeType: the field that holds the value.
_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs"}


class Node(NamedTuple):
    """One operation, with the names of its inputs and outputs; "" is an input or output that is left out."""

    op: str  # with its domain, unless that is ONNX's own
    name: str  # the node's name; if it has none, that of its first output
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.op} node {self.name!r}"

    def input(self, place: int) -> str:
        return self.inputs[place] if place < len(self.inputs) else ""

    def output(self, place: int) -> str:
        return self.outputs[place] if place < len(self.outputs) else ""


class Graph(NamedTuple):
    """The main graph, or the body of an If or Loop, which also sees the values around it."""

    nodes: list[Node]
    initializers: dict[str, Any]  # TensorProtos
    inputs: dict[str, Any]  # ValueInfoProtos, without the inputs that have an initializer
    outputs: list[str]


def opset(model: Any, newest: int) -> int:
    """The version of ONNX's own operators that a model uses."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        raise ValueError(f"opset_import: expected one ONNX opset in {OLDEST_OPSET}..{newest}, got {versions or 'none'}")
    return int(versions[0])


def graph(proto: Any, outside: Collection[str] = ()) -> Graph:
    """Check a GraphProto and take it apart. ``outside`` are the names that a body can use from the graphs around it."""
    initializers: dict[str, Any] = {}
    for tensor in proto.initializer:
        _expect_short(tensor.name)
        if not tensor.name or tensor.name in initializers:
            raise ValueError(f"initializer {tensor.name!r}: expected a name of its own")
        initializers[tensor.name] = tensor
    inputs = {info.name: info for info in proto.input if info.name not in initializers}
    if len({info.name for info in proto.input}) != len(proto.input):
        raise ValueError("graph inputs: expected different names, got one of them twice")
    for name in (*inputs, *(info.name for info in proto.output)):
        _expect_short(name)
    made = {*outside, *initializers, *inputs, *(sparse.values.name for sparse in proto.sparse_initializer)}
    nodes = []
    for proto_node in proto.node:
        node = _node(proto_node)
        for name in node.inputs:
            if name and name not in made:
                raise ValueError(
                    f"{node}: expected inputs that exist before it, got {name!r}, which is made later or never"
                )
        for name in node.outputs:
            if name in made and name not in outside:
                raise ValueError(f"{node}: expected outputs of its own, got {name!r}, which exists already")
        made |= {name for name in node.outputs if name}
        nodes.append(node)
    outputs = [info.name for info in proto.output]
    for name in outputs:
        if name not in made:
            raise ValueError(f"graph output {name!r}: expected a value that a node makes")
    return Graph(nodes, initializers, inputs, outputs)


def bodies(node: Node) -> Iterator[Any]:
    """The GraphProtos in a node's attributes: branches of an If, the body of a Loop or a Scan."""
    for value in node.attributes.values():
        for part in value if isinstance(value, list) else [value]:
            if type(part).__name__ == "GraphProto":
                yield part


def ops(graph: Graph) -> str:
    """The operators in a graph, for messages."""
    names = list(dict.fromkeys(node.op for node in graph.nodes))
    return ", ".join(names[:6]) + (" and others" if len(names) > 6 else "") if names else "no nodes"


def _node(proto: Any) -> Node:
    op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
    name = proto.name or next((name for name in proto.output if name), "")
    for text in (op, name, *proto.input, *proto.output, *(attribute.name for attribute in proto.attribute)):
        _expect_short(text)
    attributes: dict[str, Any] = {}
    for attribute in proto.attribute:
        if attribute.name in attributes or attribute.type not in _FIELDS:
            raise ValueError(f"{op} node {name!r}: attribute {attribute.name!r}: expected it once, and of a known type")
        value = getattr(attribute, _FIELDS[attribute.type])
        attributes[attribute.name] = list(value) if attribute.type > 5 else value
    return Node(op, name, list(proto.input), list(proto.output), attributes)


def _expect_short(name: str) -> None:
    if len(name) > MOST_NAME:
        raise ValueError(f"{name[:40]!r} ...: expected names of at most {MOST_NAME} characters, got {len(name)}")
