"""ONNX's LSTM operator: a node and its constants as parameters in PyTorch's names and gate order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from lstmkernel.backends.contract import VARIANT_ACTIVATIONS
from lstmkernel.backends.packing import Array
from lstmkernel.engine.parameters import LSTMShape
from lstmkernel.engine.precision import SCALE
from lstmkernel.formats.onnx import fold
from lstmkernel.formats.onnx.nodes import Node
from lstmkernel.formats.onnx.quantized import Integers
from lstmkernel.formats.onnx.tensors import TensorReader
from lstmkernel.variant import Variant

#: The operator's inputs, in order.
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}

#: The operator's activations, in any case, and their names in lstmkernel.
ACTIVATIONS = {
    "Affine": "affine",
    "Elu": "elu",
    "HardSigmoid": "hard_sigmoid",
    "LeakyRelu": "leaky_relu",
    "Relu": "relu",
    "ScaledTanh": "scaled_tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
    "ThresholdedRelu": "thresholded_relu",
}
_ANY_CASE = {name.lower(): ours for name, ours in ACTIVATIONS.items()}
#: For these the operator has no defaults, or other ones than ONNX Runtime.
_WITHOUT_DEFAULTS = ("affine", "scaled_tanh", "thresholded_relu")
PLAIN = ["sigmoid", "tanh", "tanh"]

#: The operator's attributes, and the fields that hold their values.
_ATTRIBUTES = {
    "activation_alpha": "floats",
    "activation_beta": "floats",
    "activations": "strings",
    "clip": "f",
    "direction": "s",
    "hidden_size": "i",
    "input_forget": "i",
    "layout": "i",
}


class LSTMNode(NamedTuple):
    """An LSTM node, whose directions are one layer of an LSTM."""

    node: Node
    input_size: int
    hidden_size: int
    bias: bool
    directions: int
    reverse: bool
    rows_first: bool  # the operator's layout=1
    variant: Variant | None
    weights: dict[str, Array]  # as in a state_dict, without the layer's number: "weight_ih", "weight_ih_reverse", ...
    first: tuple[Array, Array] | None = None  # constant h and c (D, H) that every row begins with; None for zeros
    quantized: str = ""  # where weights has int8 matrices, "weight_ih_scale", ...: the operator that the file has

    def has_weights_of(self, other: LSTMNode) -> bool:
        """Whether the weights are the same."""
        return {*self.weights} == {*other.weights} and all(
            np.array_equal(value, other.weights[name]) for name, value in self.weights.items()
        )

    @property
    def kind(self) -> tuple[Any, ...]:
        """Equal for the layers of one LSTM."""
        return self.hidden_size, self.bias, self.directions, self.reverse, self.variant


def lstm_node(node: Node, constants: Mapping[str, Array], reader: TensorReader) -> LSTMNode:
    """Check a node's attributes, and the shapes of W, R, B and P against each other."""
    unknown = sorted(set(node.attributes) - set(_ATTRIBUTES))
    if unknown or len(node.inputs) > len(INPUTS):
        raise ValueError(
            f"{node}: expected an LSTM's attributes and inputs, got {', '.join(unknown[:6]) or len(node.inputs)}"
        )
    for name in node.attributes:
        node.attribute(name, _ATTRIBUTES[name])
    direction = _text(node.attribute("direction", "s", b"forward"))
    if direction not in DIRECTIONS:
        raise ValueError(f"{node}: direction: expected one of {', '.join(DIRECTIONS)}, got {direction!r}")
    D = DIRECTIONS[direction]
    matrices = [_matrix(node, place, constants, reader) for place in (1, 2)]
    W, R = (each.values if isinstance(each, Integers) else each for each in matrices)
    if W is None or R is None or W.ndim != 3 or R.ndim != 3 or 0 in W.shape or 0 in R.shape:
        got = [None if array is None else array.shape for array in (W, R)]
        raise ValueError(f"{node}: expected W of shape (D, 4H, I) and R of (D, 4H, H), got {got[0]} and {got[1]}")
    I, H = W.shape[2], R.shape[2]
    _expect(node, "R", R, (D, 4 * H, H))
    _expect(node, "W", W, (D, 4 * H, I))
    hidden_size = node.attribute("hidden_size", "i", H)
    if hidden_size != H:
        raise ValueError(f"{node}: hidden_size: expected {H}, as in R, got {hidden_size}")
    B, P = _weights(node, 3, constants, reader), _weights(node, 7, constants, reader)
    variant = _variant(node, D, P is not None)
    origins = [each.origin for each in matrices if isinstance(each, Integers) and variant is None]
    weights: dict[str, Array] = {}
    for d, end in enumerate(("", "_reverse")[:D]):
        for name, matrix in zip(("weight_ih", "weight_hh"), matrices, strict=True):
            weights |= _of_direction(f"{name}{end}", matrix, d, H, len(origins) == 2)
        if B is not None:
            _expect(node, "B", B, (D, 8 * H))
            weights[f"bias_ih{end}"] = _gates(B[d, : 4 * H], H)[:, 0]
            weights[f"bias_hh{end}"] = _gates(B[d, 4 * H :], H)[:, 0]
        if P is not None:
            _expect(node, "P", P, (D, 3 * H))
            weights[f"weight_peephole{end}"] = P[d].reshape(3, H)[[0, 2, 1]]  # i, o, f -> i, f, o
    rows_first = _flag(node, "layout")
    node = node._replace(attributes={})  # they would keep the parsed file in memory
    quantized = origins[0] if len(origins) == 2 else ""
    reverse = direction == "reverse"
    return LSTMNode(node, I, H, B is not None, D, reverse, rows_first, variant, weights, quantized=quantized)


