"""The definition: every kernel in plain NumPy, float32 and float64. It is also the baseline for the other backends.

Arguments and arrays are those of csrc/lstmkernel.h. Here a block is the whole layer (lanes = H), so packed weights are
plain transposed matrices, and the gates z are (N, 1, 4, H).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from lstmkernel.backends.contract import Backend
from lstmkernel.backends.numpy import layers
from lstmkernel.backends.numpy.int8 import add_product
from lstmkernel.backends.numpy.variant import sigmoid, variant_update
from lstmkernel.backends.packing import (
    Array,
    DenseWeights,
    Int8Matrix,
    LayerVariant,
    LayerWeights,
    LSTMWeights,
    pack_dense,
    pack_int8_layer,
    pack_layer,
)
from lstmkernel.backends.tape import LayerGradients, LayerTape, Parameters, RowsOfTape

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": partial(np.maximum, 0),
}


#: Inf and NaN are results here, as in the other backends, and no reason to warn. Some BLAS warn of Inf times 0.
_quiet = np.errstate(over="ignore", invalid="ignore")


@_quiet
def activation(name: str, x: Array, y: Array) -> None:
    y[...] = ACTIVATIONS[name](x)


@_quiet
def gate_matmul(x: Array, weights: LayerWeights, z: Array) -> None:
    """z = x W_ih^T + b"""
    flat = z.reshape(len(x), -1)
    if weights.scales:
        z[...] = weights.bias
        add_product(flat, x, weights.w_x, weights.scales.x, weights.scales.levels, bounded=False)
        return
    w_x = weights.w_x.reshape(weights.input_size, -1)  # (I, 4H)
    np.matmul(x, w_x, out=flat)
    z += weights.bias


@_quiet
def cell_update(z: Array, c: Array, h: Array) -> None:
    _four_moves(_gates(z), c, h)


def _gates(z: Array) -> tuple[Array, ...]:
    """i, f, g, o, (N, H) each."""
    i, f, g, o = z.reshape(len(z), 4, -1).swapaxes(0, 1)
    return sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)


def _four_moves(gates: tuple[Array, ...], c: Array, h: Array) -> None:
    i, f, g, o = gates
    kept = f * c  # 1 forget: what stays of the cell state
    written = i * g  # 2 input: what to write, a share of the candidate
    c[...] = kept + written  # 3 update: additive, the memory's straight road
    h[...] = o * np.tanh(c)  # 4 output: what to report


@_quiet
def dense_forward(x: Array, weights: DenseWeights, y: Array) -> None:
    w = weights.w.reshape(weights.in_features, -1)[:, : weights.out_features]
    b = weights.bias.reshape(-1)[: weights.out_features]
    z = x @ w + b
    if weights.activation == "softmax":
        _softmax(z, y)
    else:
        activation(weights.activation, z, y)


@np.errstate(under="ignore")
def _softmax(z: Array, y: Array) -> None:
    """y = exp(z) / sum(exp(z)) of each row of z (N, O).

    The largest number is subtracted first, so that exp cannot overflow. A row with NaN or +Inf, or of -Inf alone,
    becomes NaN, as in PyTorch.
    """
    np.exp(z - z.max(axis=1, keepdims=True), out=y)
    y /= y.sum(axis=1, keepdims=True)


@_quiet
def layer_forward(
    x: Array, weights: LayerWeights, lengths: Array | None, reverse: bool, h: Array, c: Array, out: Array
) -> None:
    T, B, I = x.shape
    H = weights.hidden_size
    z_x = np.empty((T * B, 1, 4, H), x.dtype)
    gate_matmul(x.reshape(T * B, I), weights, z_x)
    z_x = z_x.reshape(T, B, 4 * H)

    if lengths is None:
        for step in reversed(range(T)) if reverse else range(T):
            _step(z_x[step], weights, h, c)
            out[step] = h
        return

    out[...] = 0
    for s in range(lengths.max(initial=0)):
        rows = np.flatnonzero(lengths > s)  # the rows that have a step s: the others keep their states
        t = lengths[rows] - 1 - s if reverse else s
        h_rows, c_rows = h[rows], c[rows]
        _step(z_x[t, rows], weights, h_rows, c_rows)
        h[rows], c[rows], out[t, rows] = h_rows, c_rows, h_rows


def _step(z_x: Array, weights: LayerWeights, h: Array, c: Array) -> None:
    """One step of some rows: h and c are updated in place."""
    z = _with_recurrent(z_x, weights, h)
    hidden = h if weights.w_r is None else np.empty_like(c)
    if weights.variant is None:
        cell_update(z, c, hidden)
    else:
        variant_update(z, weights.variant, c, hidden)
    if weights.w_r is not None:
        _project(hidden, weights, h)


def _with_recurrent(z_x: Array, weights: LayerWeights, h: Array) -> Array:
    """z_x + h W_hh^T"""
    if weights.scales is None:
        with_h: Array = z_x + h @ weights.w_h.reshape(h.shape[1], -1)
        return with_h
    z, bounded = z_x.copy(), weights.w_r is None
    add_product(z, h, weights.w_h, weights.scales.h, weights.scales.levels, bounded)
    return z


def _project(hidden: Array, weights: LayerWeights, h: Array) -> None:
    """h = hidden W_hr^T"""
    assert weights.w_r is not None
    if weights.scales is None or weights.scales.r is None:
        h[...] = hidden @ weights.w_r.reshape(hidden.shape[1], -1)[:, : h.shape[1]]
        return
    h[...] = 0
    add_product(h, hidden, weights.w_r, weights.scales.r, weights.scales.levels, bounded=True)


def _pack_layer(
    w_ih: Array, w_hh: Array, bias: Array, w_hr: Array | None, variant: LayerVariant | None = None
) -> LayerWeights:
    return pack_layer(w_ih, w_hh, bias, w_hr, variant, len(bias) // 4)


def _pack_int8_layer(w_ih: Int8Matrix, w_hh: Int8Matrix, bias: Array, w_hr: Int8Matrix | None) -> LayerWeights:
    return pack_int8_layer(w_ih, w_hh, bias, w_hr, len(bias) // 4)


@_quiet
def layer_record(tape: LayerTape, weights: LayerWeights, threads: int) -> None:
    """layer_forward that keeps the gates and c."""
    H = weights.hidden_size
    w_h = weights.w_h.reshape(weights.output_size, 4 * H)
    start = 0
    for s, n in tape.active_steps():
        t, rows = tape.times(s, n), np.arange(n)
        z = np.empty((n, 4 * H), tape.c.dtype)
        gate_matmul(tape.x[t, rows], weights, z.reshape(n, 1, 4, H))
        z += tape.h_before(s, n) @ w_h
        gates = _gates(z)
        tape.gates[start : start + n] = np.stack(gates, axis=1)
        c, hidden = tape.c[s - tape.first + 1, :n], np.empty((n, H), z.dtype)
        c[...] = tape.c[s - tape.first, :n]
        _four_moves(gates, c, hidden)
        tape.h[t, rows] = hidden if weights.w_r is None else hidden @ weights.w_r.reshape(H, -1)[:, : weights.proj_size]
        start += n


@_quiet
def layer_backward(
    tapes: Iterable[RowsOfTape], parameters: Parameters, gradients: LayerGradients, threads: int
) -> None:
    for tape, rows in tapes:
        _steps_backward(tape, parameters, gradients.rows(rows))


def _steps_backward(tape: LayerTape, parameters: Parameters, gradients: LayerGradients) -> None:
    """One step after the other, last first:

    d_c += d_h * o * (1 - tanh(c)^2)                      through h, added to what comes from the next step's c
    d_i, d_f, d_g, d_o = d_c * g, d_c * c_before, d_c * i, d_h * tanh(c)
    d_z = each times the slope of its activation          s (1 - s) of a sigmoid, 1 - g^2 of tanh
    d_c_before = d_c * f                                  the straight road: gated, not multiplied by a matrix
    d_h_before = d_z W_hh                                 all other paths
    """
    w_ih, w_hh, w_hr = parameters
    H = w_ih.shape[0] // 4
    stop = len(tape.gates)
    for s, n in tape.active_steps()[::-1]:
        t, rows = tape.times(s, n), np.arange(n)
        i, f, g, o = tape.gates[stop - n : stop].swapaxes(0, 1)
        c_before, reported = tape.c[s - tape.first, :n], np.tanh(tape.c[s - tape.first + 1, :n])
        d_h, d_c = gradients.h[:n], gradients.c[:n]
        if gradients.out is not None:
            d_h += gradients.out[t, rows]
        d_hidden = d_h if w_hr is None else d_h @ w_hr
        d_c += d_hidden * o * (1 - reported * reported)
        d_i, d_f, d_g, d_o = d_c * g, d_c * c_before, d_c * i, d_hidden * reported
        slopes = d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g * g), d_o * o * (1 - o)
        d_z = np.stack(slopes, axis=1).reshape(n, 4 * H)
        d_c *= f
        if gradients.x is not None:
            gradients.x[t, rows] = d_z @ w_ih + (gradients.x[t, rows] if gradients.add_x else 0)
        if gradients.parameters is not None:
            of = gradients.parameters
            of.w_ih[...] += d_z.T @ tape.x[t, rows]
            of.w_hh[...] += d_z.T @ tape.h_before(s, n)
            of.bias[...] += d_z.sum(axis=0)
            if of.w_hr is not None:
                of.w_hr[...] += d_h.T @ (o * reported)
        d_h[...] = d_z @ w_hh
        stop -= n


def backend() -> Backend:
    lstm_forward, prepare, prepare_advance = layers.of(layer_forward)
    return Backend(
        name="numpy",
        min_gflops=4,
        pack_layer=_pack_layer,
        pack_lstm=LSTMWeights,
        pack_dense=lambda weight, bias, activation: pack_dense(weight, bias, activation, -(-len(bias) // 4)),
        activation=activation,
        gate_matmul=gate_matmul,
        cell_update=cell_update,
        dense_forward=dense_forward,
        layer_forward=layer_forward,
        layer_record=layer_record,
        layer_backward=layer_backward,
        lstm_forward=lstm_forward,
        prepare=prepare,
        prepare_advance=prepare_advance,
        address=lambda array: array,
        pack_int8_layer=_pack_int8_layer,
    )
