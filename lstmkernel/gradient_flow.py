"""gradient_flow: how much of the gradient at one cell state reaches the earlier ones, and on which paths."""

from __future__ import annotations

import operator
from typing import NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.large import slices
from lstmkernel.backends.packing import Array
from lstmkernel.engine import inputs
from lstmkernel.lstm import LSTM
from lstmkernel.trace import Run, as_x, checked_x, follow

#: Floating-point operations of one matrix product: 0.4 s on a slow core.
MOST_FLOPS = 10**9


class GradientFlow(NamedTuple):
    """The size of d c_at / d c_t for every layer, direction and step t.

    Arrays are float64, (L*D, T, B), or (L*D, B, T) with ``batch_first``, or (L*D, T) where x is unbatched. The first
    index is that of ``c_n``; the steps are those of x. Each array is 1 at step ``at`` (``other`` is 0), and 0 at the
    steps that the direction takes after it.
    """

    straight: Array  # the size of diag(f_at * ... * f_{t+1}): along the cell state, gated by f
    other: Array  # the size of the rest: all paths that leave the cell state through some h
    total: Array  # the size of the whole; at most straight + other
    rnn: Array  # the size of the plain RNN's d h_at / d h_t

    def __repr__(self) -> str:
        """Names and shapes; the arrays themselves are long."""
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(self._fields, self, strict=True))
        return f"GradientFlow({shapes})"


def gradient_flow(
    lstm: LSTM, x: ArrayLike, at: SupportsIndex = -1, *, state: tuple[ArrayLike, ArrayLike] | None = None
) -> GradientFlow:
    """How much of a gradient dL/dc at step ``at`` reaches the cell state of each earlier step.

    Parameters
    ----------
    lstm
        An LSTM with any layers, directions and projection. The flow is computed in float64, whatever its dtype.
    x, state
        As ``lstm`` takes them. Each row has its own flow.
    at
        The step that the gradient starts from, -T..T-1 in the order in which each direction takes its steps: -1 is
        where ``c_n`` comes from, step T - 1 of x forward and step 0 reverse.

    For each layer and direction, J_t = d c_at / d c_t is an (H, H) matrix. In it, c_t changes after step t; with c_t
    change h_t = o_t tanh(c_t) and all that follows from both. No other layer or direction lies on a path from c_t to
    c_at. Sizes are root-mean-square gains,

        size(J) = ||J||_F / sqrt(H):  size(J)^2 is the mean of |v J|^2 / |v|^2 over all directions of v = dL/dc_at,

    of the straight road diag(f_at * ... * f_{t+1}), of J_t, and of their difference. J_t is found backwards, by the
    chain rule of the cell (as in Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000):

        J_{t-1} = J_t diag(f_t) + M_{t-1} diag(o_{t-1} * (1 - tanh(c_{t-1})^2)),   M_{t-1} = dz_t W_hh W_hr
        dz_t    = [J_t diag(g i (1-i)), J_t diag(c_{t-1} f (1-f)), J_t diag(i (1-g^2)), M_t diag(tanh(c_t) o (1-o))]

    ``rnn`` is the same for a plain tanh RNN, h_t = tanh(W_ig x_t + b_g + W_hg h_{t-1}). That RNN is the layer without
    its gates and its cell state: it has the weights of the layer's candidate gate g, and the layer's own input and
    initial h. With a projection, its h is W_hr times that tanh, and the derivative is taken from tanh to tanh. Its
    d h_at / d h_t is a product of matrices diag(1 - h^2) W_hg, which vanishes or explodes (Pascanu et al. 2013).

    Costs 8 H^3 float64 operations for each step, row, layer and direction (2 H^3 more for ``rnn``), and some B * 8H * H
    numbers of memory.

    Raises ValueError if x has no step ``at``, TypeError if ``at`` is not an integer; otherwise as ``lstm``.
    """
    x_steps, batched = checked_x(lstm, x)
    T, B, _ = x_steps.shape
    step = _checked_step(at, T)
    network = lstm.engine
    double = network.on(network.backend, network.options.num_threads, np.dtype(np.float64))
    start = (*inputs.states_of(network, state, B, batched), x_steps)
    h_0, c_0, x_steps = (array.astype(np.float64) for array in start)
    fields: list[list[Array]] = [[], [], [], []]
    for run in follow(double, x_steps, (h_0, c_0)):
        for sizes, field in zip((*_of_cell(run, step), _of_rnn(run, step)), fields, strict=True):
            field.append(run.in_time(sizes))
    return GradientFlow(*(as_x(np.stack(field), lstm.batch_first, batched) for field in fields))


