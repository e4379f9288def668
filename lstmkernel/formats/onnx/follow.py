"""The layers between a graph's input and its outputs, found by following every number of the signal.

The signal is an array of labels, a different one for each number. Operators between two layers move labels as they
would move numbers. So nothing is guessed from the operators' names: if every label arrives at its place, a Transpose
and a Reshape do put the directions side by side, or the rows first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx import dense, graph_outputs, operator, other_recurrent, written_cell
from lstmkernel.formats.onnx import graph as onnx_graph
from lstmkernel.formats.onnx.chain import LayerChain
from lstmkernel.formats.onnx.dense import ACTIVATIONS, DenseNodes
from lstmkernel.formats.onnx.graph import Graph
from lstmkernel.formats.onnx.graph_inputs import GraphInputs
from lstmkernel.formats.onnx.nodes import Node
from lstmkernel.formats.onnx.operator import LSTMNode
from lstmkernel.formats.onnx.symbols import Labels, Signal
from lstmkernel.formats.onnx.tensors import TYPES, TensorReader
from lstmkernel.formats.onnx.values import Values, of_unknown_shape

#: The operators of nodes that are LSTMs.
LSTM_OPS = ("LSTM", written_cell.OP)

#: Sizes that stand for time and batch where the file leaves them open: unlikely in a model, and different.
OPEN = (17, 19)


#: The LSTM nodes that are the layers of one LSTM, or a Dense layer.
Part = list[LSTMNode] | DenseNodes


class FollowedNetwork(NamedTuple):
    """The network in a graph."""

    parts: list[Part]
    batch_first: bool
    expects: Literal["lengths"] | None  # what the model gives its LSTMs in each call
    elsewhere: list[tuple[Node, str]]  # LSTM nodes whose initial states come from what is not followed, and from where
    only: str = ""  # a key of notes.GIVES, where the graph gives a part of the output
    rows_first: bool = False  # of LSTM nodes alone: whether the model has x as (B, T, I) before the first of them


class Scope(NamedTuple):
    """A graph, the constants that it sees, and its LSTM nodes that were read so far, by their outputs."""

    graph: Graph
    constants: Mapping[str, Array]
    cells: Mapping[tuple[str, ...], LSTMNode]  # those that are written out, by the outputs of the nodes in their place
    known: dict[tuple[str, ...], LSTMNode]

    def lstm_node(self, node: Node, reader: TensorReader) -> LSTMNode:
        """Read once, because its weights are copies, and each graph is followed twice."""
        key = tuple(node.outputs)
        if key in self.cells:
            return self.cells[key]
        if key not in self.known:
            self.known[key] = operator.lstm_node(node, self.constants, reader)
        return self.known[key]


def whole_graph(
    scope: Scope, reader: TensorReader, inputs: Mapping[str, tuple[int, ...]], source: str
) -> FollowedNetwork:
    """The network that a graph is; ``inputs`` are shapes of the graph's inputs, and ``source`` is the one that is x."""
    labels, values = Labels(reader), Values(scope.constants, reader)
    signals = {}
    for name, shape in inputs.items():
        kind = np.dtype(TYPES.get(scope.graph.inputs[name].type.tensor_type.elem_type, ("?",))[0]).kind
        signals[name] = Signal(labels.fresh(name, shape), kind)
        values.put(name, signals[name])
    chain = LayerChain(signals[source].labels, labels, reader)
    given = GraphInputs(signals)
    for node in _to_follow(scope):
        if node.op in LSTM_OPS:
            _lstm(scope.lstm_node(node, reader), values.signal(node.input(0)), values, chain, given)
        elif not values.follow(node):
            _head(node, values, chain, reader)
    _check_found(scope, chain, given)
    assert chain.out is not None
    outputs = {name: values.signal(name) for name in scope.graph.outputs}
    joins = graph_outputs.joins(outputs, chain.layers[-1], chain.out, chain.states)
    only = graph_outputs.given_steps(outputs, chain.layers[-1], chain.out, chain.states)
    return _found(chain, given, joins)._replace(only=only)


def chosen_nodes(
    scope: Scope, reader: TensorReader, chosen: Sequence[Node], sizes: tuple[int, int] = OPEN
) -> FollowedNetwork:
    """The network of these LSTM nodes alone, from the first one's X on, with ``sizes`` for T and B.

    Whatever else is in the graph may be unknown.
    """
    labels, values = Labels(reader), Values(scope.constants, reader)
    chain, given = LayerChain(None, labels, reader), GraphInputs(None)
    for node in _to_follow(scope):
        if node not in chosen:
            if node.op not in LSTM_OPS:
                values.follow_if_known(node)
            continue
        layer, x = scope.lstm_node(node, reader), values.signal(node.input(0))
        if not chain.layers:
            leading = sizes if node.op == "LSTM" else sizes[1:]
            x = Signal(labels.fresh(str(node), (*leading, layer.input_size)), "f")
            chain.out = _steps_first(layer, x)
        _lstm(layer, x, values, chain, given)
    _check_found(scope, chain, given)
    joins = [True] * (len(chain.states) - 1)
    return _found(chain, given, joins)


