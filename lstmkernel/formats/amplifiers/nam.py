"""Neural Amp Modeler (.nam) of architecture "LSTM": one list of numbers for all layers, and a state to begin with.

The order of the numbers is that of ``NAM/lstm.cpp`` (NeuralAmpModelerCore), which reads what ``recurrent.py`` of
neural-amp-modeler exports: for each layer the rows [W | R] of the gates i, f, g, o, one bias, h and c to begin with;
then the head's rows and its bias.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lstmkernel.formats.amplifiers import amplifier
from lstmkernel.formats.inspection import Contents, Tensor
from lstmkernel.formats.untrusted import json_text
from lstmkernel.formats.untrusted.json_arrays import array, field, mentions, size
from lstmkernel.stack import Stack

_CONFIG = ("num_layers", "input_size", "hidden_size", "in_channels", "out_channels")

NAME = "Neural Amp Modeler"
SUFFIXES = (".nam",)


def recognises(path: str, head: bytes) -> bool:
    return mentions(path, head, "architecture", "config", "weights")


def inspect(path: str) -> Contents:
    model = json_text.read(path)
    tensors = [Tensor("weights", (len(field(model, "weights", list)),), "float32")]
    rate = amplifier.sample_rate(model.get("sample_rate"))
    return amplifier.contents(NAME, tensors, rate, partial(_net, model))


def load(path: str, prefix: str | None, options: dict[str, Any]) -> Stack:
    amplifier.whole(prefix)
    return _net(json_text.read(path), options)


def _net(model: Any, options: dict[str, Any]) -> Stack:
    architecture = field(model, "architecture", str)
    if architecture != "LSTM":
        raise ValueError(f"architecture: expected 'LSTM', got {architecture[:60]!r}; lstmkernel runs LSTMs")
    config = field(model, "config", dict)
    for key in config:
        if key not in _CONFIG:
            raise ValueError(f"config: expected only {', '.join(_CONFIG)}, got {key[:60]!r}")
    L, I, H = (size(config, key, where="config.") for key in ("num_layers", "input_size", "hidden_size"))
    channels, outputs = (size(config, key, 1, where="config.") for key in ("in_channels", "out_channels"))
    if "in_channels" in config and channels != I:
        raise ValueError(f"config.in_channels: expected input_size = {I}, got {channels}")

    # Without a list of L layers yet: a lie in a file must not cost time or memory.
    count = 4 * H * (I + H) + (L - 1) * 4 * H * 2 * H + L * 6 * H + outputs * (H + 1)
    values = field(model, "weights", list)
    if len(values) != count:
        sizes = f"num_layers {L}, input_size {I}, hidden_size {H}, {outputs} outputs"
        raise ValueError(f"weights: expected {count} numbers for {sizes}, got {len(values)}")
    widths = [I] + [H] * (L - 1)
    extents = [extent for width in widths for extent in (4 * H * (width + H), 4 * H, H, H)]
    pieces = iter(np.split(array("weights", values, (count,)), np.cumsum([*extents, outputs * H])))

    weights, begin_h, begin_c = {}, [], []
    for layer, width in enumerate(widths):
        rows, bias = next(pieces).reshape(4 * H, width + H), next(pieces)
        weights[f"weight_ih_l{layer}"], weights[f"weight_hh_l{layer}"] = rows[:, :width], rows[:, width:]
        weights[f"bias_ih_l{layer}"], weights[f"bias_hh_l{layer}"] = bias, np.zeros(4 * H)
        begin_h.append(next(pieces))
        begin_c.append(next(pieces))
    weights |= {"h_0": np.array(begin_h), "c_0": np.array(begin_c)}
    head = amplifier.dense(next(pieces).reshape(outputs, H), next(pieces), options)
    return Stack([amplifier.lstm(weights, options), head])
