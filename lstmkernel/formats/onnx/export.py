"""Networks as ONNX models.

Inputs are x, (T, B, I) or (B, T, I) with batch_first, and each LSTM's h_0 and c_0. These may be left out: the default
is zeros, or the model's own initial state. A network that expects lengths has the input lengths, (B,), too. Outputs are
out and each LSTM's h_n and c_n, in lstmkernel's shapes. T and B are open. In a Stack, an LSTM's states have its place
before their names, as in the state_dict: "1.h_0".

Layers of 8-bit weights have integers behind DequantizeLinear: every runtime computes as with the rounded weights in
float32. With ``dynamic``, layers of such weights are ONNX Runtime's DynamicQuantizeLSTM.

ONNX Runtime warns of each input that has a default, whatever the model. Without ``state_inputs`` there are none: every
call then begins with the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine.precision import INT8, LEVELS, SCALE
from lstmkernel.formats.onnx.dense import ACTIVATIONS
from lstmkernel.formats.onnx.operator import ACTIVATIONS as LSTM_ACTIVATIONS
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack
from lstmkernel.variant import Variant

#: The first operator set whose LSTM has a layout; every runtime of today reads it.
OPSET, IR_VERSION = 14, 7

#: Of ONNX Runtime's own operators.
_DOMAIN = "com.microsoft"

_LSTM_NAMES = {ours: name for name, ours in LSTM_ACTIVATIONS.items()}
_DENSE_NAMES = {ours: name for name, ours in ACTIVATIONS.items()}


def model(net: Any, metadata: Mapping[str, str], state_inputs: bool = True, dynamic: bool = False) -> Any:
    """The ModelProto of an LSTM, or of a Stack that holds one; ValueError for what ONNX's operators cannot express."""
    layers = net.layers if isinstance(net, Stack) else (net,)
    if not any(isinstance(layer, LSTM) for layer in layers):
        raise ValueError(f"net: expected an LSTM or a Stack with one for an ONNX model, got {type(net).__name__}")
    if isinstance(net, Stack) and net.skip:
        raise ValueError(f"skip: expected 0 for an ONNX model, got {net.skip}; save it as .safetensors")
    if dynamic and any(layer.precision != INT8 for layer in layers if isinstance(layer, LSTM)):
        raise ValueError(
            f"dynamic: expected LSTMs that quantize('int8') made, all of whose layers have 8-bit weights, got "
            f"{net.precision}; leave it out"
        )
    graph = _Graph(net.dtype, state_inputs, dynamic)
    batch_first = net.batch_first
    order = ["B", "T"] if batch_first else ["T", "B"]
    in_features = layers[0].input_size if isinstance(layers[0], LSTM) else layers[0].in_features
    value = graph.input("x", [*order, in_features])
    if batch_first:
        value = graph.node("Transpose", [value], "steps", perm=[1, 0, 2])
    rows = graph.rows(value) if state_inputs or any(getattr(layer, "initial_state", False) for layer in layers) else ""
    lengths = graph.lengths(layers)
    for place, layer in enumerate(layers):
        prefix = f"{place}." if isinstance(net, Stack) else ""
        value = (
            graph.dense(layer, prefix, value)
            if isinstance(layer, Dense)
            else graph.lstm(layer, prefix, value, rows, lengths)
        )
    graph.node(
        "Transpose" if batch_first else "Identity", [value], "out", **({"perm": [1, 0, 2]} if batch_first else {})
    )
    made = graph.model([*order, layers[-1].out_features])
    helper.set_model_props(made, dict(metadata))
    return made


def activations(net: Any) -> str | dict[str, str] | None:
    """What integers are multiplied by, which no graph says: in all LSTM nodes, or by their names where they differ."""
    if net.activations in LEVELS:
        return str(net.activations)
    found: dict[str, str] = {}
    for place, layer in enumerate(net.layers if isinstance(net, Stack) else (net,)):
        prefix = f"{place}." if isinstance(net, Stack) else ""
        precisions = layer.engine.precisions if isinstance(layer, LSTM) else ()
        found |= {_node_name(prefix, i): each.activations for i, each in enumerate(precisions) if each.is_int8}
    return found or None


def _node_name(prefix: str, layer: int) -> str:
    return f"{prefix}layer{layer}"


