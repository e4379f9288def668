"""One direction of one layer through time backwards, over what record.py kept.

csrc/kernels/backward.h explains it.

On one thread; what is summed in which order is as in C. Weights come packed and their gradients go back packed
(training.py), d_x goes through a buffer, and so all three products with the weights the other way round are dense_rows.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from numba import int64

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.activation import LINEAR, v_number, v_tanh
from lstmkernel.backends.numba.kernels.dense import DenseJob, dense_rows
from lstmkernel.backends.numba.kernels.layer import Dense
from lstmkernel.backends.numba.kernels.tape import all_rows, rows_before, tape_h_before, tape_time, tape_x
from lstmkernel.backends.numba.kernels.tile import ZERO, sweep
from lstmkernel.backends.numba.kernels.transpose import turn
from lstmkernel.backends.numba.memory import at, copy, lanes, pointer, pointer_to_rows
from lstmkernel.backends.numba.target import TILE_ROWS
from lstmkernel.backends.numba.vec.operations import v_add, v_fma, v_fnma, v_load, v_mul, v_store, v_sub
from lstmkernel.backends.numba.vec.registers import load_tile, multiply_add, quad, row_pointers, store_tile
from lstmkernel.backends.numba.vec.tail import v_load_n, v_store_n

#: Sizes, padded widths of a row, most rows of a chunk, whether there is d_out and which gradients are asked for;
#: strides of the caller's arrays; then pointers to them, and to training.py's.
INTEGERS = (
    "I H P R c_stride h_stride d_z_stride hidden_stride d_x_stride turned_stride most_rows "
    "has_d_out of_x of_weights add_x d_out_step d_out_row x_step x_row"
)
REALS = "d_out d_x w_hh w_ih w_hr d_weights d_w_hr d_h d_c d_hidden d_z turned hidden d_h_rows d_h_turned d_x_rows"
Backward = namedtuple("Backward", f"{INTEGERS} {REALS} pointers")

#: x: inputs x_row apart, [N]; z: rows z_row apart; d: [quads][inputs][QUAD].
WeightJob = namedtuple("WeightJob", "x x_row inputs N z z_row d")


@internal
def backward_at(address, real):
    n = pointer(address, int64)
    sizes = (n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10])
    asked = (n[11] != 0, n[12] != 0, n[13] != 0, n[14] != 0, n[15], n[16], n[17], n[18])
    callers = (pointer(n[19], real), pointer(n[20], real))
    weights = (pointer(n[21], real), pointer(n[22], real), pointer(n[23], real))
    of_weights = (pointer(n[24], real), pointer(n[25], real))
    step = (pointer(n[26], real), pointer(n[27], real), pointer(n[28], real))
    chunk = (pointer(n[29], real), pointer(n[30], real), pointer(n[31], real), pointer(n[32], real))
    rest = (pointer(n[33], real), pointer(n[34], real), pointer_to_rows(n[35], real))
    return Backward(*sizes, *asked, *callers, *weights, *of_weights, *step, *chunk, *rest)


@inlined
def cell_backward(gates, H, n, c_before, c_t, d_h, d_c, d_z):
    """n units, a vector of them or less. gates holds i, f, g, o; d_c, of c_t, becomes that of c_before.

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
def cells_backward(b, tape, gates, step, active, chunk_row):
    """Of one step. chunk_row: its first row in the chunk."""
    for row in range(active):
        c_before = at(tape.c, (step * tape.B + row) * b.H)
        d_h, d_c = at(b.d_hidden, row * (b.c_stride if b.P else b.h_stride)), at(b.d_c, row * b.c_stride)
        of_row, d_z = at(gates, row * 4 * b.H), at(b.d_z, (chunk_row + row) * b.d_z_stride)
        hidden = at(b.hidden, (chunk_row + row) * b.hidden_stride)
        for unit in range(0, b.H, lanes(gates)):
            n = b.H - unit
            states = (v_load_n(at(c_before, unit), n), v_load_n(at(c_before, tape.B * b.H + unit), n))
            h = cell_backward(at(of_row, unit), b.H, n, *states, v_load(at(d_h, unit)), at(d_c, unit), at(d_z, unit))
            if b.P:
                v_store(at(hidden, unit), h)


@internal
def add_d_out(b, tape, s, active):
    """d_h gets what the loss says of h_t itself."""
    for row in range(active):
        d_out, d_h = (
            at(b.d_out, tape_time(tape, s, row) * b.d_out_step + row * b.d_out_row),
            at(b.d_h, row * b.h_stride),
        )
        for i in range(0, b.R, lanes(d_h)):
            v_store_n(at(d_h, i), v_add(v_load_n(at(d_h, i), b.R - i), v_load_n(at(d_out, i), b.R - i)), b.R - i)


