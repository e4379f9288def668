"""LSTM cells that are written out: one step as products, sums, sigmoids and tanhs, as PyTorch exports its LSTMCell.

A cell is told by what its nodes compute: c' = f * c + i * g and h' = o * tanh(c'), where each gate is an activation of
a product with x, a product with h, and perhaps biases. So it does not matter in which order the gates stand, how they
are cut out of one product, or how anything is named. Only where x is as wide as h, names tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx import data_movement
from lstmkernel.formats.onnx.graph import Graph
from lstmkernel.formats.onnx.linear import Linear, Linears
from lstmkernel.formats.onnx.nodes import Body, Node, bodies
from lstmkernel.formats.onnx.operator import LSTMNode
from lstmkernel.formats.onnx.tensors import TensorReader

#: What stands as the operator of the node that takes a cell's place. Its inputs and outputs are those of LSTM.
OP = "written-out LSTM cell"


class _Gates(NamedTuple):
    """What has the form of a cell's last nodes: o * tanh(f * c + i * g)."""

    sums: dict[str, str]  # by the gate's letter: the value that its sigmoid or tanh takes
    c: str
    new_c: str
    new_h: str
    name: str  # of the last node


class Cells(NamedTuple):
    """A graph in which one node stands for each written-out cell, and the cells by their node's outputs."""

    graph: Graph
    known: dict[tuple[str, ...], LSTMNode]


def fused(graph: Graph, constants: Mapping[str, Array], reader: TensorReader) -> Cells:
    """Put a node in the place of each cell that is written out."""
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    linears = Linears(makers, constants)
    cells: dict[str, LSTMNode] = {}  # by c': there stands the node of the cell, and makes h', too
    replaced: set[str] = set()
    weights_of: dict[tuple[Any, ...], dict[str, Array]] = {}
    for gates in _candidates(graph, makers):
        cell = _cell(gates, linears, makers, weights_of, reader)
        if cell:
            cells[gates.new_c] = cell
            replaced.add(gates.new_h)
    if not cells:
        return Cells(graph, {})
    nodes = [cells[n.output(0)].node if n.output(0) in cells else n for n in graph.nodes if n.output(0) not in replaced]
    return Cells(
        graph._replace(nodes=_needed(nodes, graph.outputs)), {tuple(c.node.outputs): c for c in cells.values()}
    )


def _needed(nodes: list[Node], outputs: list[str]) -> list[Node]:
    """The nodes without those that only served a cell. What anything else uses stays, and is then not understood."""
    wanted, kept = {*outputs}, []
    for node in reversed(nodes):
        if wanted.isdisjoint(name for name in node.outputs if name):
            continue
        wanted.update(node.inputs, *(_used(body) for body in bodies(node)))
        kept.append(node)
    return kept[::-1]


def _used(body: Body) -> Iterator[str]:
    """The names that a body may take from the graph around it."""
    yield from (body.call.value(info.name) for info in body.proto.output)
    for proto in body.proto.node:
        yield from map(body.call.value, proto.input)
        for attribute in proto.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _used(Body(inner, body.call))


def _candidates(graph: Graph, makers: Mapping[str, Node]) -> Iterator[_Gates]:
    def made(name: str, op: str) -> Node | None:
        node = makers.get(name)
        return node if node and node.op == op and len(node.inputs) == (1 if op in ("Sigmoid", "Tanh") else 2) else None

    def factors(node: Node, op: str) -> Iterator[tuple[Node, str]]:
        """Each factor of a product that is a sigmoid, or whatever ``op`` is, and the other factor."""
        for first, second in (node.inputs, node.inputs[::-1]):
            gate = made(first, op)
            if gate:
                yield gate, second

    for last in graph.nodes:
        if last.op != "Mul" or len(last.inputs) != 2:
            continue
        for o, shown in factors(last, "Sigmoid"):
            tanh = made(shown, "Tanh")
            total = made(tanh.input(0), "Add") if tanh else None
            if not tanh or not total:
                continue
            products = [made(name, "Mul") for name in total.inputs]
            for kept, written in (products, products[::-1]):
                if not kept or not written:
                    continue
                for f, c in factors(kept, "Sigmoid"):
                    for i, candidate in factors(written, "Sigmoid"):
                        g = made(candidate, "Tanh")
                        if g:
                            sums = {"i": i.input(0), "f": f.input(0), "g": g.input(0), "o": o.input(0)}
                            yield _Gates(sums, c, total.output(0), last.output(0), last.name)