class _Graph:
    """A graph that is being written: its nodes, initializers, inputs and outputs so far."""

    def __init__(self, dtype: np.dtype[Any], state_inputs: bool, dynamic: bool) -> None:
        self._dtype, self._state_inputs, self._dynamic = dtype, state_inputs, dynamic
        self._type = helper.np_dtype_to_tensor_dtype(dtype)
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def model(self, shape: list[Any]) -> Any:
        outputs = [self._info("out", shape), *self._outputs]
        graph = helper.make_graph(self._nodes, "lstmkernel", self._inputs, outputs, self._initializers)
        opsets = [helper.make_opsetid("", OPSET)] + ([helper.make_opsetid(_DOMAIN, 1)] if self._dynamic else [])
        made = helper.make_model(graph, producer_name="lstmkernel", opset_imports=opsets, ir_version=IR_VERSION)
        onnx.checker.check_model(made)
        return made

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def input(self, name: str, shape: list[Any]) -> str:
        self._inputs.append(self._info(name, shape))
        return name

    def constant(self, name: str, values: Any) -> str:
        self._initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _info(self, name: str, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, self._type, shape)

    def rows(self, x: str) -> str:
        """[B], from x (T, B, ...)."""
        shape = self.node("Shape", [x], "shape")
        return self.node("Gather", [shape, self.constant("batch_axis", np.array([1]))], "rows", axis=0)

    def lengths(self, layers: Sequence[LSTM | Dense]) -> str:
        """The input that all LSTMs take their rows' lengths from; "" if they expect none."""
        expected = {layer.expects for layer in layers if isinstance(layer, LSTM)} - {None}
        if "mask" in expected:
            raise ValueError(
                "expects: expected 'lengths' or None, since ONNX's LSTM takes no mask; save as .safetensors"
            )
        if not expected:
            return ""
        self._inputs.append(helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["B"]))
        return "lengths"

    # ---------------------------------------------------------------- layers

    def dense(self, layer: Dense, prefix: str, value: str) -> str:
        named = layer.state_dict()
        weight = self.constant(f"{prefix}weight", named["weight"].T)
        value = self.node("MatMul", [value, weight], f"{prefix}product")
        if layer.bias:
            value = self.node("Add", [value, self.constant(f"{prefix}bias", named["bias"])], f"{prefix}sum")
        if layer.activation != "linear":
            attributes = {"axis": -1} if layer.activation == "softmax" else {}
            value = self.node(_DENSE_NAMES[layer.activation], [value], f"{prefix}activated", **attributes)
        return value

    def lstm(self, lstm: LSTM, prefix: str, value: str, rows: str, lengths: str) -> str:
        """A node for each layer, and after it the nodes that put its directions side by side."""
        if lstm.proj_size:
            raise ValueError(
                f"{prefix}proj_size: expected 0, since ONNX's LSTM has no projection, got {lstm.proj_size}"
            )
        L, D, H = lstm.num_layers, lstm.shape.directions, lstm.hidden_size
        zeros = np.zeros((L * D, H), self._dtype)
        named = lstm.state_dict()
        states = [
            self._state(f"{prefix}{name}", named.get(name, zeros), rows)
            for name in ("h_0", "c_0")
            if self._state_inputs or lstm.initial_state
        ]
        merged = self.constant(f"{prefix}merged", [0, 0, D * H])
        ends: tuple[list[str], list[str]] = [], []
        for layer in range(L):
            name = _node_name(prefix, layer)
            own = self._of_layer(states, name, D * layer, D * layer + D) if states else ["", ""]
            weights = ["", "", self._bias(lstm, layer, name)] if self._dynamic else self._weights(lstm, layer, name)
            inputs = [value, *weights, lengths, *own, self._peephole(lstm, layer, name)]
            outputs = [f"{name}.{part}" for part in ("Y", "Y_h", "Y_c")]
            attributes = {"hidden_size": H, "direction": _direction(lstm), **_variant(lstm.variant, D)}
            if self._dynamic:
                inputs += self._integers(lstm, layer, name, inputs)
                attributes |= {"domain": _DOMAIN}
            op = "DynamicQuantizeLSTM" if self._dynamic else "LSTM"
            self._nodes.append(helper.make_node(op, _trimmed(inputs), outputs, name=name, **attributes))
            for kept, output in zip(ends, outputs[1:], strict=True):
                kept.append(output)
            value = self.node("Transpose", outputs[:1], f"{name}.transposed", perm=[0, 2, 1, 3])
            value = self.node("Reshape", [value, merged], f"{name}.out")
        for last, kept in zip(("h_n", "c_n"), ends, strict=True):
            self.node("Concat", kept, f"{prefix}{last}", axis=0)
            self._outputs.append(self._info(f"{prefix}{last}", [L * D, "B", H]))
        return value

    def _of_layer(self, states: list[str], name: str, begin: int, end: int) -> list[str]:
        """The initial states of one layer."""
        bounds = [self.constant(f"{name}.begin", [begin]), self.constant(f"{name}.end", [end])]
        return [self.node("Slice", [state, *bounds], f"{name}.{state}") for state in states]

    def _state(self, name: str, first: Array, rows: str) -> str:
        """An initial state, ``first`` (L*D, H) in every row; an input that the caller may leave out, if it is one."""
        count, H = first.shape
        if self._state_inputs:
            self.input(name, [count, f"{name}_rows", H])
        self.constant(name, first[:, None])
        sizes = [self.constant(f"{name}.{end}", [extent]) for end, extent in (("states", count), ("width", H))]
        shape = self.node("Concat", [sizes[0], rows, sizes[1]], f"{name}.shape", axis=0)
        return self.node("Expand", [name, shape], f"{name}.repeated")

    def _weights(self, lstm: LSTM, layer: int, name: str) -> list[str]:
        ends = [lstm.shape.suffix(layer, direction) for direction in range(lstm.shape.directions)]
        stored = lstm.stored() if lstm.engine.precisions[layer].is_int8 else lstm.state_dict()
        names = [
            self._matrix(f"{name}.{letter}", [f"{own}{end}" for end in ends], stored)
            for letter, own in (("W", "weight_ih"), ("R", "weight_hh"))
        ]
        return [*names, self._bias(lstm, layer, name)]

    def _bias(self, lstm: LSTM, layer: int, name: str) -> str:
        if not lstm.bias:
            return ""
        ends = [lstm.shape.suffix(layer, direction) for direction in range(lstm.shape.directions)]
        named = lstm.stored()
        biases = [[_gates(named[f"{own}{end}"]) for own in ("bias_ih", "bias_hh")] for end in ends]
        return self.constant(f"{name}.B", np.stack([np.concatenate(parts) for parts in biases]))

    def _matrix(self, name: str, own: list[str], stored: Mapping[str, Array]) -> str:
        """W or R, (D, 4H, K), whose parts have their ``own`` names.

        Integers go through DequantizeLinear, which has scales along one axis only: so all rows of both directions
        form one matrix first.
        """
        parts = np.stack([_gates(stored[each]) for each in own])
        if parts.dtype != np.int8:
            return self.constant(name, parts)
        scales = np.concatenate([_gates(stored[each + SCALE]) for each in own])
        rows = self.constant(f"{name}.integers", parts.reshape(len(scales), -1))
        inputs = [rows, self.constant(f"{name}.scale", scales)]
        numbers = self.node("DequantizeLinear", inputs, f"{name}.rows", axis=0)
        return self.node("Reshape", [numbers, self.constant(f"{name}.shape", parts.shape)], name)

    def _integers(self, lstm: LSTM, layer: int, name: str, inputs: list[str]) -> list[str]:
        """Scales and zero points of a DynamicQuantizeLSTM; W and R among its inputs become integers, transposed."""
        stored, more = lstm.stored(), []
        ends = [lstm.shape.suffix(layer, direction) for direction in range(lstm.shape.directions)]
        for place, own in ((1, "weight_ih"), (2, "weight_hh")):
            letter = f"{name}.{'XWR'[place]}"
            values = np.stack([_gates(stored[f"{own}{end}"]).T for end in ends])
            scales = np.stack([_gates(stored[f"{own}{end}{SCALE}"]) for end in ends])
            inputs[place] = self.constant(letter, values)
            more += [self.constant(f"{letter}.scale", scales)]
            more += [self.constant(f"{letter}.zero_point", np.zeros(scales.shape, np.int8))]
        return more

    def _peephole(self, lstm: LSTM, layer: int, name: str) -> str:
        if not (lstm.variant and lstm.variant.peephole):
            return ""
        ends = [lstm.shape.suffix(layer, direction) for direction in range(lstm.shape.directions)]
        parts = [
            lstm.state_dict()[f"weight_peephole{end}"][[0, 2, 1]].ravel() for end in ends
        ]  # to ONNX's order i, o, f
        return self.constant(f"{name}.P", np.stack(parts))


