"""The backward pass of one layer and direction, over what record.py kept: csrc/kernels/backward.h, which explains it.

Every sum has the same order as in C. A team shares the rows of a chunk or the units of a step (by_units). It always
shares the rows of d_x, which goes through a buffer, and the tiles of the weights' gradients.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.activation import v_number, v_tanh
from lstmkernel.backends.numba.kernels.backward_plan import LOAD, STEPS, STORE, backward_pass
from lstmkernel.backends.numba.kernels.backward_weights import load_weights, store_weights
from lstmkernel.backends.numba.kernels.dense import blocks_of
from lstmkernel.backends.numba.kernels.gradient_products import transposed_product, weight_gradient
from lstmkernel.backends.numba.kernels.layer_forward import copy_columns
from lstmkernel.backends.numba.kernels.record import row_steps, rows_at, tape_h_before, tape_time, tape_x
from lstmkernel.backends.numba.kernels.tile import ZERO
from lstmkernel.backends.numba.kernels.transpose import transpose
from lstmkernel.backends.numba.memory import at, clear, copy, lanes
from lstmkernel.backends.numba.run.team import ALONE, first_part, is_over, next_part, rank_of
from lstmkernel.backends.numba.vec.operations import v_add, v_fma, v_fnma, v_load, v_mul, v_store, v_sub
from lstmkernel.backends.numba.vec.registers import block_size
from lstmkernel.backends.numba.vec.tail import v_load_n, v_store_n


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


@spliced
def add_to(to, numbers, n):
    """to += numbers, n of them."""
    for i in range(0, n, lanes(to)):
        v_store_n(at(to, i), v_add(v_load_n(at(to, i), n - i), v_load_n(at(numbers, i), n - i)), n - i)


@internal
def cells_backward(back, gates, step, rows, units, chunk_row):
    """The cells of one step, of these rows and units. chunk_row: the step's first row in the chunk."""
    H, B, tape = back.H, back.tape.B, back.tape
    for row in range(rows[0], rows[1]):
        c_before = at(tape.c, (step * B + row) * H)
        d_h = at(back.d_hidden, row * (back.c_stride if back.P else back.h_stride))
        d_c = at(back.d_c, row * back.c_stride)
        of_row, d_z = at(gates, row * 4 * H), at(back.d_z, (chunk_row + row) * back.d_z_stride)
        hidden = at(back.hidden, (chunk_row + row) * back.hidden_stride)
        for unit in range(units[0], units[1], lanes(gates)):
            n = H - unit
            states = (v_load_n(at(c_before, unit), n), v_load_n(at(c_before, B * H + unit), n))
            now = (v_load(at(d_h, unit)), at(d_c, unit), at(d_z, unit))
            hidden_now = cell_backward(at(of_row, unit), H, n, *states, *now)
            if back.P:
                v_store(at(hidden, unit), hidden_now)


@internal
def add_d_out(back, s, rows, columns):
    """d_h += the gradient of h_t itself, which the caller gave."""
    given = back.given
    for row in range(rows[0], rows[1]):
        place = tape_time(back.tape, s, row) * given.d_out_step + row * given.d_out_row + columns[0]
        d_h = at(back.d_h, row * back.h_stride + columns[0])
        add_to(d_h, at(given.d_out, place), columns[1] - columns[0])


@internal
def outputs_phase(back, s, rows, chunk_row, team):
    """With a projection: d_h is complete, and is kept for every step of a chunk."""
    vectors = back.h_stride // lanes(back.d_h)
    part = first_part(team, vectors)
    while part[1] >= 0:
        columns = columns_of(part, lanes(back.d_h), back.R)
        if back.given.has_d_out:
            add_d_out(back, s, rows, columns)
        for row in range(rows[0], rows[1]):
            kept = at(back.d_h_rows, (chunk_row + row) * back.h_stride)
            copy_columns(kept, at(back.d_h, row * back.h_stride), columns)
        part = next_part(team, vectors)


@spliced
def columns_of(part, width, most):
    return part[0] * width, min(part[1] * width, most)