def _checked_step(at: SupportsIndex, T: int) -> int:
    try:
        step = operator.index(at)
    except TypeError:
        raise TypeError(f"at: expected an integer, got {type(at).__name__}") from None
    if not -T <= step < T:
        raise ValueError(f"at: expected {-T}..{T - 1}, a step of x, got {step}" if T else "at: x has no steps")
    return step % T


def _size(jacobian: Array) -> Array:
    """(B, H, H) -> (B,): the root-mean-square gain."""
    squares: Array = (jacobian**2).sum((1, 2)) / jacobian.shape[1]
    return np.sqrt(squares)


def _times(jacobians: Array, matrix: Array) -> Array:
    """jacobians (B, H, n) @ matrix, in products that are short enough for Ctrl-C."""
    rows = jacobians.reshape(-1, jacobians.shape[-1])
    product = np.empty((len(rows), matrix.shape[1]))
    for part in slices(len(rows), MOST_FLOPS // (2 * matrix.size)):
        np.matmul(rows[part], matrix, out=product[part])
    return product.reshape(*jacobians.shape[:-1], -1)


def _of_cell(run: Run, at: int) -> Array:
    """straight, other and total, each (T, B)."""
    T, B, H = run.c.shape
    w_hh = run.weights.w_hh if run.weights.w_hr is None else run.weights.w_hh @ run.weights.w_hr  # (4H, H)
    sizes = np.zeros((3, T, B))
    unit = np.eye(H)
    to_c = np.tile(unit, (B, 1, 1))  # J_t
    to_m = np.zeros((B, H, H))  # M_t, the derivative by o_t * tanh(c_t) where c_t stays
    road = np.ones((B, 1, H))
    for t in range(at, -1, -1):
        straight = road * unit
        sizes[:, t] = _size(straight), _size(to_c - straight), _size(to_c)
        if t:
            i, f, g, o = run.gates[:, t, :, None]  # (B, 1, H) each: one factor for each column
            before, tanh_c = run.c[t - 1, :, None], np.tanh(run.c[t, :, None])
            d_i, d_f, d_g = to_c * (g * i * (1 - i)), to_c * (before * f * (1 - f)), to_c * (i * (1 - g**2))
            d_o = to_m * (tanh_c * o * (1 - o))
            to_m = _times(np.concatenate((d_i, d_f, d_g, d_o), axis=-1), w_hh)
            to_c = to_c * f + to_m * (run.gates[3, t - 1, :, None] * (1 - np.tanh(before) ** 2))
            road = road * f
    return sizes


def _of_rnn(run: Run, at: int) -> Array:
    """The plain RNN's flow, (T, B)."""
    states, w_hh = _plain_rnn(run)
    T, B, H = states.shape
    sizes = np.zeros((T, B))
    jacobian = np.tile(np.eye(H), (B, 1, 1))
    for t in range(at, -1, -1):
        sizes[t] = _size(jacobian)
        jacobian = _times(jacobian * (1 - states[t, :, None] ** 2), w_hh)
    return sizes


def _plain_rnn(run: Run) -> tuple[Array, Array]:
    """tanh at every step, (T, B, H), of a plain RNN with the weights of gate g; and its recurrent matrix, (H, H)."""
    (T, B, H), (w_ih, w_hh, bias, w_hr, _) = run.c.shape, run.weights
    candidate = slice(2 * H, 3 * H)
    w_hh = w_hh[candidate]
    inputs = run.x @ w_ih[candidate].T + bias[candidate]
    states, h = np.empty((T, B, H)), run.h_0
    for t in range(T):
        states[t] = np.tanh(inputs[t] + h @ w_hh.T)
        h = states[t] if w_hr is None else states[t] @ w_hr.T
    return states, w_hh if w_hr is None else w_hh @ w_hr