@internal
def turned_product(K, outputs, w, x, x_row, y, y_row, N):
    """y[n] = x[n] W for N rows; w [quads][K][QUAD]."""
    dense_rows(DenseJob(Dense(K, outputs, LINEAR, w, w), False, x, x_row, y, y_row), N)


@internal
def step_backward(b, tape, gates, s, active, chunk_row):
    if b.has_d_out:
        add_d_out(b, tape, s, active)
    if b.P:
        for row in range(active):
            copy(at(b.d_h_rows, (chunk_row + row) * b.h_stride), at(b.d_h, row * b.h_stride), b.h_stride)
        turned_product(b.P, b.c_stride, b.w_hr, b.d_h, b.h_stride, b.d_hidden, b.c_stride, active)
    cells_backward(b, tape, gates, s - tape.first, active, chunk_row)
    d_z = at(b.d_z, chunk_row * b.d_z_stride)
    turned_product(4 * b.H, b.h_stride, b.w_hh, d_z, b.d_z_stride, b.d_h, b.h_stride, active)


@internal
def turn_inputs(b, tape, s0, s1, active, N):
    """[x, 1, h_before] of the chunk's rows, turned. Those of steps s1 - 1 .. s0 have a place each, in that order."""
    for part in range(2):
        n, now = ZERO, active
        for s in range(s1 - 1, s0 - 1, -1):
            now = rows_before(tape, s, now)
            for row in range(now):
                b.pointers[n] = tape_h_before(tape, s, row, b.R) if part else tape_x(tape, s, row)
                n += 1
        turn(at(b.turned, part * (b.I + 1) * b.turned_stride), b.turned_stride, b.pointers, N, b.R if part else b.I)
    for k in range(N):
        b.turned[b.I * b.turned_stride + k] = 1


@internal
def inputs_backward(b, tape, s0, s1, active, N):
    """d_x of the chunk's rows."""
    turned_product(4 * b.H, b.I, b.w_ih, b.d_z, b.d_z_stride, b.d_x_rows, b.d_x_stride, N)
    found = b.d_x_rows
    for s in range(s1 - 1, s0 - 1, -1):
        active = rows_before(tape, s, active)
        for row in range(active):
            d_x = at(b.d_x, tape_time(tape, s, row) * b.x_step + row * b.x_row)
            if b.add_x:
                for i in range(0, b.I, lanes(d_x)):
                    v_store_n(
                        at(d_x, i), v_add(v_load_n(at(d_x, i), b.I - i), v_load_n(at(found, i), b.I - i)), b.I - i
                    )
            else:
                copy(d_x, found, b.I)
            found = at(found, b.d_x_stride)


@inlined
def weight_tile(rows, panels, row, block, line, job):
    """d[block][row] += sum over k of x[row][k] * z[k][block]."""
    d = at(job.d, (block * job.inputs + row) * quad(job.d))
    x = row_pointers(at(job.x, row * job.x_row), job.x_row, rows)
    sums, z = load_tile(d, quad(d), rows, panels), at(job.z, block * quad(d))
    for k in range(job.N):
        sums = multiply_add(sums, x, k, z, quad(d), panels)
        z = at(z, job.z_row)
    store_tile(sums, d, quad(d), rows, panels)


@internal
def weight_gradient(job, blocks):
    sweep(TILE_ROWS, job.inputs, blocks, ZERO, False, weight_tile, job)


@internal
def weights_backward(b, N):
    inputs = b.I + 1 + b.R
    job = WeightJob(b.turned, b.turned_stride, inputs, N, b.d_z, b.d_z_stride, b.d_weights)
    weight_gradient(job, (4 * b.H + quad(b.d_z) - 1) // quad(b.d_z))
    if b.P:
        for k in range(N):
            b.pointers[k] = at(b.d_h_rows, k * b.h_stride)
        turn(b.d_h_turned, b.turned_stride, b.pointers, N, b.P)
        projection = WeightJob(b.d_h_turned, b.turned_stride, b.P, N, b.hidden, b.hidden_stride, b.d_w_hr)
        weight_gradient(projection, b.hidden_stride // quad(b.d_z))


@internal
def chunk_backward(b, tape, gates, s1, active):
    """Steps before s1, as many as have a place. Returns the first of them, how many rows take it, and its gates."""
    s, N, now = s1, ZERO, active
    while s > tape.first:
        now = rows_before(tape, s - 1, now)
        if N + now > b.most_rows:
            break
        s -= 1
        gates = at(gates, -now * 4 * b.H)
        step_backward(b, tape, gates, s, now, N)
        N += now
    if b.of_x:
        inputs_backward(b, tape, s, s1, active, N)
    if b.of_weights:
        turn_inputs(b, tape, s, s1, active, N)
        weights_backward(b, N)
    return s, now, gates


@spliced
def layer_backward(b, tape):
    rows, active = all_rows(tape)
    gates, s = at(tape.gates, rows * 4 * b.H), tape.last
    while s > tape.first:
        s, active, gates = chunk_backward(b, tape, gates, s, active)
