"""trace: every gate and state of an LSTM at every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.packing import Array
from lstmkernel.backends.tape import LayerTape
from lstmkernel.engine.tape import record
from lstmkernel.lstm import LSTM, State


class Trace(NamedTuple):
    """Every gate and state of every layer, direction and step, in the model's dtype.

    Arrays are (L*D, T, B, H), or (L*D, B, T, H) with ``batch_first``, or (L*D, T, H) where x is unbatched; ``h`` has R
    for H. The first index is that of ``h_n`` and ``c_n``, D * layer + direction. Steps are those of x in both
    directions: the reverse one begins at step T - 1.
    """

    i: Array  # input gate, 0..1: the share of the candidate that is written
    f: Array  # forget gate, 0..1: the share of the cell state that is kept
    g: Array  # candidate, -1..1
    o: Array  # output gate, 0..1: the share of tanh(c) that is reported
    c: Array  # cell state after the step
    h: Array  # hidden state after the step


def trace(lstm: LSTM, x: ArrayLike, state: tuple[ArrayLike, ArrayLike] | None = None) -> Trace:
    """Every gate and state of ``lstm(x, state)``; arguments and errors as there.

    All come from the model's own kernels, as ``LSTM.forward`` keeps them: ``h`` of the top layer is ``out``, to the bit
    on the backends that promise one answer.
    """
    x_steps, batched = checked_x(lstm, x)
    fields: list[list[Array]] = [[], [], [], [], [], []]
    for run in follow(lstm, x_steps, lstm._check_state(state, x_steps.shape[1], batched)):
        for values, field in zip((*run.gates, run.c, run.h), fields, strict=True):
            field.append(run.in_time(values))
    return Trace(*(as_x(np.stack(field), lstm.batch_first, batched) for field in fields))


class Weights(NamedTuple):
    """One direction of one layer, in float64."""

    w_ih: Array  # (4H, I)
    w_hh: Array  # (4H, R)
    bias: Array  # (4H,), bias_ih + bias_hh
    w_hr: Array | None  # (R, H), the projection


class Run(NamedTuple):
    """One direction of one layer over a sequence, its steps in the order in which they were taken."""

    weights: Weights
    reverse: bool
    x: Array  # (T, B, I) of this layer
    h_0: Array  # (B, R)
    gates: Array  # i, f, g, o, (4, T, B, H)
    c: Array  # (T, B, H)
    h: Array  # (T, B, R)

    def in_time(self, steps: Array) -> Array:
        """An array of this run's steps (T, ...), in the order of x."""
        return steps[::-1] if self.reverse else steps


def checked_x(lstm: LSTM, x: ArrayLike) -> tuple[Array, bool]:
    """x as (T, B, I), and whether it was batched."""
    if not isinstance(lstm, LSTM):
        raise TypeError(f"lstm: expected an LSTM, got {type(lstm).__name__}")
    lstm._check_plain("to trace")
    return lstm._check_x(x)


def as_x(values: Array, batch_first: bool, batched: bool) -> Array:
    """(L*D, T, B, ...) with its time and rows where x has them."""
    if not batched:
        return values[:, :, 0]
    return values.swapaxes(1, 2) if batch_first else values


def follow(lstm: LSTM, x: Array, state: State) -> Iterator[Run]:
    """Every layer and direction over x (T, B, I), from h_0 (L*D, B, R) and c_0 (L*D, B, H), which it may write to."""
    for layer in record(lstm, x, None, state, batched=True, every=None)[2].layers:
        for part in layer.parts:
            yield _run(part.tape, _weights(lstm.state_dict(), part.name_end))


def _run(tape: LayerTape, weights: Weights) -> Run:
    T, B, _ = tape.x.shape
    x, h = (steps[::-1] if tape.reverse else steps for steps in (tape.x, tape.h))
    gates = np.moveaxis(tape.gates.reshape(T, B, *tape.gates.shape[1:]), 2, 0)
    return Run(weights, tape.reverse, x, tape.h_0, gates, tape.c[1:], h)


def _weights(named: Mapping[str, Array], end: str) -> Weights:
    """Of the layer and direction whose names end so."""
    double = {name.removesuffix(end): value.astype(np.float64) for name, value in named.items() if name.endswith(end)}
    bias = np.zeros(len(double["weight_ih"]))
    if "bias_ih" in double:
        bias = double["bias_ih"] + double["bias_hh"]
    return Weights(double["weight_ih"], double["weight_hh"], bias, double.get("weight_hr"))
