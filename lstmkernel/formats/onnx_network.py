"""The layers between a graph's inputs and outputs, found by following every number of the signal.

The signal is an array of labels, a different one for each number, and the operators between two layers move labels as
they would move numbers. So that a Transpose and a Reshape put the directions side by side is not guessed from their
names: it is true where every label arrives at its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats import onnx_constants, onnx_graph, onnx_lstm, onnx_moves
from lstmkernel.formats.onnx_graph import Graph, Node
from lstmkernel.formats.onnx_tensors import TYPES, Reader

ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax"}


class Signal(NamedTuple):
    """Numbers that depend on the input: a label for each."""

    labels: Array
    kind: str  # of NumPy's dtype: "f", or "i" for lengths


@dataclass
class Dense:
    """A product with a matrix, and what has followed it so far."""

    node: Node
    weight: Array
    bias: Array | None = None
    activation: str = "linear"


@dataclass
class Found:
    """What a graph holds."""

    parts: list[list[onnx_lstm.Layer] | Dense]  # LSTM nodes that are the layers of one LSTM, and Dense layers
    batch_first: bool


class Follower:
    """Follows the signal through the nodes of a graph, for one choice of the sizes that the file leaves open."""

    def __init__(
        self,
        graph: Graph,
        constants: Mapping[str, Array],
        reader: Reader,
        inputs: Mapping[str, tuple[int, ...]],
        source: str,
        chosen: Sequence[Node] | None = None,
    ) -> None:
        """``inputs`` are shapes of the graph's inputs, ``source`` the one that is x. ``chosen`` LSTM nodes are followed
        alone, from the first one's X on, and whatever else there is may be unknown; None for the whole graph."""
        self._graph, self._reader, self._chosen = graph, reader, chosen
        self._constants, self._values = constants, dict[str, Array]()  # the latter depend on the choice of sizes
        self._signals: dict[str, Signal] = {}
        self._next = 0
        self._layers: list[onnx_lstm.Layer | Dense] = []
        self._states: list[tuple[Array, Array]] = []  # labels of h_n and c_n of each LSTM node
        self._batch_first: bool | None = None
        self._given: dict[str, tuple[str, int]] = {}  # which input the states are taken from, and its next label
        for name, shape in inputs.items():
            kind = np.dtype(TYPES.get(graph.inputs[name].type.tensor_type.elem_type, ("?",))[0]).kind
            self._signals[name] = Signal(self._fresh(name, shape), kind)
        self._out = self._signals[source].labels if source in self._signals else None

    def follow(self) -> Found:
        for node in self._graph.nodes:
            if not all(name in self._constants for name in node.outputs if name):
                self._step(node)
        if not any(isinstance(layer, onnx_lstm.Layer) for layer in self._layers):
            raise ValueError(f"no LSTM: expected an LSTM node, got {onnx_graph.ops(self._graph)}")
        return Found(_parts(self._layers, self._joins()), bool(self._batch_first))

    # ---------------------------------------------------------------- values

    def _fresh(self, what: str, shape: tuple[int, ...]) -> Array:
        count = prod(shape)
        if count + self._next >= 2**31 - 1:
            raise ValueError(
                f"{what}: shape {shape} is too large to follow; export with dynamic axes, or choose with prefix="
            )
        self._reader.make(what, 4 * count)
        self._next += count
        return np.arange(self._next - count, self._next, dtype=np.int32).reshape(shape)

    def _constant(self, name: str) -> Array | None:
        return self._values[name] if name in self._values else self._constants.get(name)

    def _step(self, node: Node) -> None:
        if node.op == "LSTM":
            if self._chosen is None or node in self._chosen:
                self._lstm(node)
            return
        inputs = [self._signals.get(name, self._constant(name)) if name else None for name in node.inputs]
        known = all(not name or value is not None for name, value in zip(node.inputs, inputs, strict=True))
        of_known_shape = known and node.op in onnx_constants.FOLDED and not (inputs and _of_unknown_shape(inputs[0]))
        if self._chosen is None or of_known_shape:
            self._known(node, inputs)
        elif node.op in (*onnx_moves.NAMES, "ConstantOfShape", "Tile"):
            self._constant_of_unknown_shape(node, inputs)

    def _known(self, node: Node, inputs: list[Signal | Array | None]) -> None:
        """A node that is not an LSTM, all of whose inputs are known."""
        signals = [value for value in inputs if isinstance(value, Signal)]
        if node.op == "Shape" and signals:
            self._values[node.output(0)] = onnx_constants.shape_of(node, signals[0].labels)
        elif node.op == "Cast" and signals:
            self._cast(node, signals[0])
        elif node.op in onnx_moves.NAMES and signals:
            self._move(node, inputs)
        elif signals and self._chosen is None:
            self._head(node, inputs)
        else:
            arrays = [value for value in inputs if not isinstance(value, Signal)]
            value = onnx_constants.folded(node, arrays, self._reader) if node.op in onnx_constants.FOLDED else None
            if value is None:
                raise _not_understood(node)
            self._values[node.output(0)] = value

    def _constant_of_unknown_shape(self, node: Node, inputs: Sequence[Signal | Array | None]) -> None:
        """Zeros for a batch of any size are zeros before it is known, and what is not zero is no caller's state.

        They stand as one number without dimensions.
        """
        data = inputs[0] if inputs else None
        if node.op == "ConstantOfShape":
            value = node.attributes.get("value")
            data = np.zeros(1, np.float32) if value is None else self._reader.array(value)
        if isinstance(data, np.ndarray) and data.dtype.kind == "f":
            self._values[node.output(0)] = np.array(0 if onnx_constants.is_zero(data) else 1, np.float32)

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
        moved = onnx_moves.move(node, arrays, self._reader)
        if node.op == "Slice":
            self._expect_no_longer_end(node, arrays)
        self._signals[node.output(0)] = Signal(moved, kinds.pop())

    def _expect_no_longer_end(self, node: Node, inputs: list[Array | None]) -> None:
        """An end behind the sizes that are tried here, but not endless, would cut longer inputs."""
        data, ends = inputs[0], node.attributes.get("ends", inputs[2] if len(inputs) > 2 else None)
        if data is not None and ends is not None and any(max(data.shape) < end < onnx_moves.END for end in ends):
            raise ValueError(
                f"{node}: expected to take all or a part of known size, got ends {[int(end) for end in ends]}"
            )

    # ---------------------------------------------------------------- LSTMs

    def _lstm(self, node: Node) -> None:
        layer = onnx_lstm.layer(node, self._constants, self._reader)
        x = self._signals.get(node.input(0))
        if self._chosen is not None and not self._layers:
            x = Signal(self._fresh(str(node), (*OPEN, layer.input_size)), "f")
            self._out = x.labels.swapaxes(0, 1) if layer.rows_first else x.labels
        if x is None:
            raise ValueError(f"{node}: X: expected the input or the output of the layer below, got {node.input(0)!r}")
        steps_first = x.labels.swapaxes(0, 1) if layer.rows_first and x.labels.ndim == 3 else x.labels
        self._take(node, steps_first, layer.input_size)
        T, B, D, H = *steps_first.shape[:2], layer.directions, layer.hidden_size
        for place, name in ((5, "initial_h"), (6, "initial_c")):
            self._initial_state(layer, place, name, B)
        self._lengths(node)
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

    def _take(self, node: Node, x: Array, width: int) -> None:
        """Check that x (T, B, I) is the output of the layers so far; the first LSTM settles which axis is time."""
        out = self._out
        if out is None or x.ndim != 3 or x.shape[2] != width:
            raise ValueError(f"{node}: X: expected 3 dimensions, the last of {width} as in W, got shape {x.shape}")
        if self._batch_first is None:
            if _equal(x, out):
                self._batch_first = False
            elif out.ndim == 3 and _equal(x, out.swapaxes(0, 1)):
                self._batch_first = True
            elif out.ndim == 2 and _equal(x, out[:, None]):
                self._batch_first = False
            if self._batch_first is not None:
                return
        elif _equal(x, out):
            return
        below = self._layers[-1].node if self._layers else "the graph's input"
        raise ValueError(f"{node}: X: expected all of the output of {below}, in its order, got a part or another order")

    def _initial_state(self, layer: onnx_lstm.Layer, place: int, name: str, B: int) -> None:
        value = layer.node.input(place)
        if not value:
            return
        constant, signal = self._constant(value), self._signals.get(value)
        if constant is not None:
            known = not (self._chosen is not None and _of_unknown_shape(constant))
            onnx_lstm.constant_state(layer, name, constant, None if self._chosen is not None else B, known)
        elif signal is not None:
            self._callers_state(layer, name, signal.labels, B)
        elif self._chosen is None:
            raise ValueError(f"{layer.node}: {name}: expected zeros or an input of the graph, got {value!r}")

    def _callers_state(self, layer: onnx_lstm.Layer, name: str, labels: Array, B: int) -> None:
        """The next rows of one input of the graph, so that (L*D, B, H) of it is what h_0 and c_0 are here."""
        D, H = layer.directions, layer.hidden_size
        if labels.shape != ((B, D, H) if layer.rows_first else (D, B, H)):
            raise ValueError(f"{layer.node}: {name}: expected a state for {D} x {B} x {H}, got shape {labels.shape}")
        first = int(labels[0, 0, 0]) if labels.size else 0
        source = next((n for n in self._graph.inputs if n in self._signals and first in self._signals[n].labels), "")
        if not source and self._chosen is not None:
            return
        begin = self._given.get(name, (source, -1))
        contiguous = _equal(labels.ravel(), np.arange(first, first + labels.size, dtype=np.int32))
        if not source or not contiguous or begin[0] != source or begin[1] not in (-1, first):
            raise ValueError(f"{layer.node}: {name}: expected the layer's own part of an input of the graph, in order")
        self._given[name] = source, first + labels.size

    def _lengths(self, node: Node) -> None:
        name = node.input(4)
        if name and self._chosen is None and self._signals.get(name, Signal(np.empty(0), "")).kind != "i":
            raise ValueError(
                f"{node}: sequence_lens: expected an input of the graph, the caller's lengths, got {name!r}"
            )

    # ---------------------------------------------------------------- Dense heads

    def _head(self, node: Node, inputs: list[Signal | Array | None]) -> None:
        """A product with a constant matrix, or what completes the one before: its bias, its activation."""
        if node.op in ("MatMul", "Gemm") and len(inputs) >= 2:
            signal, weight = inputs[:2]
            if isinstance(signal, Signal) and isinstance(weight, np.ndarray) and weight.ndim == 2:
                self._product(node, signal.labels, weight, inputs[2] if len(inputs) > 2 else None)
                return
        top = self._layers[-1] if self._layers else None
        if isinstance(top, Dense):
            signal = next(value for value in inputs if isinstance(value, Signal))
            others = [value for value in inputs if isinstance(value, np.ndarray)]
            if node.op in ACTIVATIONS and top.activation == "linear":
                if node.op == "Softmax":
                    _expect_last_axis(node, signal.labels.ndim)
                self._place(node, signal.labels, len(top.weight))
                top.activation = ACTIVATIONS[node.op]
                return
            if node.op == "Add" and top.activation == "linear" and top.bias is None and len(others) == 1:
                self._place(node, signal.labels, len(top.weight))
                top.bias = _bias(node, others[0], len(top.weight))
                return
        raise _not_understood(node)

    def _product(self, node: Node, labels: Array, weight: Array, bias: Signal | Array | None) -> None:
        """Rows of the output so far, each times the matrix."""
        numbers = [node.attributes.get(name, 1.0) for name in ("alpha", "beta")]
        if numbers != [1.0, 1.0] or node.attributes.get("transA", 0) or isinstance(bias, Signal):
            raise ValueError(f"{node}: expected alpha = beta = 1 and transA = 0, got {numbers}, or a bias not constant")
        weight = weight if node.attributes.get("transB", 0) else weight.T  # (O, K), as Dense has it
        O, K = weight.shape
        if weight.dtype.kind != "f" or 0 in weight.shape:
            raise ValueError(f"{node}: expected a matrix of floating-point numbers, got {weight.dtype} {weight.shape}")
        self._reader.hand(str(node), weight)
        dense = Dense(node, weight, None if bias is None else _bias(node, bias, O))
        self._place(node, labels, K, O)
        self._layers.append(dense)

    def _place(self, node: Node, labels: Array, width: int, new_width: int | None = None) -> None:
        """The signal after a node that works on each row of the output so far; what was before is not to be used."""
        new_width = width if new_width is None else new_width
        rows = None if self._out is None else _rows(labels, self._out, width)
        if rows is None or self._out is None:
            below = self._layers[-1].node if self._layers else "the graph's input"
            raise ValueError(f"{node}: expected the outputs of {below} at some or all steps, each whole and in order")
        out = self._fresh(str(node), (*self._out.shape[:-1], new_width))
        self._out = out
        self._reader.make(str(node), 4 * rows.size * new_width)
        self._signals[node.output(0)] = Signal(out.reshape(-1, new_width)[rows], "f")

    # ---------------------------------------------------------------- outputs

    def _joins(self) -> list[bool]:
        """Check that outputs are of the last layer, or states; see which states the graph gives out by themselves."""
        lstms = len(self._states)
        joins = [True] * max(0, lstms - 1)
        if self._chosen is not None:
            return joins
        allowed = np.concatenate([self._out.ravel(), *(part.ravel() for pair in self._states for part in pair)])  # type: ignore[union-attr]
        for name in self._graph.outputs:
            signal = self._signals.get(name)
            if signal is None or not np.isin(signal.labels, allowed).all():
                raise ValueError(
                    f"graph output {name!r}: expected the output of the last layer, or last states of LSTMs"
                )
            holds = [any(np.isin(part, signal.labels).any() for part in pair) for pair in self._states]
            for place, (below, above) in enumerate(pairwise(holds)):
                joins[place] &= above or not below
        return joins