@internal
def units_phase(back, gates, s, rows, chunk_row, team):
    """The cells, from d_h. With a projection, d_hidden is first made of it, in whole blocks."""
    width = block_size(back.d_h) if back.P else lanes(back.d_h)
    n = (back.H + width - 1) // width
    part = first_part(team, n)
    while part[1] >= 0:
        units = columns_of(part, width, back.H)
        if back.P:
            d_h, d_hidden = at(back.d_h, rows[0] * back.h_stride), at(back.d_hidden, rows[0] * back.c_stride)
            given = (back.P, back.c_stride, back.w_hr, d_h, back.h_stride, d_hidden, back.c_stride)
            transposed_product(*given, rows[1] - rows[0], part)
        elif back.given.has_d_out:
            add_d_out(back, s, rows, units)
        cells_backward(back, gates, s - back.tape.first, rows, units, chunk_row)
        part = next_part(team, n)


@internal
def recurrence_phase(back, rows, chunk_row, team):
    """d_h before the step."""
    d_z = at(back.d_z, (chunk_row + rows[0]) * back.d_z_stride)
    d_h = at(back.d_h, rows[0] * back.h_stride)
    n = blocks_of(back.R, d_h)
    part = first_part(team, n)
    while part[1] >= 0:
        given = (4 * back.H, back.h_stride, back.w_hh, d_z, back.d_z_stride, d_h, back.h_stride)
        transposed_product(*given, rows[1] - rows[0], part)
        part = next_part(team, n)


@internal
def chunk_steps_backward(back, gates, s1, s0, active, rows, team):
    """Steps s1 - 1 .. s0 of some rows of the batch. gates: behind those of step s1 - 1; `active` rows take step s1."""
    chunk_row, s = ZERO, s1 - 1
    while s >= s0 and not is_over(team):
        active = rows_from(back.tape, s, active)
        gates = at(gates, -active * 4 * back.H)
        at_hand = (rows[0], min(rows[1], active))
        if at_hand[0] < at_hand[1]:
            if back.P:
                outputs_phase(back, s, at_hand, chunk_row, team)
            if not is_over(team):
                units_phase(back, gates, s, at_hand, chunk_row, team)
            if not is_over(team):
                recurrence_phase(back, at_hand, chunk_row, team)
        chunk_row += active
        s -= 1


@internal
def chunk_before(back, s1, active):
    """As many steps before s1 as have a place: the first of them, how many rows take it, and all of their rows."""
    s, N, now = s1, ZERO, active
    while s > back.tape.first:
        before = rows_from(back.tape, s - 1, now)
        if N + before > back.most_rows:
            break
        s, now = s - 1, before
        N += now
    return s, now, N


@inlined
def place_of_x(back, s, row):
    return tape_x(back.tape, s, row)


@inlined
def place_of_h_before(back, s, row):
    return tape_h_before(back.tape, s, row, back.R)


@inlined
def place_of_d_x(back, s, row):
    given = back.given
    return at(given.d_x, tape_time(back.tape, s, row) * given.d_x_step + row * given.d_x_row)


@internal
def point_to_rows(back, place_of, s0, s1, active):
    """Pointers to a place for every row of the chunk. The rows of step s1 - 1 are first, those of s0 last."""
    n = ZERO
    for s in range(s1 - 1, s0 - 1, -1):
        active = rows_from(back.tape, s, active)
        for row in range(active):
            back.pointers[n] = place_of(back, s, row)
            n += 1


@internal
def transpose_inputs(back, s0, s1, active, first, last):
    """[x, 1, h_before] of rows first .. last - 1 of the chunk, transposed."""
    stride = back.transposed_stride
    ones = at(back.transposed, back.I * stride)
    point_to_rows(back, place_of_x, s0, s1, active)
    transpose(at(back.transposed, first), stride, at(back.pointers, first), last - first, back.I)
    point_to_rows(back, place_of_h_before, s0, s1, active)
    transpose(at(ones, stride + first), stride, at(back.pointers, first), last - first, back.R)
    for k in range(first, last):
        ones[k] = 1


@internal
def inputs_backward(back, s0, s1, active, first, last):
    """d_x of rows first .. last - 1 of the chunk."""
    found, d_z = at(back.d_x_rows, first * back.d_x_stride), at(back.d_z, first * back.d_z_stride)
    given = (4 * back.H, back.I, back.w_ih, d_z, back.d_z_stride, found, back.d_x_stride)
    transposed_product(*given, last - first, (ZERO, blocks_of(back.I, d_z)))
    point_to_rows(back, place_of_d_x, s0, s1, active)
    for k in range(first, last):
        if back.given.add_x:
            add_to(back.pointers[k], found, back.I)
        else:
            copy(back.pointers[k], found, back.I)
        found = at(found, back.d_x_stride)


