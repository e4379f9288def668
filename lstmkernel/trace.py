"""trace: every gate and state of an LSTM at every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.numpy_variant import sigmoid
from lstmkernel.backends.packing import Array
from lstmkernel.lstm import LSTM


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

    ``h`` and ``c`` come from the model's own kernels, one step at a time: ``h`` of the top layer is ``out``, to the bit
    on the backends that promise one answer. The gates follow from them, in float64, by the formulas of the cell:

        z_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
        i_t, f_t, o_t = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o);  g_t = tanh(z_g)

    For looking, not for speed: a call of the kernels for each step, layer and direction.
    """
    x_steps, batched = checked_x(lstm, x)
    h_0, c_0 = lstm._check_state(state, x_steps.shape[1], batched)
    fields: list[list[Array]] = [[], [], [], [], [], []]
    for run in follow(lstm, x_steps, h_0, c_0):
        for values, field in zip((*run.gates, run.c, run.h), fields, strict=True):
            field.append(run.in_time(values).astype(lstm.dtype, copy=False))
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
    c_0: Array  # (B, H)
    gates: Array  # i, f, g, o after their activations, (4, T, B, H), float64
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


def follow(lstm: LSTM, x: Array, h_0: Array, c_0: Array) -> Iterator[Run]:
    """Every layer and direction over x (T, B, I), from h_0 (L*D, B, R) and c_0 (L*D, B, H)."""
    shape, parameters = lstm.shape, lstm.state_dict()
    for layer in range(shape.num_layers):
        sides = []
        for direction in range(shape.directions):
            end, k = shape.suffix(layer, direction), layer * shape.directions + direction
            named = {name.removesuffix(end): value for name, value in parameters.items() if name.endswith(end)}
            run = _run(_layer(lstm, layer, named), named, bool(direction), x, h_0[k], c_0[k])
            sides.append(run.in_time(run.h))
            yield run
        x = np.concatenate(sides, axis=-1)


def _layer(lstm: LSTM, layer: int, named: Mapping[str, Array]) -> LSTM:
    """One direction of one layer as a model of its own, time first: the same kernels."""
    alone = {"num_layers": 1, "bidirectional": False, "batch_first": False, "initial_state": False}
    config = {**lstm.config(), **alone, "input_size": lstm.shape.layer_input_size(layer)}
    return LSTM.from_config(config, {f"{name}_l0": value for name, value in named.items()})


def _run(layer: LSTM, named: Mapping[str, Array], reverse: bool, x: Array, h_0: Array, c_0: Array) -> Run:
    if reverse:
        x = x[::-1]
    weights = _weights(named)
    (T, B, _), H = x.shape, layer.hidden_size
    before = np.empty((T + 1, B, h_0.shape[1]), layer.dtype)  # h before every step, and after the last
    c = np.empty((T, B, H), layer.dtype)
    before[0] = h_0
    state = h_0[None], c_0[None]
    for t in range(T):
        _, state = layer(x[t : t + 1], state)
        before[t + 1], c[t] = state[0][0], state[1][0]
    z = x @ weights.w_ih.T + before[:-1] @ weights.w_hh.T + weights.bias
    i, f, g, o = np.moveaxis(z.reshape(T, B, 4, H), 2, 0)
    gates = np.stack((sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)))
    return Run(weights, reverse, x, h_0, c_0, gates, c, before[1:])


def _weights(named: Mapping[str, Array]) -> Weights:
    double = {name: value.astype(np.float64) for name, value in named.items()}
    bias = np.zeros(len(double["weight_ih"]))
    if "bias_ih" in double:
        bias = double["bias_ih"] + double["bias_hh"]
    return Weights(double["weight_ih"], double["weight_hh"], bias, double.get("weight_hr"))