def _found(chain: LayerChain, given: GraphInputs, joins: Sequence[bool]) -> FollowedNetwork:
    parts = graph_outputs.parts(chain.layers, joins)
    return FollowedNetwork(parts, bool(chain.batch_first), given.expects, given.elsewhere)


def _to_follow(scope: Scope) -> list[Node]:
    """The nodes whose outputs are not constants."""
    return [node for node in scope.graph.nodes if not all(name in scope.constants for name in node.outputs if name)]


def _check_found(scope: Scope, chain: LayerChain, given: GraphInputs) -> None:
    if not chain.lstms:
        raise ValueError(f"no LSTM: expected an LSTM node, got {onnx_graph.ops(scope.graph)}")
    given.check_one_call(chain.lstms)


# ---------------------------------------------------------------- one layer


def _lstm(layer: LSTMNode, x: Signal | None, values: Values, chain: LayerChain, given: GraphInputs) -> None:
    node = layer.node
    if x is None:
        raise ValueError(f"{node}: X: expected the input or the output of the layer below, got {node.input(0)!r}")
    steps_first = _steps_first(layer, x)
    chain.take(node, steps_first, layer.input_size)
    T, B = steps_first.shape[:2]
    h, c = (
        _initial_state(layer, place, name, B, values, given) for place, name in ((5, "initial_h"), (6, "initial_c"))
    )
    if h is not None or c is not None:
        zeros = np.zeros((layer.directions, layer.hidden_size), np.float32)
        layer = layer._replace(first=(zeros if h is None else h, zeros if c is None else c))
    given.take_lengths(node, values.signal(node.input(4)), values.constant(node.input(4)), T)
    for place, labels in enumerate(chain.add_lstm(layer, T, B)):
        if node.output(place):
            values.put(node.output(place), Signal(labels if node.op == "LSTM" else labels[0], "f"))


def _steps_first(layer: LSTMNode, x: Signal) -> Array:
    """The labels of X as (T, B, I), whatever the node's layout. A cell takes one step, (B, I)."""
    if layer.node.op != "LSTM":
        return x.labels[None] if x.labels.ndim == 2 else x.labels[:0]
    return x.labels.swapaxes(0, 1) if layer.rows_first and x.labels.ndim == 3 else x.labels


def _initial_state(layer: LSTMNode, place: int, name: str, B: int, values: Values, given: GraphInputs) -> Array | None:
    """Constants that every row begins with, (D, H); None for zeros and for a state that the caller gives."""
    value = layer.node.input(place)
    if not value:
        return None
    constant, signal = values.constant(value), values.signal(value)
    if layer.node.op != "LSTM":  # a cell has no axis for directions
        constant = constant if constant is None or of_unknown_shape(constant) else constant[None]
        signal = signal and signal._replace(labels=signal.labels[None])
    if constant is None:
        given.take_state(layer, name, place, signal, B)
        return None
    if given.known or not of_unknown_shape(constant):
        return operator.constant_state(layer, name, constant, B if given.known else None)
    if not constant.any():
        return None
    raise ValueError(
        f"{layer.node}: {name}: expected zeros, or constants whose shape does not depend on other nodes, got "
        f"{value!r}; remove them from the model and give them as the state of each call"
    )


def _head(node: Node, values: Values, chain: LayerChain, reader: TensorReader) -> None:
    """A product with a constant matrix, or a node that completes the one before: its bias, its activation."""
    inputs = values.inputs(node)
    taken = next((value.labels for value in inputs if isinstance(value, Signal)), None)
    if taken is None:
        raise _not_understood(node)
    constants = [value if isinstance(value, np.ndarray) else None for value in inputs]
    begun = dense.begun(node, constants, reader)
    if begun:
        out = chain.add_dense(node, begun, taken)
    else:
        completed = dense.completed(chain.top, node, constants, taken.ndim) if chain.top else None
        if not completed:
            raise _not_understood(node)
        out = chain.complete_dense(node, completed, taken)
    values.put(node.output(0), Signal(out, "f"))


def _not_understood(node: Node) -> ValueError:
    kind = f": {other_recurrent.NAMES[node.op]}" if node.op in other_recurrent.NAMES else ""
    softmax = f"; export the model without its {node.op} and apply that to the output"
    return ValueError(
        f"{node}: expected LSTMs, MatMul, Gemm, Add, {', '.join(ACTIVATIONS)} that form a Dense layer, and operators "
        f"that only move numbers; got {node.op}{kind}{softmax if node.op in ('Softmax', 'LogSoftmax') else ''}"
    )
