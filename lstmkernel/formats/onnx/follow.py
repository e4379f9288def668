"""The layers between a graph's inputs and outputs, found by following every number of the signal.

The signal is an array of labels, a different one for each number, and the operators between two layers move labels as
they would move numbers. So that a Transpose and a Reshape put the directions side by side is not guessed from their
names: it is true where every label arrives at its place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx import data_movement, dense, fold, graph_outputs, operator, symbols
from lstmkernel.formats.onnx import graph as onnx_graph
from lstmkernel.formats.onnx.dense import ACTIVATIONS, Dense
from lstmkernel.formats.onnx.graph import Graph, Node
from lstmkernel.formats.onnx.graph_inputs import Caller
from lstmkernel.formats.onnx.symbols import Signal, equal
from lstmkernel.formats.onnx.tensors import TYPES, Reader

#: Stand for time and batch where the file leaves them open: unlike other sizes, and each other.
OPEN = (17, 19)


class Found(NamedTuple):
    """What a graph holds."""

    parts: list[list[operator.Layer] | Dense]  # LSTM nodes that are the layers of one LSTM, and Dense layers
    batch_first: bool


class Scope(NamedTuple):
    """A graph, with what it sees, and the layers that its LSTM nodes are, by the nodes' outputs, once they are read."""

    graph: Graph
    constants: Mapping[str, Array]
    layers: dict[tuple[str, ...], operator.Layer]


