"""A graph of an ONNX model, as plain Python: nodes in order, each value made once, before it is used."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, NamedTuple

from lstmkernel.formats.onnx.functions import Functions
from lstmkernel.formats.onnx.nodes import Body, Node, expect_short

#: The operator LSTM has not changed since this operator set.
OLDEST_OPSET = 7


class Graph(NamedTuple):
    """The main graph, or the body of an If or Loop, which also sees the values around it."""

    nodes: list[Node]
    initializers: dict[str, Any]  # TensorProtos
    inputs: dict[str, Any]  # ValueInfoProtos, without the inputs that have an initializer
    outputs: list[str]


@dataclass(frozen=True)
class Visible:
    """The names that a body sees: those of the graph around it, and what that graph sees."""

    own: set[str]
    outside: Container[str]

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.outside


def expect_known_opsets(model: Any, newest: int) -> None:
    """Check the version of ONNX's own operators that a model and its functions use."""
    for what, proto in (("", model), *((f"function {each.name[:100]!r}: ", each) for each in model.functions)):
        versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
        if not versions and proto is not model:
            continue  # a function that only calls others
        if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
            raise ValueError(
                f"{what}opset_import: expected one ONNX opset in {OLDEST_OPSET}..{newest}, got "
                f"{', '.join(map(str, versions[:6])) or 'none'}; onnx.version_converter converts older models, and a "
                "newer package onnx reads newer ones"
            )


def graph(body: Body, functions: Functions, outside: Container[str] = ()) -> Graph:
    """Check a GraphProto and take it apart. ``outside`` has the names that a body can use from the graphs around it."""
    proto, call = body
    initializers: dict[str, Any] = {}
    for tensor in proto.initializer:
        name = call.value(tensor.name)
        expect_short(name)
        if not tensor.name or name in initializers:
            raise ValueError(f"initializer {name!r}: expected a name of its own")
        initializers[name] = tensor
    inputs = {call.value(info.name): info for info in proto.input}
    if len(inputs) != len(proto.input):
        raise ValueError("graph inputs: expected different names, got one of them twice")
    inputs = {name: info for name, info in inputs.items() if name not in initializers}
    outputs = [call.value(info.name) for info in proto.output]
    for name in (*inputs, *outputs):
        expect_short(name)
    made = {*initializers, *inputs, *(call.value(sparse.values.name) for sparse in proto.sparse_initializer)}
    nodes = []
    for node in functions.inlined(proto.node, call):
        for name in node.inputs:
            if name and name not in made and name not in outside:
                raise ValueError(
                    f"{node}: expected inputs that exist before it, got {name!r}, which is made later or never"
                )
        for name in node.outputs:
            if name in made:
                raise ValueError(f"{node}: expected outputs of its own, got {name!r}, which exists already")
            if name:
                made.add(name)
        nodes.append(node)
    for name in outputs:
        if name not in made and name not in outside:
            raise ValueError(f"graph output {name!r}: expected a value that a node makes")
    return Graph(nodes, initializers, inputs, outputs)


def ops(graph: Graph) -> str:
    """The operators in a graph, for messages."""
    names = list(dict.fromkeys(node.op for node in graph.nodes))
    return ", ".join(names[:6]) + (" and others" if len(names) > 6 else "") if names else "no nodes"
