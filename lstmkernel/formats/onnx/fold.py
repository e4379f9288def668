"""Constants of an ONNX graph, also those computed from other constants, as exporters build weights and shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import prod

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx import data_movement, quantized
from lstmkernel.formats.onnx.graph import Graph
from lstmkernel.formats.onnx.nodes import Node
from lstmkernel.formats.onnx.quantized import Integers
from lstmkernel.formats.onnx.tensors import TYPES, TensorReader

#: Arithmetic on a few integers, for shapes: the number of inputs, and the function.
_ARITHMETIC: dict[str, tuple[int, Callable[..., Array]]] = {
    "Add": (2, np.add),
    "Equal": (2, np.equal),
    "Mul": (2, np.multiply),
    "Sub": (2, np.subtract),
    "Where": (3, np.where),
}
_MOST_INTEGERS = 64

#: The attributes of a Constant that are plain numbers: the field that holds them, and NumPy's type.
_PLAIN_VALUES = {
    "value_int": ("i", "i8"),
    "value_ints": ("ints", "i8"),
    "value_float": ("f", "f4"),
    "value_floats": ("floats", "f4"),
}

FOLDED = ("Cast", "Constant", "ConstantOfShape", "Shape", *_ARITHMETIC, *data_movement.NAMES)


class Constants(Mapping[str, Array]):
    """Arrays by name; an initializer is read when it is first asked for. ``outside`` are the constants around a body.

    Tensors of types that no LSTM needs, such as strings, are not in it; asking for one is an error that names its type.
    """

    def __init__(self, graph: Graph, reader: TensorReader, outside: Mapping[str, Array]) -> None:
        self._unread = dict(graph.initializers)
        self._arrays: dict[str, Array] = {}
        self._reader, self._outside = reader, outside
        self._quantized: dict[str, Callable[[], Integers | Array]] = {}  # computed when they are asked for
        self._integers: dict[str, Integers] = {}
        # Names that this graph uses for values of its own, whatever they mean outside.
        self._hidden = {*graph.inputs, *(name for node in graph.nodes for name in node.outputs)}
        for node in graph.nodes:
            if not all(not name or name in self for name in node.inputs):
                continue
            if node.op == quantized.DEQUANTIZE:
                self.put(node.output(0), partial(self._dequantized, node))
            elif node.op in data_movement.NAMES and self._may_be_integers(node.input(0)):
                self.put(node.output(0), partial(self._moved, node))
            elif node.op in FOLDED:
                value = folded(node, [self[name] if name else None for name in node.inputs], reader)
                if value is not None:
                    self._arrays[node.output(0)] = value

    def _may_be_integers(self, name: str) -> bool:
        return name in self._quantized or name in self._integers

    def put(self, name: str, compute: Callable[[], Integers | Array]) -> None:
        """A constant that may be integers with scales; they are computed when they are asked for."""
        self._quantized[name] = compute

    def integers(self, name: str) -> Integers | None:
        """A constant as integers with scales; None for any other constant, and for a name without one."""
        if name in self._quantized:
            found = self._quantized[name]()  # an error comes again, each time
            del self._quantized[name]
            if isinstance(found, Integers):
                self._integers[name] = found
            else:
                self._arrays[name] = found
        if name in self._integers or name in self._hidden or not isinstance(self._outside, Constants):
            return self._integers.get(name)
        return self._outside.integers(name)

    def _dequantized(self, node: Node) -> Integers | Array:
        return quantized.dequantized(node, [self[name] if name else None for name in node.inputs], self._reader)

    def _moved(self, node: Node) -> Integers | Array:
        """Integers and scales in other places; numbers, where some of them are no integers."""
        count = len(node.inputs) if node.op == "Concat" else 1
        data = [self.integers(name) for name in node.inputs[:count]]
        others = [self[name] if name else None for name in node.inputs[count:]]
        known = [each for each in data if each is not None]
        if len(known) < count:
            given = [self[name] if name else None for name in node.inputs]
            return data_movement.move(node, given, self._reader)
        values, scale = (
            data_movement.move(node, [*parts, *others], self._reader)
            for parts in ([each.values for each in known], [each.scale for each in known])
        )
        return Integers(values, scale, known[0].origin)

    def __getitem__(self, name: str) -> Array:
        if name in self._quantized:
            self.integers(name)
        if name in self._integers and name not in self._arrays:
            self._reader.make(name, 4 * self._integers[name].values.size)
            self._arrays[name] = self._integers[name].numbers()
        if name in self._unread:
            self._arrays[name] = self._reader.array(self._unread[name])
            del self._unread[name]
        if name in self._arrays or name in self._hidden:
            return self._arrays[name]
        return self._outside[name]

    def __contains__(self, name: object) -> bool:
        if name in self._unread:
            return self._unread[str(name)].data_type in TYPES
        if self._may_be_integers(str(name)) or name in self._arrays:
            return True
        return name in self._outside and name not in self._hidden

    def __iter__(self) -> Iterator[str]:
        return (
            name
            for name in {*self._unread, *self._quantized, *self._integers, *self._arrays, *self._outside}
            if name in self
        )

    def __len__(self) -> int:
        return len(list(iter(self)))


def folded(node: Node, inputs: Sequence[Array | None], reader: TensorReader) -> Array | None:
    """The output of a node of ``FOLDED`` for constant inputs; None for inputs of a kind that is not folded."""
    if node.op == "Constant":
        return _constant(node, reader)
    if node.op in data_movement.NAMES:
        return data_movement.move(node, inputs, reader)
    data = inputs[0] if inputs else None
    if data is None:
        raise ValueError(f"{node}: expected data as its first input, got none")
    if node.op == "Shape":
        return shape_of(node, data)
    if node.op == "Cast":
        return _cast(node, data, reader)
    if node.op == "ConstantOfShape":
        return _constant_of_shape(node, data, reader)
    return _arithmetic(node, inputs, reader)


def _arithmetic(node: Node, inputs: Sequence[Array | None], reader: TensorReader) -> Array | None:
    count, arithmetic = _ARITHMETIC[node.op]
    given = [array for array in inputs if array is not None and array.dtype.kind in "ib"]
    if len(given) != count or len(inputs) != count or max(array.size for array in given) > _MOST_INTEGERS:
        return None
    try:
        reader.make(str(node), 8 * prod(np.broadcast_shapes(*(array.shape for array in given))))
        with np.errstate(all="ignore"):  # of numbers that overflow
            return np.asarray(arithmetic(*given))
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{node}: {error}") from error


def shape_of(node: Node, data: Array) -> Array:
    return np.array(data.shape[node.attribute("start", "i", 0) : node.attribute("end", "i")], np.int64)


def once(array: Array) -> Array:
    """The array without the repetitions that broadcasting made: the whole view may be larger than memory."""
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]


def _constant(node: Node, reader: TensorReader) -> Array | None:
    for name, (field, dtype) in _PLAIN_VALUES.items():
        if name in node.attributes:
            value = node.attribute(name, field)
            reader.make(str(node), 8 * len(value) if field.endswith("s") else 8)
            return np.fromiter(value, dtype) if field.endswith("s") else np.array(value, dtype)
    tensor = node.attribute("value", "t")
    return None if tensor is None or tensor.data_type not in TYPES else reader.array(tensor)


def _cast(node: Node, data: Array, reader: TensorReader) -> Array | None:
    to = node.attribute("to", "i")
    if to not in TYPES or TYPES[to][0] == "bfloat16":
        return None
    dtype = np.dtype(TYPES[to][0])
    reader.make(str(node), data.size * dtype.itemsize)
    with np.errstate(all="ignore"):
        return data.astype(dtype, order="C")


def _constant_of_shape(node: Node, shape: Array, reader: TensorReader) -> Array:
    if shape.dtype.kind != "i" or shape.ndim != 1 or shape.size > 8 or (shape < 0).any():
        raise ValueError(f"{node}: expected up to 8 sizes of at least 0, got {shape.dtype} {shape.shape}")
    value = node.attribute("value", "t")
    one = np.zeros(1, np.float32) if value is None else reader.array(value)
    if one.size != 1:
        raise ValueError(f"{node}: expected one number as its value, got {one.size}")
    try:
        return np.broadcast_to(one.reshape(()), tuple(int(extent) for extent in shape))  # a view, however large
    except (ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{node}: shape {shape.tolist()}: {error}") from error


def with_plain_lstms(graph: Graph, constants: Constants, reader: TensorReader) -> Graph:
    """The graph with an LSTM in the place of each DynamicQuantizeLSTM; its integers are constants of new names."""

    def replaced(node: Node) -> Node:
        if node.op != quantized.DYNAMIC_LSTM:
            return node
        names = []
        for letter, place, scale in (("W", 1, 8), ("R", 2, 10)):
            names.append(f"{letter} of {node.outputs} of {node}")
            constants.put(names[-1], partial(read, node, letter, [node.input(i) for i in (place, scale, scale + 1)]))
        return quantized.as_lstm(node, *names)

    def read(node: Node, letter: str, inputs: Sequence[str]) -> Integers:
        unknown = next((name for name in inputs if name and name not in constants), None)
        if unknown is not None:
            raise ValueError(f"{node}: {letter}: expected initializers, got {unknown!r}")
        return quantized.of_dynamic(node, letter, [constants[name] if name else None for name in inputs], reader)

    return graph._replace(nodes=[replaced(node) for node in graph.nodes])
