"""RTNeural's JSON, in Keras's layout, and AIDA-X's, which adds a skip connection and gains.

A kernel is (inputs, units); the gates are i, f, c, o as in Keras, which is PyTorch's order under other names; there is
one bias (``RTNeural/model_loader.h``). AIDA-X (``aidadsp-plugin.cpp``) plays ``(in_skip * u + network(u)) * out_gain``
with u = x * in_gain; its gains are in dB.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkernel import backends
from lstmkernel.backends.packing import Array
from lstmkernel.formats.amplifiers.amplifier import AmplifierFormat, DenseLayer, Layers, LSTMLayer
from lstmkernel.formats.inspection import Tensor
from lstmkernel.formats.untrusted.json import array, field, shape_of, shown, size

#: RTNeural's names for a dense layer.
DENSE = ("dense", "time-distributed-dense")

#: AIDA-X plays silence at this gain or less. A gain of more than MOST_DB means that the file is broken.
SILENT_DB, MOST_DB = -90.0, 200.0


def _about(model: Any) -> tuple[str, Any]:
    metadata = model.get("metadata")
    rate = metadata.get("samplerate") if isinstance(metadata, dict) else None
    return "AIDA-X" if {"in_skip", "in_gain", "out_gain"} & set(model) else "RTNeural", rate


def _tensors(model: Any) -> list[Tensor]:
    return [
        Tensor(f"layers[{i}].weights[{j}]", shape_of(value), "float32")
        for i, layer in enumerate(field(model, "layers", list))
        for j, value in enumerate(field(layer, "weights", list, [], where=f"layers[{i}]."))
    ]


def _network(model: Any) -> tuple[Layers, float]:
    width = _last(model, "in_shape", "")
    layers: Layers = []
    for i, layer in enumerate(field(model, "layers", list)):
        where = f"layers[{i}]."
        kind = field(layer, "type", str, where=where)
        if kind == "activation":
            layers[-1:] = [_activated(layers, layer, where)]
        elif kind == "lstm":
            layers.append(_lstm(layer, width, where))
        elif kind in DENSE:
            layers.append(_dense(layer, width, where))
        else:
            known = ", ".join(map(repr, ("lstm", *DENSE, "activation")))
            raise ValueError(f"{where}type: expected one of {known}, got {kind[:60]!r}; lstmkernel runs LSTMs")
        width = layers[-1].out_features
    if not layers:
        raise ValueError("layers: expected at least one, got none")
    skip = size(model, "in_skip", where="", least=0) if model.get("in_skip") is not None else 0
    if skip > 1:
        raise ValueError(f"in_skip: expected 0 or 1, got {skip}")
    in_gain, out_gain = _gain(model, "in_gain"), _gain(model, "out_gain")
    first = layers[0]
    (first.weight if isinstance(first, DenseLayer) else first.parameters["weight_ih_l0"])[:, 0] *= in_gain
    if out_gain != 1:
        _scale_output(layers, out_gain)
    return layers, skip * in_gain * out_gain


def _lstm(layer: Any, width: int, where: str) -> LSTMLayer:
    activation = field(layer, "activation", str, "", where=where)
    if activation not in ("", "tanh"):
        raise ValueError(f"{where}activation: expected 'tanh', got {activation[:60]!r}")
    units = _last(layer, "shape", where)
    shapes = {"kernel": (width, 4 * units), "recurrent kernel": (units, 4 * units), "bias": (4 * units,)}
    kernel, recurrent, bias = _weights(layer, shapes, where)
    weights = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T}
    return LSTMLayer({**weights, "bias_ih_l0": bias, "bias_hh_l0": np.zeros_like(bias)})


def _dense(layer: Any, width: int, where: str) -> DenseLayer:
    units = _last(layer, "shape", where)
    kernel, bias = _weights(layer, {"kernel": (width, units), "bias": (units,)}, where)
    return DenseLayer(kernel.T, bias, _activation(layer, where))


def _activated(layers: Layers, layer: Any, where: str) -> DenseLayer:
    """The last layer of ``layers`` with the activation that is ``layer``."""
    below = layers[-1] if layers else None
    if not isinstance(below, DenseLayer) or below.activation != "linear":
        raise ValueError(f"{where}type: expected an activation only after a dense layer that has none")
    return below._replace(activation=_activation(layer, where))


def _activation(layer: Any, where: str) -> str:
    name: str = field(layer, "activation", str, "", where=where) or "linear"
    if name not in backends.ACTIVATIONS:
        raise ValueError(f"{where}activation: expected one of {', '.join(backends.ACTIVATIONS)}, got {name[:60]!r}")
    return name


def _weights(layer: Any, shapes: dict[str, tuple[int, ...]], where: str) -> list[Array]:
    values = field(layer, "weights", list, where=where)
    if len(values) != len(shapes):
        raise ValueError(f"{where}weights: expected {', '.join(shapes)}, got {len(values)} of them")
    named = enumerate(zip(values, shapes.values(), strict=True))
    return [array(f"{where}weights[{j}]", value, shape) for j, (value, shape) in named]


def _last(mapping: Any, key: str, where: str) -> int:
    """The width, at the end of a shape [batch, time, width]."""
    shape = field(mapping, key, list, where=where)
    if not 1 <= len(shape) <= 3:  # only two-dimensional convolutions have four
        raise ValueError(f"{where}{key}: expected [batch, time, width], got {len(shape)} of them")
    return size({"width": shape[-1]}, "width", where=f"{where}{key}: ")


def _gain(model: Any, key: str) -> float:
    """A gain in dB as a factor; 1 where the file has none."""
    value = model.get(key)
    if value is None:
        return 1.0
    if type(value) not in (int, float) or not abs(value) < MOST_DB:
        raise ValueError(f"{key}: expected dB within {MOST_DB:g} of 0, got {shown(value)}")
    return float(10 ** (value / 20)) if value > SILENT_DB else 0.0


def _scale_output(layers: Layers, gain: float) -> None:
    """Multiply the output: in the weights of a linear last layer, else by one more layer."""
    last = layers[-1]
    if isinstance(last, DenseLayer) and last.activation == "linear":
        layers[-1] = last._replace(weight=gain * last.weight, bias=None if last.bias is None else gain * last.bias)
    else:
        layers.append(DenseLayer(gain * np.eye(last.out_features), None))


FORMAT = AmplifierFormat(
    NAME="RTNeural",
    SUFFIXES=(),
    keys=("in_shape", "layers"),
    network=_network,
    tensors=_tensors,
    about=_about,
)
