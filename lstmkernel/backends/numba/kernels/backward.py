"""The backward pass of one layer and direction, over what record.py kept: csrc/kernels/backward.h, which explains it.

It runs on one thread. Every sum has the same order as in C. d_x goes through a buffer.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.activation import v_number, v_tanh
from lstmkernel.backends.numba.kernels.gradient_products import WeightJob, transposed_product, weight_gradient
from lstmkernel.backends.numba.kernels.record import row_steps, rows_at, tape_h_before, tape_time, tape_x
from lstmkernel.backends.numba.kernels.tile import ZERO
from lstmkernel.backends.numba.kernels.transpose import transpose
from lstmkernel.backends.numba.memory import at, copy, lanes
from lstmkernel.backends.numba.structs import struct
from lstmkernel.backends.numba.vec.operations import v_add, v_fma, v_fnma, v_load, v_mul, v_store, v_sub
from lstmkernel.backends.numba.vec.registers import block_size
from lstmkernel.backends.numba.vec.tail import v_load_n, v_store_n

#: Sizes and padded widths of a row; what is asked for; the caller's arrays; then those of run/training.py.
BackwardPass = struct(
    "BackwardPass",
    "int I H P R most_rows",
    "int c_stride h_stride d_z_stride hidden_stride d_x_stride transposed_stride",
    "flag has_d_out of_x of_weights add_x",
    "int d_out_step d_out_row x_step x_row",
    "numbers d_out d_x",
    "numbers w_hh w_ih w_hr d_weights d_w_hr",
    "numbers d_h d_c d_hidden",
    "numbers d_z transposed hidden d_h_rows d_h_transposed d_x_rows",
    "rows pointers",
)


@internal
def rows_from(tape, s, active):
    """How many rows take step s, where `active` take the one after it."""
    while active < tape.B and row_steps(tape, active) > s:
        active += 1
    return active


@internal
def all_rows(tape):
    """The rows of all steps of the tape, and those of the last step."""
    count, active = ZERO, tape.B
    for s in range(tape.first, tape.last):
        active = rows_at(tape, s, active)
        count += active
    return count, active


@inlined
def cell_backward(gates, H, n, c_before, c_t, d_h, d_c, d_z):
    """The cell of n units, a vector or less. gates: i, f, g, o; d_c: the gradient of c_t becomes that of c_before.

    Returns o * tanh(c_t).
    """
    i, f = v_load_n(gates, n), v_load_n(at(gates, H), n)
    g, o = v_load_n(at(gates, 2 * H), n), v_load_n(at(gates, 3 * H), n)
    one, reported = v_number(i, 1), v_tanh(c_t)
    hidden = v_mul(o, reported)
    dc = v_fma(v_mul(d_h, o), v_fnma(reported, reported, one), v_load(d_c))
    v_store_n(d_z, v_mul(v_mul(dc, g), v_mul(i, v_sub(one, i))), n)
    v_store_n(at(d_z, H), v_mul(v_mul(dc, c_before), v_mul(f, v_sub(one, f))), n)
    v_store_n(at(d_z, 2 * H), v_mul(v_mul(dc, i), v_fnma(g, g, one)), n)
    v_store_n(at(d_z, 3 * H), v_mul(v_mul(d_h, hidden), v_sub(one, o)), n)
    v_store(d_c, v_mul(dc, f))
    return hidden


@internal
def cells_backward(back, tape, gates, step, active, chunk_row):
    """The cells of one step. chunk_row: the step's first row in the chunk."""
    for row in range(active):
        c_before = at(tape.c, (step * tape.B + row) * back.H)
        d_h = at(back.d_hidden, row * (back.c_stride if back.P else back.h_stride))
        d_c = at(back.d_c, row * back.c_stride)
        of_row, d_z = at(gates, row * 4 * back.H), at(back.d_z, (chunk_row + row) * back.d_z_stride)
        hidden = at(back.hidden, (chunk_row + row) * back.hidden_stride)
        for unit in range(0, back.H, lanes(gates)):
            n = back.H - unit
            states = (v_load_n(at(c_before, unit), n), v_load_n(at(c_before, tape.B * back.H + unit), n))
            now = (v_load(at(d_h, unit)), at(d_c, unit), at(d_z, unit))
            hidden_now = cell_backward(at(of_row, unit), back.H, n, *states, *now)
            if back.P:
                v_store(at(hidden, unit), hidden_now)


@spliced
def add_to(to, numbers, n):
    """to += numbers, n of them."""
    for i in range(0, n, lanes(to)):
        v_store_n(at(to, i), v_add(v_load_n(at(to, i), n - i), v_load_n(at(numbers, i), n - i)), n - i)