#: Stand for time and batch where the file leaves them open: unlike other sizes, and each other.
OPEN = (17, 19)


def _parts(layers: list[onnx_lstm.Layer | Dense], joins: list[bool]) -> list[list[onnx_lstm.Layer] | Dense]:
    """Neighbouring LSTM nodes together where one LSTM can be both; joins says of each but the first whether it may."""
    parts: list[list[onnx_lstm.Layer] | Dense] = []
    may_join = iter([False, *joins])
    for layer in layers:
        if isinstance(layer, Dense):
            parts.append(layer)
            continue
        below = parts[-1] if parts else None
        if next(may_join) and isinstance(below, list) and below[-1].options() == layer.options():
            below.append(layer)
        else:
            parts.append([layer])
    return parts


def _of_unknown_shape(value: Signal | Array | None) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind == "f"


def _equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def _rows(labels: Array, out: Array, width: int) -> Array | None:
    """Which rows of ``out`` the labels are, shape without the last axis; None where they are not whole rows in order.

    The labels of ``out``, or of its transpose, count up along its rows.
    """
    if labels.ndim < 1 or labels.shape[-1] != width or out.shape[-1] != width:
        return None
    flat = out.reshape(-1, width)
    order = np.argsort(flat[:, 0])
    rows = order[np.clip(np.searchsorted(flat[order, 0], labels[..., 0]), 0, len(order) - 1)] if len(order) else None
    return rows if rows is not None and _equal(flat[rows], labels) else None