def _cell(
    gates: _Gates,
    linears: Linears,
    makers: Mapping[str, Node],
    weights_of: dict[tuple[Any, ...], dict[str, Array]],
    reader: TensorReader,
) -> LSTMNode | None:
    """The cell, if each gate is the sum of a product with x, one with h, and biases."""
    found = {gate: linears.of(name) for gate, name in gates.sums.items()}
    sums = [each for each in (found[gate] for gate in "ifgo") if each is not None]
    if len(sums) < 4 or any({*each.products} != {*sums[0].products} for each in sums) or len(sums[0].products) != 2:
        return None
    H = sums[0].width
    names = _x_and_h(sums[0], H, gates.c, makers)
    if any(each.width != H for each in sums) or names is None or gates.c in names:
        return None
    x, h = names
    shared = _places(sums, x, h)
    if shared not in weights_of:
        weights_of[shared] = _weights(sums, x, h, gates.new_h, reader)
    weights = weights_of[shared]
    I = weights["weight_ih"].shape[1]
    node = Node(OP, _name(sums[0], x, gates), [x, "", "", "", "", h, gates.c], ["", gates.new_h, gates.new_c], {})
    return LSTMNode(node, I, H, "bias_ih" in weights, 1, False, False, None, weights)


def _weights(sums: list[Linear], x: str, h: str, what: str, reader: TensorReader) -> dict[str, Array]:
    """Weights in the order i, f, g, o, as of an LSTMNode."""
    weights = {}
    for name, source in (("ih", x), ("hh", h)):
        parts = [each.products[source].matrix.T for each in sums]
        for part in parts:
            reader.hand(what, part)
        weights[f"weight_{name}"] = np.concatenate(parts)
    if any(each.biases for each in sums):
        for name, sources in (("ih", (x, "")), ("hh", (h,))):
            weights[f"bias_{name}"] = np.concatenate([_bias(each, sources, weights["weight_ih"]) for each in sums])
    return weights


def _places(sums: list[Linear], x: str, h: str) -> tuple[Any, ...]:
    """Where in memory the constants are: the same for the steps of a loop, so that their weights are copied once."""
    arrays = [(source, each.products[source].matrix) for each in sums for source in (x, h)]
    arrays += [bias for each in sums for bias in each.biases]
    return tuple(
        (source == h, each.__array_interface__["data"][0], each.shape, each.strides) for source, each in arrays
    )


def _bias(sums: Linear, sources: tuple[str, ...], like: Array) -> Array:
    """The sum of a gate's biases that belong to these sources."""
    parts = [bias for source, bias in sums.biases if source in sources]
    total: Array = sum(parts, np.zeros(sums.width, like.dtype))
    return total


def _x_and_h(sums: Linear, H: int, c: str, makers: Mapping[str, Node]) -> tuple[str, str] | None:
    """Which of the two factors is x and which is h: h has H numbers.

    If both have, PyTorch's names tell, or h and c are parts of one value.
    """
    (a, first), (b, second) = sums.products.items()
    widths = [len(first.matrix), len(second.matrix)]
    if widths.count(H) == 1:
        return (a, b) if widths[1] == H else (b, a)
    if widths.count(H) == 2:
        for (x, of_x), (h, of_h) in (((a, first), (b, second)), ((b, second), (a, first))):
            if "weight_ih" in of_x.weight and "weight_hh" in of_h.weight:
                return x, h
            if _whole(h, makers) == _whole(c, makers) != _whole(x, makers):
                return x, h
    return None


def _whole(name: str, makers: Mapping[str, Node]) -> str:
    """The value that a value is a part of."""
    while name in makers and makers[name].op in (*data_movement.NAMES, "Split"):
        name = makers[name].input(0)
    return name


def _name(sums: Linear, x: str, gates: _Gates) -> str:
    """The module's name, if the weights have PyTorch's names; else that of the node that makes h'."""
    module, found, _ = sums.products[x].weight.rpartition(".weight_ih")
    return module if found and module else gates.name