@internal
def projection_backward(back, N, team):
    """The gradient of W_hr."""
    stride = back.transposed_stride
    part = first_part(team, back.P)
    while part[1] >= 0:
        for output in range(part[0], part[1]):
            for k in range(N):
                back.d_h_transposed[output * stride + k] = back.d_h_rows[k * back.h_stride + output]
        part = next_part(team, back.P)
    if not is_over(team):
        blocks = back.hidden_stride // block_size(back.d_z)
        z = (back.hidden, back.hidden_stride, back.sums_hr)
        weight_gradient(back.d_h_transposed, stride, back.P, N, *z, blocks, team)


@internal
def sums_backward(back, s0, s1, active, N, team):
    """Phases of all rows of the chunk, after its steps."""
    if back.given.of_x:
        part = first_part(team, N)
        while part[1] >= 0:
            inputs_backward(back, s0, s1, active, part[0], part[1])
            part = next_part(team, N)
    if is_over(team) or not back.given.of_weights:
        return
    fours = (N + 3) // 4
    part = first_part(team, fours)
    while part[1] >= 0:
        transpose_inputs(back, s0, s1, active, 4 * part[0], min(N, 4 * part[1]))
        part = next_part(team, fours)
    if not is_over(team):
        blocks = blocks_of(4 * back.H, back.d_z)
        z = (back.d_z, back.d_z_stride, back.sums)
        weight_gradient(back.transposed, back.transposed_stride, back.I + 1 + back.R, N, *z, blocks, team)
    if back.P and not is_over(team):
        projection_backward(back, N, team)


@internal
def load_gradients(back, rows):
    """The caller's d_h and d_c come into the workspace. Columns past the last are zero, and stay so."""
    for row in range(rows[0], rows[1]):
        d_h, d_c = at(back.d_h, row * back.h_stride), at(back.d_c, row * back.c_stride)
        clear(d_h, back.h_stride)
        copy(d_h, at(back.given.d_h, row * back.R), back.R)
        clear(d_c, back.c_stride)
        copy(d_c, at(back.given.d_c, row * back.H), back.H)


@internal
def store_gradients(back, rows):
    for row in range(rows[0], rows[1]):
        copy(at(back.given.d_h, row * back.R), at(back.d_h, row * back.h_stride), back.R)
        copy(at(back.given.d_c, row * back.H), at(back.d_c, row * back.c_stride), back.H)


@internal
def steps_backward(back, by_units, team):
    """All steps of the tape, chunk by chunk."""
    tape, B = back.tape, back.tape.B
    part = first_part(team, B)
    while part[1] >= 0:
        load_gradients(back, part)
        part = next_part(team, B)
    if is_over(team):
        return
    rows, active = all_rows(tape)
    gates, s = at(tape.gates, rows * 4 * back.H), tape.last
    while s > tape.first and not is_over(team):
        s0, now, N = chunk_before(back, s, active)
        if by_units:
            chunk_steps_backward(back, gates, s, s0, active, (ZERO, B), team)
        else:
            part = first_part(team, B)
            while part[1] >= 0:
                chunk_steps_backward(back, gates, s, s0, active, part, ALONE)
                part = next_part(team, B)
        if is_over(team):
            return
        sums_backward(back, s0, s, active, N, team)
        s, active, gates = s0, now, at(gates, -N * 4 * back.H)
    if is_over(team):
        return
    part = first_part(team, B)
    while part[1] >= 0:
        store_gradients(back, part)
        part = next_part(team, B)


@spliced
def layer_backward(given, tape, plan, work, real, by_units, team):
    """plan: its address."""
    back = backward_pass(plan, given, tape, work, real, rank_of(team))
    if given.stages & LOAD:
        load_weights(back, team)
    if given.stages & STEPS and not is_over(team):
        steps_backward(back, by_units, team)
    if given.stages & STORE and not is_over(team):
        store_weights(back, team)
