"""What is known of a graph's values while the signal is followed: constants as arrays, the signal as labels."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx import data_movement, fold, symbols
from lstmkernel.formats.onnx.nodes import Node
from lstmkernel.formats.onnx.symbols import Signal
from lstmkernel.formats.onnx.tensors import TYPES, TensorReader

Value = Signal | Array | None

#: Stands for a constant that is not computed, so that it is not taken for a state of zeros.
_NOT_ZERO = np.ones((), np.float32)


class Values:
    """Values by name, for one choice of the sizes that the file leaves open."""

    def __init__(self, constants: Mapping[str, Array], reader: TensorReader) -> None:
        self._constants = constants
        self._reader = reader
        self._computed: dict[str, Array] = {}  # constants that depend on the choice of sizes
        self._signals: dict[str, Signal] = {}

    def put(self, name: str, signal: Signal) -> None:
        self._signals[name] = signal

    def signal(self, name: str) -> Signal | None:
        return self._signals.get(name)

    def constant(self, name: str) -> Array | None:
        return next((held[name] for held in (self._computed, self._constants) if name in held), None)

    def inputs(self, node: Node) -> list[Value]:
        return [self._signals.get(name, self.constant(name)) if name else None for name in node.inputs]

    def follow(self, node: Node) -> bool:
        """Compute the output of a node that only moves numbers or computes constants; False for any other node."""
        inputs = self.inputs(node)
        signals = [value for value in inputs if isinstance(value, Signal)]
        if not signals:
            return self._fold(node, inputs)
        if node.op == "Shape":
            self._computed[node.output(0)] = fold.shape_of(node, signals[0].labels)
        elif node.op == "Cast":
            self._cast(node, signals[0])
        else:
            return node.op in data_movement.NAMES and self._move(node, inputs)
        return True

    def follow_if_known(self, node: Node) -> None:
        """The same in a graph of which only a part is known; an output that stays unknown is no error."""
        with contextlib.suppress(ValueError):
            if all(name in self._computed or name in self._constants for name in node.inputs if name):
                self._computed |= {name: _NOT_ZERO for name in node.outputs if name}  # replaced below if it is computed
            if node.op not in fold.FOLDED:
                return
            inputs = self.inputs(node)
            known = all(not name or value is not None for name, value in zip(node.inputs, inputs, strict=True))
            if known and not any(of_unknown_shape(value) for value in inputs) and self._follow_if_it_fits(node):
                return
            if node.op in (*data_movement.NAMES, "ConstantOfShape"):
                self._fold_without_shape(node, inputs)

    def _follow_if_it_fits(self, node: Node) -> bool:
        """The same; False where the sizes that are tried do not fit those of a constant."""
        try:
            self.follow(node)
        except ValueError:
            return False
        return True

    def _fold(self, node: Node, inputs: Sequence[Value]) -> bool:
        arrays = [value for value in inputs if not isinstance(value, Signal)]
        unknown = any(name and array is None for name, array in zip(node.inputs, arrays, strict=True))
        value = fold.folded(node, arrays, self._reader) if node.op in fold.FOLDED and not unknown else None
        if value is not None:
            self._computed[node.output(0)] = value
        return value is not None

    def _fold_without_shape(self, node: Node, inputs: Sequence[Value]) -> None:
        """A constant whose shape is unknown, such as zeros for a batch of any size.

        It stands as one number without dimensions: 0 if it holds only zeros, else 1, which is refused as a state.
        """
        data = inputs if node.op == "Concat" else inputs[:1]
        if node.op == "ConstantOfShape":
            value = node.attribute("value", "t")
            data = [np.zeros(1, np.float32) if value is None else self._reader.array(value)]
        arrays = [value for value in data if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
        if arrays and len(arrays) == len(data):
            self._computed[node.output(0)] = np.array(any(fold.once(array).any() for array in arrays), np.float32)

    def _cast(self, node: Node, signal: Signal) -> None:
        """A cast changes no label: the network computes everything in its own dtype."""
        to = TYPES.get(node.attribute("to", "i", 0), ("?",))[0]
        kind = {"bfloat16": "f", "?": "?"}.get(to) or np.dtype(to).kind
        if kind != signal.kind:
            raise ValueError(
                f"{node}: expected a cast from floating-point numbers to such, or from integers to such, got {to}"
            )
        self._signals[node.output(0)] = signal

    def _move(self, node: Node, inputs: Sequence[Value]) -> bool:
        data = inputs if node.op == "Concat" else inputs[:1]
        kinds = {value.kind if isinstance(value, Signal) else "constant" for value in data}
        if len(kinds) != 1 or any(isinstance(value, Signal) for value in inputs[len(data) :]):
            return False
        arrays = [value.labels if isinstance(value, Signal) else value for value in inputs]
        moved = data_movement.move(node, arrays, self._reader)
        if moved.size > sum(array.size for array in arrays[: len(data)] if array is not None):
            self._reader.make(str(node), symbols.BYTES * moved.size)  # a view may be larger than memory
        if node.op == "Slice":
            _expect_known_part(node, arrays)
        self._signals[node.output(0)] = Signal(moved, kinds.pop())
        return True


def of_unknown_shape(value: Value) -> bool:
    """Whether a constant stands as one number, because its shape is unknown."""
    return isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind == "f"


def _expect_known_part(node: Node, inputs: Sequence[Array | None]) -> None:
    """Refuse a bound larger than the sizes that are tried here but not endless: it would cut longer inputs."""
    data = inputs[0]
    assert data is not None
    for extent, chosen in zip(data.shape, data_movement.slices(node, data, inputs), strict=True):
        bounds = [bound for bound in (chosen.start, chosen.stop) if bound is not None]
        if any(extent < abs(bound) < data_movement.END for bound in bounds):
            raise ValueError(f"{node}: expected to take all or a part of known size, got bounds {bounds}")
