"""The four moves of the cell, on pre-activations in registers: csrc/kernels/cell.h."""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from lstmkernel.backends.numba.jit import inlined, spliced
from lstmkernel.backends.numba.kernels.activation import (
    exp_parts,
    sigmoid_argument,
    sigmoid_denominator,
    tanh_argument,
    tanh_denominator,
    tanh_numerator,
)
from lstmkernel.backends.numba.kernels.tile import BLOCKS_1, ROWS_1
from lstmkernel.backends.numba.memory import at, lanes
from lstmkernel.backends.numba.vec.operations import v_add, v_div, v_mul
from lstmkernel.backends.numba.vec.registers import block_size, load_tile
from lstmkernel.backends.numba.vec.tail import v_load_n, v_store_n


@inlined
def open_gates(z):
    """The gates of one block of units of one row, as quotients: z holds i, f, g, o before activation.

    i, f and o are 1 / write, 1 / forget and 1 / output; g is candidate / candidate_over.
    """
    i, f, g, o = z
    s, m = exp_parts((sigmoid_argument(i), sigmoid_argument(f), tanh_argument(g), sigmoid_argument(o)))
    write, forget, output = (
        sigmoid_denominator(s[0], m[0]),
        sigmoid_denominator(s[1], m[1]),
        sigmoid_denominator(s[3], m[3]),
    )
    return write, forget, tanh_numerator(s[2], m[2], g), tanh_denominator(s[2], m[2]), output


@inlined
def next_states(quotients, c):
    """c_t and h_t. A product of two activations is one quotient, with one division: i * g and o * tanh(c_t)."""
    write, forget, candidate, candidate_over, output = quotients
    kept = v_div(c, forget)  # 1 forget: what stays of the cell state, f * c
    written = v_div(candidate, v_mul(write, candidate_over))  # 2 input: what to write, i * g
    c_t = v_add(kept, written)  # 3 update: additive
    s, m = exp_parts(tanh_argument(c_t))
    report = v_mul(output, tanh_denominator(s, m))
    h_t = v_div(tanh_numerator(s, m, c_t), report)  # 4 output: what to report, o * tanh(c_t)
    return c_t, h_t


@inlined
def cell(z, c):
    """One block of units of one row: z holds i, f, g, o before activation. Returns c_t and h_t."""
    return next_states(open_gates(z), c)


@inlined
def cells(z, c):
    """The same for several vectors: z holds a tuple of them for each gate."""
    i, f, g, o = z
    s_i, m_i = exp_parts(sigmoid_argument(i))
    s_g, m_g = exp_parts(tanh_argument(g))
    written = v_div(tanh_numerator(s_g, m_g, g), v_mul(sigmoid_denominator(s_i, m_i), tanh_denominator(s_g, m_g)))
    s_f, m_f = exp_parts(sigmoid_argument(f))
    c_t = v_add(v_div(c, sigmoid_denominator(s_f, m_f)), written)
    s_o, m_o = exp_parts(sigmoid_argument(o))
    s_c, m_c = exp_parts(tanh_argument(c_t))
    report = v_mul(sigmoid_denominator(s_o, m_o), tanh_denominator(s_c, m_c))
    return c_t, v_div(tanh_numerator(s_c, m_c, c_t), report)


@spliced
def cell_update(N, H, z, c, h):
    for _ in range(N):
        for unit in range(0, H, lanes(z)):
            c_t, h_t = cell(load_tile(z, 0, ROWS_1, BLOCKS_1), v_load_n(at(c, unit), H - unit))
            v_store_n(at(c, unit), c_t, H - unit)
            v_store_n(at(h, unit), h_t, H - unit)
            z = at(z, block_size(z))
        c, h = at(c, H), at(h, H)