@internal
def add_d_out(back, tape, s, active):
    """d_h += the gradient of h_t itself, which the caller gave."""
    for row in range(active):
        d_out = at(back.d_out, tape_time(tape, s, row) * back.d_out_step + row * back.d_out_row)
        add_to(at(back.d_h, row * back.h_stride), d_out, back.R)


@spliced
def project_backward(back, active, chunk_row):
    """d_h, of h after the projection, becomes d_hidden."""
    h_stride, c_stride = back.h_stride, back.c_stride
    for row in range(active):
        copy(at(back.d_h_rows, (chunk_row + row) * h_stride), at(back.d_h, row * h_stride), h_stride)
    transposed_product(back.P, c_stride, back.w_hr, back.d_h, h_stride, back.d_hidden, c_stride, active)


@internal
def step_backward(back, tape, gates, s, active, chunk_row):
    if back.has_d_out:
        add_d_out(back, tape, s, active)
    if back.P:
        project_backward(back, active, chunk_row)
    cells_backward(back, tape, gates, s - tape.first, active, chunk_row)
    d_z = at(back.d_z, chunk_row * back.d_z_stride)
    transposed_product(4 * back.H, back.h_stride, back.w_hh, d_z, back.d_z_stride, back.d_h, back.h_stride, active)


@internal
def transpose_inputs(back, tape, s0, s1, active, N):
    """[x, 1, h_before] of the chunk's rows, transposed. The rows of step s1 - 1 are first, those of s0 last."""
    for part in range(2):
        n, now = ZERO, active
        for s in range(s1 - 1, s0 - 1, -1):
            now = rows_from(tape, s, now)
            for row in range(now):
                back.pointers[n] = tape_h_before(tape, s, row, back.R) if part else tape_x(tape, s, row)
                n += 1
        place = at(back.transposed, part * (back.I + 1) * back.transposed_stride)
        transpose(place, back.transposed_stride, back.pointers, N, back.R if part else back.I)
    for k in range(N):
        back.transposed[back.I * back.transposed_stride + k] = 1


@internal
def inputs_backward(back, tape, s0, s1, active, N):
    """d_x of the chunk's rows."""
    transposed_product(4 * back.H, back.I, back.w_ih, back.d_z, back.d_z_stride, back.d_x_rows, back.d_x_stride, N)
    found = back.d_x_rows
    for s in range(s1 - 1, s0 - 1, -1):
        active = rows_from(tape, s, active)
        for row in range(active):
            d_x = at(back.d_x, tape_time(tape, s, row) * back.x_step + row * back.x_row)
            if back.add_x:
                add_to(d_x, found, back.I)
            else:
                copy(d_x, found, back.I)
            found = at(found, back.d_x_stride)


@internal
def weights_backward(back, N):
    inputs = back.I + 1 + back.R
    job = WeightJob(back.transposed, back.transposed_stride, inputs, N, back.d_z, back.d_z_stride, back.d_weights)
    weight_gradient(job, (4 * back.H + block_size(back.d_z) - 1) // block_size(back.d_z))
    if back.P:
        for k in range(N):
            back.pointers[k] = at(back.d_h_rows, k * back.h_stride)
        transpose(back.d_h_transposed, back.transposed_stride, back.pointers, N, back.P)
        d_h, stride = back.d_h_transposed, back.transposed_stride
        projection = WeightJob(d_h, stride, back.P, N, back.hidden, back.hidden_stride, back.d_w_hr)
        weight_gradient(projection, back.hidden_stride // block_size(back.d_z))


@internal
def chunk_backward(back, tape, gates, s1, active):
    """As many steps before s1 as have a place. Returns the first of them, how many rows take it, and its gates."""
    s, N, now = s1, ZERO, active
    while s > tape.first:
        now = rows_from(tape, s - 1, now)
        if N + now > back.most_rows:
            break
        s -= 1
        gates = at(gates, -now * 4 * back.H)
        step_backward(back, tape, gates, s, now, N)
        N += now
    if back.of_x:
        inputs_backward(back, tape, s, s1, active, N)
    if back.of_weights:
        transpose_inputs(back, tape, s, s1, active, N)
        weights_backward(back, N)
    return s, now, gates


@spliced
def layer_backward(back, tape):
    rows, active = all_rows(tape)
    gates, s = at(tape.gates, rows * 4 * back.H), tape.last
    while s > tape.first:
        s, active, gates = chunk_backward(back, tape, gates, s, active)
