"""A graph's outputs: they must be the last layer's output or last states, and they tell which nodes are one LSTM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx import symbols
from lstmkernel.formats.onnx.dense import DenseNodes
from lstmkernel.formats.onnx.operator import LSTMNode
from lstmkernel.formats.onnx.symbols import Signal

States = Sequence[tuple[Array, Array]]  # labels of h_n and c_n of each LSTM node


def joins(outputs: Mapping[str, Signal | None], top: LSTMNode | DenseNodes, out: Array, states: States) -> list[bool]:
    """For each LSTM node but the first: whether it and the one below may be layers of one LSTM.

    They may not if the graph gives out the last states of the one below alone. ``out`` are the labels of the output of
    ``top``, the last layer. An output that holds anything but ``out`` and last states is refused.
    """
    blocks = _blocks(top, out, states)
    joins = [True] * (len(states) - 1)
    for name, signal in outputs.items():
        held = [0] if signal is None else [np.count_nonzero(symbols.within(signal.labels, b)) for b in blocks]
        if signal is None or sum(held) != signal.labels.size:
            raise ValueError(f"graph output {name!r}: expected the output of the last layer, or last states of LSTMs")
        if not all(symbols.in_order(signal.labels, block) for block in blocks):
            raise ValueError(f"graph output {name!r}: expected numbers in the order of the layers, got another order")
        holds = [any(symbols.within(part, signal.labels).any() for part in pair) for pair in states]
        for place, (below, above) in enumerate(pairwise(holds)):
            joins[place] &= above or not below
    return joins


def given_steps(outputs: Mapping[str, Signal | None], top: LSTMNode | DenseNodes, out: Array, states: States) -> str:
    """A key of ``notes.GIVES``; "" if the outputs hold all of ``out`` (T, B, n), the labels of the last layer's output.

    ``joins`` has accepted the outputs.
    """
    given = np.concatenate([np.ravel(signal.labels) for signal in outputs.values() if signal is not None])
    held = symbols.within(out, given)
    if held.all():
        return ""
    if held[-1].all() and not held[:-1].any():
        return "last step"
    last_states = not held.any() or (
        isinstance(top, LSTMNode) and np.array_equal(np.sort(out[held]), np.sort(states[-1][0], axis=None))
    )
    return "last states" if last_states else "a part"


def parts(layers: Sequence[LSTMNode | DenseNodes], joins: Sequence[bool]) -> list[list[LSTMNode] | DenseNodes]:
    """The layers, with neighbouring LSTM nodes grouped where they may be layers of one LSTM."""
    parts: list[list[LSTMNode] | DenseNodes] = []
    may_join = iter([False, *joins])
    for layer in layers:
        if isinstance(layer, DenseNodes):
            parts.append(layer)
            continue
        below = parts[-1] if parts else None
        if next(may_join) and isinstance(below, list) and below[-1].kind == layer.kind:
            below.append(layer)
        else:
            parts.append([layer])
    return parts


def _blocks(top: LSTMNode | DenseNodes, out: Array, states: States) -> list[Array]:
    """Labels of the last layer's output, and of the last states that are not part of it."""
    parts = [part for pair in states for part in pair]
    if isinstance(top, LSTMNode):
        del parts[-2]  # its last h is part of its output
        out = out.reshape(*out.shape[:-1], top.directions, top.hidden_size)
    return [out, *parts]
