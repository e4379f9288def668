"""trace: every gate and state of an LSTM at every step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.packing import Array
from lstmkernel.backends.tape import LayerTape
from lstmkernel.engine import inputs
from lstmkernel.engine.network import Network, State
from lstmkernel.engine.parameters import LayerParameters, layer_parameters
from lstmkernel.engine.tape import record
from lstmkernel.lstm import LSTM


class Trace(NamedTuple):
    """Every gate and state of every layer, direction and step, in the model's dtype.

    Arrays are (L*D, T, B, H), or (L*D, B, T, H) with ``batch_first``, or (L*D, T, H) where x is unbatched; ``h`` has R
    instead of H. The first index is D * layer + direction, as in ``h_n`` and ``c_n``. Both directions have the steps of
    x in the order of x: the reverse direction begins at step T - 1.
    """

    i: Array  # input gate, 0..1: the share of the candidate that is written
    f: Array  # forget gate, 0..1: the share of the cell state that is kept
    g: Array  # candidate, -1..1
    o: Array  # output gate, 0..1: the share of tanh(c) that is reported
    c: Array  # cell state after the step
    h: Array  # hidden state after the step

    def __repr__(self) -> str:
        """Names and shapes; the arrays themselves are long."""
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(self._fields, self, strict=True))
        return f"Trace({shapes}, {self.i.dtype})"


def trace(lstm: LSTM, x: ArrayLike, state: tuple[ArrayLike, ArrayLike] | None = None) -> Trace:
    """Every gate and state of ``lstm(x, state)``; arguments and errors as there.

    All numbers come from the model's own kernels, as ``LSTM.forward`` keeps them. ``h`` of the top layer is
    bit-identical to ``out``, on the backends that promise bit-identical results.
    """
    x_steps, batched = checked_x(lstm, x)
    network = lstm.engine.wide()  # kernels that record take no narrow weights
    fields: list[list[Array]] = [[], [], [], [], [], []]
    for run in follow(network, x_steps, inputs.states_of(network, state, x_steps.shape[1], batched)):
        for values, field in zip((*run.gates, run.c, run.h), fields, strict=True):
            field.append(run.in_time(values))
    return Trace(*(as_x(np.stack(field), lstm.batch_first, batched) for field in fields))


class Run(NamedTuple):
    """One direction of one layer over a sequence. Its steps are in the order in which the direction takes them."""

    weights: LayerParameters
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
    lstm.engine.require_plain("to trace")
    return inputs.steps_of(lstm.engine, x)


def as_x(values: Array, batch_first: bool, batched: bool) -> Array:
    """(L*D, T, B, ...) with the axes of time and rows in the order of x."""
    if not batched:
        return values[:, :, 0]
    return values.swapaxes(1, 2) if batch_first else values


def follow(network: Network, x: Array, state: State) -> Iterator[Run]:
    """Every layer and direction over x (T, B, I), from h_0 (L*D, B, R) and c_0 (L*D, B, H), which it may write to."""
    for layer in record(network, x, None, state, batched=True, every=None)[2].layers:
        for direction in layer.directions:
            yield _run(direction.tape, layer_parameters(network.parameters, direction.suffix))


def _run(tape: LayerTape, weights: LayerParameters) -> Run:
    T, B, _ = tape.x.shape
    x, h = (steps[::-1] if tape.reverse else steps for steps in (tape.x, tape.h))
    gates = np.moveaxis(tape.gates.reshape(T, B, *tape.gates.shape[1:]), 2, 0)
    return Run(weights, tape.reverse, x, tape.h_0, gates, tape.c[1:], h)
