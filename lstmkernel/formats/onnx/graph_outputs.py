"""What a graph gives out: numbers of its last layer, and last states; from these, which LSTM nodes may be one LSTM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx import symbols
from lstmkernel.formats.onnx.dense import Dense
from lstmkernel.formats.onnx.operator import Layer
from lstmkernel.formats.onnx.symbols import Signal

States = Sequence[tuple[Array, Array]]  # labels of h_n and c_n of each LSTM node


def joins(outputs: Mapping[str, Signal | None], top: Layer | Dense, out: Array, states: States) -> list[bool]:
    """Of each LSTM node but the first, whether it may be one LSTM with that below: not where the graph gives out the
    last states of that alone. Outputs of anything but ``top``, whose labels are ``out``, and states are refused."""
    blocks = _blocks(top, out, states)
    joins = [True] * (len(states) - 1)
    for name, signal in outputs.items():
        held = [0] if signal is None else [np.count_nonzero(symbols.within(signal.labels, b)) for b in blocks]
        if signal is None or sum(held) != signal.labels.size:
            raise ValueError(f"graph output {name!r}: expected the output of the last layer, or last states of LSTMs")
        if not all(symbols.in_order(signal.labels, block) for block in blocks):
            raise ValueError(f"graph output {name!r}: expected numbers in the order of the layers, got another one")
        holds = [any(symbols.within(part, signal.labels).any() for part in pair) for pair in states]
        for place, (below, above) in enumerate(pairwise(holds)):
            joins[place] &= above or not below
    return joins


def parts(layers: Sequence[Layer | Dense], joins: Sequence[bool]) -> list[list[Layer] | Dense]:
    """Neighbouring LSTM nodes together where one LSTM can be both."""
    parts: list[list[Layer] | Dense] = []
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


def _blocks(top: Layer | Dense, out: Array, states: States) -> list[Array]:
    """Labels of the last layer's output, and of the last states that are not a part of it."""
    parts = [part for pair in states for part in pair]
    if isinstance(top, Layer):
        del parts[-2]  # its h
        out = out.reshape(*out.shape[:-1], top.directions, top.hidden_size)
    return [out, *parts]