class Follower:
    """Follows the signal through the nodes of a graph, for one choice of the sizes that the file leaves open."""

    def __init__(
        self,
        scope: Scope,
        reader: Reader,
        inputs: Mapping[str, tuple[int, ...]],
        source: str,
        chosen: Sequence[Node] | None = None,
        sizes: tuple[int, int] = OPEN,
    ) -> None:
        """``inputs`` are shapes of the graph's inputs, ``source`` the one that is x. ``chosen`` LSTM nodes are followed
        alone, from the first one's X on, with ``sizes`` for T and B, and whatever else there is may be unknown; None
        for the whole graph."""
        self._graph, self._constants, self._known_layers = scope
        self._reader, self._chosen, self._sizes = reader, chosen, sizes
        self._values: dict[str, Array] = {}  # constants that depend on the choice of sizes
        self._signals: dict[str, Signal] = {}
        self._next = 0
        self._layers: list[operator.Layer | Dense] = []
        self._states: list[tuple[Array, Array]] = []  # labels of h_n and c_n of each LSTM node
        self._batch_first: bool | None = None
        self._lengths: list[tuple[Node, str]] = []  # of each LSTM node, which input they are
        self._of_caller: Node | None = None  # an LSTM whose states are not constants
        for name, shape in inputs.items():
            kind = np.dtype(TYPES.get(scope.graph.inputs[name].type.tensor_type.elem_type, ("?",))[0]).kind
            self._signals[name] = Signal(self._fresh(name, shape), kind)
        self._caller = Caller(self._signals)
        self._out = self._signals[source].labels if source in self._signals else None

    def follow(self) -> Found:
        for node in self._graph.nodes:
            if not all(name in self._constants for name in node.outputs if name):
                self._step(node)
        if not any(isinstance(layer, operator.Layer) for layer in self._layers):
            raise ValueError(f"no LSTM: expected an LSTM node, got {onnx_graph.ops(self._graph)}")
        self._expect_one_caller()
        joins = [True] * (len(self._states) - 1)
        if self._chosen is None and self._out is not None:
            outputs = {name: self._signals.get(name) for name in self._graph.outputs}
            joins = graph_outputs.joins(outputs, self._layers[-1], self._out, self._states)
        return Found(graph_outputs.parts(self._layers, joins), bool(self._batch_first))

    def _expect_one_caller(self) -> None:
        """A call has one ``lengths`` for all LSTMs, and one ``state``, which takes the place of all constants."""
        for node, lengths in self._lengths:
            if lengths != self._lengths[0][1]:
                raise ValueError(f"{node}: sequence_lens: expected the same for all LSTMs, or none, got others")
        if self._of_caller and any(isinstance(layer, operator.Layer) and layer.first for layer in self._layers):
            raise ValueError(
                f"{self._of_caller}: initial states: expected all constant or all the caller's, as the state of a call "
                "takes the place of all constants, got both"
            )

    # ---------------------------------------------------------------- values

    def _fresh(self, what: str, shape: tuple[int, ...]) -> Array:
        count = prod(shape)
        if count + self._next >= 2**31 - 1:
            raise ValueError(
                f"{what}: shape {shape} is too large to follow; export with dynamic axes, or choose with prefix="
            )
        self._reader.make(what, symbols.BYTES * count)
        self._next += count
        return np.arange(self._next - count, self._next, dtype=np.int32).reshape(shape)

    def _constant(self, name: str) -> Array | None:
        return next((held[name] for held in (self._values, self._constants) if name in held), None)

    def _step(self, node: Node) -> None:
        if node.op == "LSTM":
            if self._chosen is None or node in self._chosen:
                self._lstm(node)
        elif self._chosen is None:
            self._known(node, self._inputs(node))
        else:
            with contextlib.suppress(ValueError):  # unknown, and no harm where no chosen LSTM takes it
                self._beside_chosen(node)

    def _inputs(self, node: Node) -> list[Signal | Array | None]:
        return [self._signals.get(name, self._constant(name)) if name else None for name in node.inputs]

    def _beside_chosen(self, node: Node) -> None:
        if all(name in self._values or name in self._constants for name in node.inputs if name):
            self._values |= {name: _NOT_ZERO for name in node.outputs if name}  # unless it is understood
        if node.op not in fold.FOLDED:
            return
        inputs = self._inputs(node)
        known = all(not name or value is not None for name, value in zip(node.inputs, inputs, strict=True))
        if known and not any(_of_unknown_shape(value) for value in inputs):
            self._known(node, inputs)
        elif node.op in (*data_movement.NAMES, "ConstantOfShape"):
            self._constant_of_unknown_shape(node, inputs)

    def _known(self, node: Node, inputs: list[Signal | Array | None]) -> None:
        """A node that is not an LSTM, all of whose inputs are known."""
        signals = [value for value in inputs if isinstance(value, Signal)]
        arrays = [value for value in inputs if not isinstance(value, Signal)]
        if node.op == "Shape" and signals:
            self._values[node.output(0)] = fold.shape_of(node, signals[0].labels)
        elif node.op == "Cast" and signals:
            self._cast(node, signals[0])
        elif node.op in data_movement.NAMES and signals:
            self._move(node, inputs)
        elif signals and self._chosen is None:
            self._head(node, inputs)
        else:
            unknown = signals or any(name and array is None for name, array in zip(node.inputs, arrays, strict=True))
            understood = node.op in fold.FOLDED and not unknown
            value = fold.folded(node, arrays, self._reader) if understood else None
            if value is None:
                raise _not_understood(node)
            self._values[node.output(0)] = value

    def _constant_of_unknown_shape(self, node: Node, inputs: Sequence[Signal | Array | None]) -> None:
        """Zeros for a batch of any size are zeros before it is known; what is not zero is refused as a state.

        They stand as one number without dimensions, 0 or 1.
        """
        data = inputs[0] if inputs else None
        if node.op == "ConstantOfShape":
            value = node.attributes.get("value")
            data = np.zeros(1, np.float32) if value is None else self._reader.array(value)
        if isinstance(data, np.ndarray) and data.dtype.kind == "f":
            self._values[node.output(0)] = np.array(fold.once(data).any(), np.float32)

    def _cast(self, node: Node, signal: Signal) -> None:
        to = TYPES.get(node.attributes.get("to", 0), ("?",))[0]
        kind = {"bfloat16": "f", "?": "?"}.get(to) or np.dtype(to).kind
        if kind != signal.kind:
            raise ValueError(f"{node}: expected floating-point numbers or lengths to stay what they are, got {to}")
        self._signals[node.output(0)] = signal

    def _move(self, node: Node, inputs: list[Signal | Array | None]) -> None:
        data = inputs if node.op == "Concat" else inputs[:1]
        kinds = {value.kind if isinstance(value, Signal) else "constant" for value in data}
        if len(kinds) != 1 or any(isinstance(value, Signal) for value in inputs[len(data) :]):
            raise _not_understood(node)
        arrays = [value.labels if isinstance(value, Signal) else value for value in inputs]
        moved = data_movement.move(node, arrays, self._reader)
        if node.op == "Slice":
            self._expect_known_part(node, arrays)
        self._signals[node.output(0)] = Signal(moved, kinds.pop())

    def _expect_known_part(self, node: Node, inputs: list[Array | None]) -> None:
        """A bound beyond the sizes that are tried here, but not endless, would cut longer inputs."""
        data = inputs[0]
        assert data is not None
        for extent, chosen in zip(data.shape, data_movement.slices(node, data, inputs), strict=True):
            bounds = [bound for bound in (chosen.start, chosen.stop) if bound is not None]
            if any(extent < abs(bound) < data_movement.END for bound in bounds):
                raise ValueError(f"{node}: expected to take all or a part of known size, got bounds {bounds}")

    # ---------------------------------------------------------------- LSTMs

    def _lstm(self, node: Node) -> None:
        layer = self._layer(node)
        x = self._signals.get(node.input(0))
        if self._chosen is not None and not self._layers:
            x = Signal(self._fresh(str(node), (*self._sizes, layer.input_size)), "f")
            self._out = x.labels.swapaxes(0, 1) if layer.rows_first else x.labels
        if x is None:
            raise ValueError(f"{node}: X: expected the input or the output of the layer below, got {node.input(0)!r}")
        steps_first = x.labels.swapaxes(0, 1) if layer.rows_first and x.labels.ndim == 3 else x.labels
        self._take(node, steps_first, layer.input_size)
        T, B, D, H = *steps_first.shape[:2], layer.directions, layer.hidden_size
        h, c = (self._initial_state(layer, place, name, B) for place, name in ((5, "initial_h"), (6, "initial_c")))
        if h is not None or c is not None:
            zeros = np.zeros((layer.directions, layer.hidden_size), np.float32)
            layer = layer._replace(first=(zeros if h is None else h, zeros if c is None else c))
        self._lengths.append((node, self._lengths_of(node)))
        self._out = out = self._fresh(str(node), (T, B, D * H))
        Y = out.reshape(T, B, D, H).transpose(0, 2, 1, 3)
        ends = [0 if layer.reverse or d else -1 for d in range(D)]
        Y_h = Y[ends, range(D)] if T else Y[:0]
        Y_c = self._fresh(str(node), (D, B, H))
        if layer.rows_first:
            Y, Y_h, Y_c = Y.transpose(2, 0, 1, 3), Y_h.swapaxes(0, 1), Y_c.swapaxes(0, 1)
        for place, labels in enumerate((Y, Y_h, Y_c)):
            if node.output(place):
                self._signals[node.output(place)] = Signal(labels, "f")
        self._layers.append(layer)
        self._states.append((Y_h, Y_c))

    def _layer(self, node: Node) -> operator.Layer:
        """Read once, though the graph is followed twice: its weights are copies."""
        key = tuple(node.outputs)
        if key not in self._known_layers:
            self._known_layers[key] = operator.layer(node, self._constants, self._reader)
        return self._known_layers[key]

    def _take(self, node: Node, x: Array, width: int) -> None:
        """Check that x (T, B, I) is the output of the layers so far; the first LSTM settles which axis is time."""
        out = self._out
        if out is None or x.ndim != 3 or x.shape[2] != width:
            raise ValueError(f"{node}: X: expected 3 dimensions, the last of {width} as in W, got shape {x.shape}")
        if self._batch_first is None:
            if equal(x, out):
                self._batch_first = False
            elif out.ndim == 3 and equal(x, out.swapaxes(0, 1)):
                self._batch_first = True
            elif out.ndim == 2 and equal(x, out[:, None]):
                self._batch_first = False
            if self._batch_first is not None:
                return
        elif equal(x, out):
            return
        below = self._layers[-1].node if self._layers else "the graph's input"
        raise ValueError(f"{node}: X: expected all of the output of {below}, in its order, got a part or another order")

    def _initial_state(self, layer: operator.Layer, place: int, name: str, B: int) -> Array | None:
        """Constants that every row begins with, (D, H); None for zeros and for what the caller gives."""
        value = layer.node.input(place)
        constant, signal = self._constant(value), self._signals.get(value)
        if not value:
            return None
        if constant is not None:
            alone = self._chosen is not None
            if not (alone and _of_unknown_shape(constant)):
                return operator.constant_state(layer, name, constant, None if alone else B)
            if not constant.any():
                return None
            raise ValueError(
                f"{layer.node}: {name}: expected zeros, or constants whose shape does not depend on other nodes, "
                f"got {value!r}; take them out of the model, and give them as the state of each call"
            )
        self._of_caller = layer.node
        if signal is not None:
            self._caller.state(layer, name, signal.labels, B)
        elif self._chosen is None:
            raise ValueError(f"{layer.node}: {name}: expected constants or an input of the graph, got {value!r}")
        return None

    def _lengths_of(self, node: Node) -> str:
        """What tells one LSTM's lengths from another's; "" for all steps."""
        name = node.input(4)
        if not name or self._chosen is not None:
            return name and "given"
        return self._caller.lengths(node, self._signals.get(name))

    # ---------------------------------------------------------------- heads

    def _head(self, node: Node, inputs: list[Signal | Array | None]) -> None:
        """A product with a constant matrix, or what completes the one before: its bias, its activation."""
        labels = next(value.labels for value in inputs if isinstance(value, Signal))
        constants = [value if isinstance(value, np.ndarray) else None for value in inputs]
        top = self._layers[-1] if self._layers else None
        begun = dense.begun(node, constants, self._reader)
        if begun:
            self._place(node, labels, begun.weight.shape[1], len(begun.weight))
            self._layers.append(begun)
            return
        completed = dense.completed(top, node, constants, labels.ndim) if isinstance(top, Dense) else None
        if not completed:
            raise _not_understood(node)
        self._place(node, labels, len(completed.weight))
        self._layers[-1] = completed

    def _place(self, node: Node, labels: Array, width: int, new_width: int | None = None) -> None:
        """The signal after a node that works on each row of the output so far; what was before is not to be used."""
        new_width = width if new_width is None else new_width
        rows = None if self._out is None else symbols.rows(labels, self._out, width)
        if rows is None or self._out is None:
            below = self._layers[-1].node if self._layers else "the graph's input"
            raise ValueError(f"{node}: expected the outputs of {below} at some or all steps, each whole and in order")
        out = self._fresh(str(node), (*self._out.shape[:-1], new_width))
        self._out = out
        self._reader.make(str(node), symbols.BYTES * rows.size * new_width)
        self._signals[node.output(0)] = Signal(out.reshape(-1, new_width)[rows], "f")


#: Stands for constants that are not followed, and not to be taken for a state of zeros.
_NOT_ZERO = np.ones((), np.float32)


def _of_unknown_shape(value: Signal | Array | None) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind == "f"


def _not_understood(node: Node) -> ValueError:
    kind = {"GRU": ": a GRU, not an LSTM", "RNN": ": a plain RNN, not an LSTM"}.get(node.op, "")
    way_out = "choose LSTM nodes alone with prefix="
    if node.op in ("Softmax", "LogSoftmax"):
        way_out = f"export the model without its {node.op} and apply that to the output, or {way_out}"
    return ValueError(
        f"{node}: expected LSTMs, or MatMul, Gemm, Add, {', '.join(ACTIVATIONS)} that make a Dense layer, or what only "
        f"moves numbers between them; got {node.op}{kind}; {way_out}"
    )