def constant_state(layer: LSTMNode, name: str, array: Array, rows: int | None) -> Array | None:
    """A constant initial state as (D, H), the same for all rows; None for zeros. ``rows`` is B, or None if unknown."""
    D, H = layer.directions, layer.hidden_size
    expected = (rows, D, H) if layer.rows_first else (D, rows, H)
    fits = len(array.shape) == 3 and all(e in (None, got) for e, got in zip(expected, array.shape, strict=True))
    if not fits or array.dtype.kind != "f":
        raise ValueError(
            f"{layer.node}: {name}: expected floating-point numbers of shape {expected}, "
            f"got {array.dtype} {array.shape}"
        )
    by_direction = array.swapaxes(0, 1) if layer.rows_first else array
    numbers = fold.once(by_direction)
    if not numbers.any():
        return None
    if not np.array_equal(numbers, np.broadcast_to(numbers[:, :1], numbers.shape), equal_nan=True):
        raise ValueError(
            f"{layer.node}: {name}: expected constants that are the same for every row, an input of the graph, or "
            "nothing, got rows that differ; remove them from the model and give them as the state of each call"
        )
    return by_direction[:, 0]


def _matrix(node: Node, place: int, constants: Mapping[str, Array], reader: TensorReader) -> Integers | Array | None:
    """W or R, as integers where they have one scale for each row."""
    name = node.input(place)
    found = constants.integers(name) if isinstance(constants, fold.Constants) else None
    if found is None or not found.by_rows():
        return _weights(node, place, constants, reader)
    reader.hand(name, np.broadcast_to(np.float32(0), found.values.shape))  # as the network widens them
    return found


def _of_direction(name: str, matrix: Any, d: int, H: int, exact: bool) -> dict[str, Array]:
    """The matrix of one direction: as integers and their scale, or as numbers."""
    if not isinstance(matrix, Integers):
        return {name: _gates(matrix[d], H)}
    values, scale = _gates(matrix.values[d], H), _gates(np.asarray(matrix.scale[d][:, :1]), H)
    return {name: values, name + SCALE: scale[:, 0]} if exact else {name: values * scale}


def _weights(node: Node, place: int, constants: Mapping[str, Array], reader: TensorReader) -> Array | None:
    name = node.input(place)
    if not name:
        return None
    try:
        array = constants[name]
    except KeyError:
        raise ValueError(
            f"{node}: {INPUTS[place]}: expected an initializer, or a value computed from initializers, got {name!r}"
        ) from None
    if array.dtype.kind != "f":
        raise ValueError(f"{node}: {INPUTS[place]}: expected floating-point numbers, got {array.dtype}")
    reader.hand(name, array)
    return array