def _gates(array: Array) -> Array:
    """From i, f, c, o to ONNX's order i, o, f, c, along the first axis."""
    return array.reshape(4, -1)[[0, 3, 1, 2]].reshape(array.shape)


def _direction(lstm: LSTM) -> str:
    return "bidirectional" if lstm.bidirectional else "reverse" if lstm.reverse else "forward"


def _variant(variant: Variant | None, D: int) -> dict[str, Any]:
    """A variant as attributes of the operator."""
    if variant is None:
        return {}
    if variant.cell_clip is not None or variant.coupled == "input":
        raise ValueError(
            f"variant: expected none of cell_clip and coupled='input', which ONNX's LSTM has not, got {variant}"
        )
    attributes: dict[str, Any] = {}
    if variant.gate_clip is not None:
        attributes["clip"] = variant.gate_clip
    if variant.coupled:
        attributes["input_forget"] = 1
    given: list[Any] = [(each,) if isinstance(each, str) else each for each in variant.activations]
    activations = [("affine", 1.0, 0.0) if each == ("linear",) else each for each in given]
    activations *= D if len(given) == 3 else 1
    if [name for name, *_ in activations] != ["sigmoid", "tanh", "tanh"] * D:
        attributes["activations"] = [_LSTM_NAMES[name] for name, *_ in activations]
        alphas = [numbers[0] for _, *numbers in activations if numbers]
        betas = [numbers[1] for _, *numbers in activations if len(numbers) > 1]
        attributes |= {"activation_alpha": alphas} if alphas else {}
        attributes |= {"activation_beta": betas} if betas else {}
    return attributes


def _trimmed(inputs: list[str]) -> list[str]:
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    return inputs
