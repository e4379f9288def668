"""RTNeural's JSON, in Keras's layout, and AIDA-X's, which adds a skip connection and gains.

A kernel is (inputs, units), gates are i, f, c, o as in Keras, which is PyTorch's order by other names, and there is one
bias: ``RTNeural/model_loader.h``. AIDA-X (``aidadsp-plugin.cpp``) plays ``(in_skip * u + network(u)) * out_gain`` with
u = x * in_gain, gains in dB.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lstmkernel import backends
from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.formats.amplifiers import amplifier
from lstmkernel.formats.inspection import Contents, Tensor
from lstmkernel.formats.untrusted import json_text
from lstmkernel.formats.untrusted.json_arrays import array, field, mentions, shape_of, shown, size
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

#: The types of a dense layer.
DENSE = ("dense", "time-distributed-dense")
#: A gain of so many dB or less is silence in AIDA-X; one beyond the other number is a broken file.
SILENT_DB, MOST_DB = -90.0, 200.0

NAME = "RTNeural"
SUFFIXES: tuple[str, ...] = ()


def recognises(path: str, head: bytes) -> bool:
    return mentions(path, head, "in_shape", "layers")


def inspect(path: str) -> Contents:
    model = json_text.read(path)
    tensors = [
        Tensor(f"layers[{i}].weights[{j}]", shape_of(value), "float32")
        for i, layer in enumerate(field(model, "layers", list))
        for j, value in enumerate(field(layer, "weights", list, [], where=f"layers[{i}]."))
    ]
    metadata = model.get("metadata")
    rate = amplifier.sample_rate(metadata.get("samplerate") if isinstance(metadata, dict) else None)
    name = "AIDA-X" if {"in_skip", "in_gain", "out_gain"} & set(model) else NAME
    return amplifier.contents(name, tensors, rate, partial(_net, model))


def load(path: str, prefix: str | None, options: dict[str, Any]) -> Stack:
    amplifier.whole(prefix)
    return _net(json_text.read(path), options)


class _Part(NamedTuple):
    """A layer's weights by PyTorch's names; an LSTM's has no activation."""

    weights: dict[str, Array]
    units: int
    activation: str | None = None


def _net(model: Any, options: dict[str, Any]) -> Stack:
    width = _last(model, "in_shape", "")
    parts: list[_Part] = []
    for i, layer in enumerate(field(model, "layers", list)):
        where = f"layers[{i}]."
        kind = field(layer, "type", str, where=where)
        if kind == "activation":
            parts[-1:] = [_activated(parts, layer, where)]
        elif kind == "lstm":
            parts.append(_lstm(layer, width, where))
        elif kind in DENSE:
            parts.append(_dense(layer, width, where))
        else:
            known = ", ".join(map(repr, ("lstm", *DENSE, "activation")))
            raise ValueError(f"{where}type: expected one of {known}, got {kind[:60]!r}; lstmkernel runs LSTMs")
        width = parts[-1].units
    if not parts:
        raise ValueError("layers: expected at least one, got none")
    skip = size(model, "in_skip", where="", least=0) if model.get("in_skip") is not None else 0
    if skip > 1:
        raise ValueError(f"in_skip: expected 0 or 1, got {skip}")
    in_gain, out_gain = _gain(model, "in_gain"), _gain(model, "out_gain")
    parts[0].weights["weight_ih_l0" if parts[0].activation is None else "weight"][:, 0] *= in_gain
    if out_gain != 1:
        _scale_output(parts, out_gain)
    return Stack([_built(part, options) for part in parts], skip=skip * in_gain * out_gain)


def _lstm(layer: Any, width: int, where: str) -> _Part:
    activation = field(layer, "activation", str, "", where=where)
    if activation not in ("", "tanh"):
        raise ValueError(f"{where}activation: expected 'tanh', got {activation[:60]!r}")
    units = _last(layer, "shape", where)
    shapes = {"kernel": (width, 4 * units), "recurrent kernel": (units, 4 * units), "bias": (4 * units,)}
    kernel, recurrent, bias = _weights(layer, shapes, where)
    by_name = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": bias}
    return _Part({**by_name, "bias_hh_l0": np.zeros_like(bias)}, units)


def _dense(layer: Any, width: int, where: str) -> _Part:
    units = _last(layer, "shape", where)
    kernel, bias = _weights(layer, {"kernel": (width, units), "bias": (units,)}, where)
    return _Part({"weight": kernel.T, "bias": bias}, units, _activation(layer, where))


def _activated(parts: list[_Part], layer: Any, where: str) -> _Part:
    if not parts or parts[-1].activation != "linear":
        raise ValueError(f"{where}type: expected an activation only behind a dense layer that has none")
    return parts[-1]._replace(activation=_activation(layer, where))


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
    """The width that a shape [batch, time, width] ends with."""
    shape = field(mapping, key, list, where=where)
    if not 1 <= len(shape) <= 3:  # four are those of two-dimensional convolutions
        raise ValueError(f"{where}{key}: expected [batch, time, width], got {len(shape)} of them")
    return size({"width": shape[-1]}, "width", where=f"{where}{key}: ")


def _gain(model: Any, key: str) -> float:
    """The factor of a gain in dB, which may be missing."""
    value = model.get(key)
    if value is None:
        return 1.0
    if type(value) not in (int, float) or not abs(value) < MOST_DB:
        raise ValueError(f"{key}: expected dB within {MOST_DB:g} of 0, got {shown(value)}")
    return float(10 ** (value / 20)) if value > SILENT_DB else 0.0


def _scale_output(parts: list[_Part], gain: float) -> None:
    """Into the last layer's weights where that is the same, else by one more layer."""
    last = parts[-1]
    if last.activation == "linear":
        for value in last.weights.values():
            value *= gain
    else:
        parts.append(_Part({"weight": gain * np.eye(last.units)}, last.units, "linear"))


def _built(part: _Part, options: dict[str, Any]) -> LSTM | Dense:
    if part.activation is None:
        return amplifier.lstm(part.weights, options)
    return amplifier.dense(part.weights["weight"], part.weights.get("bias"), options, part.activation)