def _expect(node: Node, name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape == shape:
        return
    kind = {3: ": three gates, a GRU", 1: ": one gate, an RNN"}
    last = array.shape[-1] if name == "R" else 0
    hint = kind.get(array.shape[1] // last, "") if last and len(array.shape) == 3 and array.shape[1] % last == 0 else ""
    raise ValueError(f"{node}: {name}: expected shape {shape}, got {array.shape}{hint}")


def _gates(array: Array, H: int) -> Array:
    """From ONNX's order i, o, f, c to i, f, c, o, along the first axis."""
    return array.reshape(4, H, -1)[[0, 2, 3, 1]].reshape(4 * H, -1)


def _variant(node: Node, D: int, peephole: bool) -> Variant | None:
    coupled: Literal["forget"] | None = "forget" if _flag(node, "input_forget") else None
    try:
        return Variant.of(Variant(peephole, node.attribute("clip", "f"), None, coupled, _activations(node, D)))
    except ValueError as error:
        raise ValueError(f"{node}: {error}") from error


def _activations(node: Node, D: int) -> list[Any]:
    """Three for each direction. The alphas and betas go in order to the activations that take them (ONNX Runtime)."""
    names = [_text(name) for name in node.attribute("activations", "strings", PLAIN * D)[: 3 * D + 1]]
    if len(names) != 3 * D or not {name.lower() for name in names} <= set(_ANY_CASE):
        raise ValueError(
            f"{node}: activations: expected {3 * D} of {', '.join(ACTIVATIONS)}, got {', '.join(map(repr, names[:8]))}"
        )
    alphas, betas = (list(node.attribute(f"activation_{which}", "floats", [])[:99]) for which in ("alpha", "beta"))
    activations: list[Any] = []
    for name in (_ANY_CASE[name.lower()] for name in names):
        pairs = list(zip((alphas, betas), VARIANT_ACTIVATIONS[name], strict=False))
        if name in _WITHOUT_DEFAULTS and not all(given for given, _ in pairs):
            raise ValueError(
                f"{node}: activations: expected alpha (and beta) with {name}, whose defaults differ between runtimes"
            )
        numbers = [float(given.pop(0)) if given else default for given, default in pairs]
        activations.append((name, *numbers) if numbers else name)
    if alphas or betas:
        raise ValueError(f"{node}: expected an alpha and a beta for each activation that takes it, got more")
    return activations


def _flag(node: Node, name: str) -> bool:
    value = node.attribute(name, "i", 0)
    if value not in (0, 1):
        raise ValueError(f"{node}: {name}: expected 0 or 1, got {value!r}")
    return bool(value)


def _text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return text[:40]


def shape_of(layers: list[LSTMNode]) -> LSTMShape:
    """The shape of the LSTM with these layers."""
    first = layers[0]
    states = any(layer.first for layer in layers)
    sizes = (first.input_size, first.hidden_size, len(layers))
    return LSTMShape(*sizes, first.bias, first.directions == 2, 0, first.variant, first.reverse, states)


def as_state_dict(layers: list[LSTMNode]) -> dict[str, Array]:
    """The parameters of the LSTM with these layers; h_0 and c_0 too if any of them has a constant initial state."""
    named: dict[str, Array] = {}
    for number, layer in enumerate(layers):
        for name, array in layer.weights.items():
            own, scale = name.removesuffix(SCALE), SCALE if name.endswith(SCALE) else ""
            kind, reverse, _ = own.partition("_reverse")
            named[f"{kind}_l{number}{reverse}{scale}"] = np.asarray(array)
    if any(layer.first for layer in layers):
        zeros = np.zeros((layers[0].directions, layers[0].hidden_size), np.float32)
        for place, name in enumerate(("h_0", "c_0")):
            named[name] = np.concatenate([layer.first[place] if layer.first else zeros for layer in layers])
    return named
