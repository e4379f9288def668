"""The definition of the variants of the cell, in plain NumPy: csrc/kernels/variant.h. docs/lstm.md has the formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstmkernel.backends.packing import Array, LayerVariant


def sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right 0
        return 1 / (1 + np.exp(-x))


#: Of x, alpha and beta. A NaN stays one.
FUNCTIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "linear": lambda x, alpha, beta: x,
    "tanh": lambda x, alpha, beta: np.tanh(x),
    "sigmoid": lambda x, alpha, beta: sigmoid(x),
    "relu": lambda x, alpha, beta: np.maximum(0, x),
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "leaky_relu": lambda x, alpha, beta: np.where(x < 0, alpha * x, x),
    "thresholded_relu": lambda x, alpha, beta: np.where(x < alpha, 0, x),
    "elu": lambda x, alpha, beta: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
    "softsign": lambda x, alpha, beta: x / (1 + np.abs(x)),
    "softplus": lambda x, alpha, beta: np.logaddexp(0, x),
}


def variant_update(z: Array, v: LayerVariant, c: Array, h: Array) -> None:
    """The four moves of the cell: z [N, 4, H] of any shape, c (N, H) in place, h (N, H) written."""
    i, f, g, o = z.reshape(len(z), 4, -1).swapaxes(0, 1)
    p_i = p_f = p_o = None
    if v.peephole is not None:
        p_i, p_f, _, p_o = v.peephole.reshape(4, -1)

    def activated(of: tuple[str, float, float], x: Array) -> Array:
        name, alpha, beta = of
        y: Array = FUNCTIONS[name](x, alpha, beta).astype(x.dtype, copy=False)
        return y

    def clipped(x: Array) -> Array:
        return np.clip(x, -v.gate_clip, v.gate_clip)

    def gate(x: Array, peephole: Array | None) -> Array:
        return activated(v.gates, clipped(x if peephole is None else x + peephole * c))

    if v.coupled != "input":
        i = gate(i, p_i)
    if v.coupled != "forget":
        f = gate(f, p_f)  # 1 forget: what stays of the cell state
    if v.coupled == "forget":
        f = 1 - i
    elif v.coupled == "input":
        i = 1 - f
    g = activated(v.candidate, clipped(g))  # 2 input: what to write, and the candidate
    c[...] = np.clip(f * c + i * g, -v.cell_clip, v.cell_clip)  # 3 update: additive
    h[...] = gate(o, p_o) * activated(v.output, c)  # 4 output: what to report; the gate sees the new state