def _bias(node: Node, value: Any, width: int) -> Array:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.shape[-1:] != (width,):
        raise ValueError(f"{node}: expected a bias of {width} constants, got {getattr(value, 'shape', 'a signal')}")
    if value.size != width:
        raise ValueError(f"{node}: expected a bias of {width} constants, got shape {value.shape}")
    return value.reshape(width)


def _expect_last_axis(node: Node, dimensions: int) -> None:
    """Left out, the axis is 1 before opset 13 and the last one since then: understood where these are the same.

    Before opset 13 all axes from the given one on are one row; of the last axis, each row is one either way.
    """
    axis = node.attributes.get("axis", 1)
    if axis not in (-1, dimensions - 1):
        raise ValueError(f"{node}: axis: expected -1 or {dimensions - 1}, the last one, got {axis!r:.40}")


def _not_understood(node: Node) -> ValueError:
    kind = {"GRU": ": a GRU, not an LSTM", "RNN": ": a plain RNN, not an LSTM"}.get(node.op, "")
    return ValueError(
        f"{node}: expected LSTMs, or MatMul, Gemm, Add, {', '.join(ACTIVATIONS)} that make a Dense layer, or what only "
        f"moves numbers between them; got {node.op}{kind}; choose LSTM nodes alone with prefix="
    )
