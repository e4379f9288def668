"""Neural Amp Modeler (.nam) of architecture "LSTM": one list of numbers for all layers and their initial state.

A "SlimmableContainer" has several such models, from small to large (``NAM/container.cpp``). Plug-ins begin with the
largest, and so does ``load`` without a prefix.

The order of the numbers is that of ``NAM/lstm.cpp`` (NeuralAmpModelerCore), which reads what ``recurrent.py`` of
neural-amp-modeler writes: for each layer the rows [W | R] of the gates i, f, g, o, one bias, the initial h and c; then
the rows and the bias of the Dense layer at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkernel.formats.amplifiers.amplifier import AmplifierFormat, DenseLayer, Layers, LSTMLayer
from lstmkernel.formats.inspection import Tensor
from lstmkernel.formats.untrusted.json import array, field, shown, size

NAME = "Neural Amp Modeler"

_CONFIG = ("num_layers", "input_size", "hidden_size", "in_channels", "out_channels")


CONTAINER = "SlimmableContainer"


def _parts(model: Any) -> dict[str, Any]:
    """The models in a container, from the smallest to the largest, by their places; of any other model none."""
    if not isinstance(model, dict) or model.get("architecture") != CONTAINER:
        return {}
    found, highest = {}, float("-inf")
    for i, entry in enumerate(field(field(model, "config", dict), "submodels", list, where="config.")):
        where = f"config.submodels[{i}]."
        found[f"submodels.{i}"] = field(entry, "model", dict, where=where)
        most = entry.get("max_value")
        if type(most) not in (int, float) or not highest < most:
            raise ValueError(f"{where}max_value: expected a number above {highest}, got {shown(most)}")
        highest = most
    if highest < 1:
        raise ValueError(f"config.submodels: expected a last one with max_value 1, got {highest if found else 'none'}")
    return found


def _tensors(model: Any) -> list[Tensor]:
    parts = _parts(model)
    if parts:
        return [
            tensor._replace(name=f"{place}.{tensor.name}") for place, part in parts.items() for tensor in _tensors(part)
        ]
    return [Tensor("weights", (len(field(model, "weights", list)),), "float32")]


def _network(model: Any) -> tuple[Layers, float]:
    architecture = field(model, "architecture", str)
    if architecture == CONTAINER:
        place, largest = [*_parts(model).items()][-1]
        try:
            return _network(largest)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
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

    # By a formula, before anything is made for each of L layers: a false number must not cost time or memory.
    count = 4 * H * (I + H) + (L - 1) * 4 * H * 2 * H + L * 6 * H + outputs * (H + 1)
    values = field(model, "weights", list)
    if len(values) != count:
        sizes = f"num_layers {L}, input_size {I}, hidden_size {H}, {outputs} outputs"
        raise ValueError(f"weights: expected {count} numbers for {sizes}, got {len(values)}")
    widths = [I] + [H] * (L - 1)
    extents = [extent for width in widths for extent in (4 * H * (width + H), 4 * H, H, H)]
    slices = iter(np.split(array("weights", values, (count,)), np.cumsum([*extents, outputs * H])))

    weights, h_0, c_0 = {}, [], []
    for layer, width in enumerate(widths):
        rows, bias = next(slices).reshape(4 * H, width + H), next(slices)
        weights[f"weight_ih_l{layer}"], weights[f"weight_hh_l{layer}"] = rows[:, :width], rows[:, width:]
        weights[f"bias_ih_l{layer}"], weights[f"bias_hh_l{layer}"] = bias, np.zeros(4 * H)
        h_0.append(next(slices))
        c_0.append(next(slices))
    weights |= {"h_0": np.array(h_0), "c_0": np.array(c_0)}
    return [LSTMLayer(weights), DenseLayer(next(slices).reshape(outputs, H), next(slices))], 0


FORMAT = AmplifierFormat(
    NAME=NAME,
    SUFFIXES=(".nam",),
    keys=("architecture", "config", "weights"),
    network=_network,
    tensors=_tensors,
    about=lambda model: (NAME, model.get("sample_rate")),
    parts=_parts,
)
