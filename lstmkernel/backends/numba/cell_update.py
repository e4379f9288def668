"""The four moves of the cell, on pre-activations that are in registers: csrc/cell_update.h."""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from lstmkernel.backends.numba.activation import v_sigmoid, v_tanh
from lstmkernel.backends.numba.jit import inlined, spliced
from lstmkernel.backends.numba.memory import at, lanes
from lstmkernel.backends.numba.registers import load_tile, quad
from lstmkernel.backends.numba.tile import PANELS_1, ROWS_1
from lstmkernel.backends.numba.vec import v_fma, v_mul
from lstmkernel.backends.numba.vec_tail import v_load_n, v_store_n


@inlined
def cell(z, c):
    """One block of units of one row: z holds i, f, g, o before activation. Returns c_t and h_t."""
    f = v_sigmoid(z[1])  # 1 forget: what to wipe from the cell state
    i = v_sigmoid(z[0])  # 2 input: what to write,
    g = v_tanh(z[2])  #     and the candidate
    c_t = v_fma(f, c, v_mul(i, g))  # 3 update: additive
    h_t = v_mul(v_sigmoid(z[3]), v_tanh(c_t))  # 4 output: what to report
    return c_t, h_t


@spliced
def cell_update(N, H, z, c, h):
    for _ in range(N):
        for unit in range(0, H, lanes(z)):
            c_t, h_t = cell(load_tile(z, 0, ROWS_1, PANELS_1), v_load_n(at(c, unit), H - unit))
            v_store_n(at(c, unit), c_t, H - unit)
            v_store_n(at(h, unit), h_t, H - unit)
            z = at(z, quad(z))
        c, h = at(c, H), at(h, H)
