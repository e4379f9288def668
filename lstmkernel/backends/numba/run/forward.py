"""All layers of an LSTM over a sequence, on one thread or several: csrc/run/forward.c.

One direction: time goes up through all layers a chunk at a time, so that what one layer hands to the next is in cache.
Every layer reads its input from out, where the layer below left it, and writes over it. Two directions: each needs all
of time below it, so layers alternate between out and `between`.

Several threads share the work in one of two ways, which plan.py chooses. Tasks are some of the rows, of the layers and
of the directions, each run by one thread. A team runs one layer after the other, and shares its units.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple
from typing import Any

from numba import int64

from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.kernels.integer_step import integer_products
from lstmkernel.backends.numba.kernels.layer_forward import all_groups, layer_forward
from lstmkernel.backends.numba.kernels.layout import add_integers, lay_out
from lstmkernel.backends.numba.kernels.rows import LayerTask
from lstmkernel.backends.numba.kernels.tile import ZERO
from lstmkernel.backends.numba.kernels.variant import variant_forward
from lstmkernel.backends.numba.memory import at, item_size, pointer
from lstmkernel.backends.numba.run.cost import CHUNK_ROWS, HANDOVER_BYTES
from lstmkernel.backends.numba.run.team import ALONE, first_part, is_alone, is_over, next_part, rank_of
from lstmkernel.backends.numba.structs import IntegerLayer, Layer, struct_at

#: A chunk has at least CHUNK_STEPS steps, because states are copied at both of its ends, and at least CHUNK_ROWS rows
#: times steps.
CHUNK_STEPS = 32

#: The caller's arrays.
Arrays = namedtuple("Arrays", "x has_lengths lengths has_reset reset has_places read write h c out between")


@spliced
def task_of(call, arrays, B, layer, direction, row, first, last):
    """Rows from `row` on of B, times first .. last - 1 of one layer, as its kernel takes them.

    Direction 1 runs from the end back; where the call is in reverse, direction 0 does.
    """
    D, R = call.directions, call.R
    backwards = direction != 0 or call.reverse
    state = (layer * D + direction) * call.state_rows + (0 if arrays.has_places else row)
    start = call.T - last if backwards else first
    above = call.num_layers - 1 - layer
    to_out, from_out = D == 1 or above % 2 == 0, D == 1 or above % 2 == 1
    between_row = D * R
    between_step = B * between_row
    x, x_step, x_row = arrays.between, between_step, between_row
    if layer == 0:
        x, x_step, x_row = arrays.x, call.x_step, call.x_row
    elif from_out:
        x, x_step, x_row = arrays.out, call.out_step, call.out_row
    out, out_step, out_row = arrays.between, between_step, between_row
    if to_out:
        out, out_step, out_row = arrays.out, call.out_step, call.out_row
    return LayerTask(
        last - first,
        at(x, start * x_step + row * x_row),
        x_step,
        x_row,
        arrays.has_lengths,
        at(arrays.lengths, row),
        arrays.has_reset,
        at(arrays.reset, (direction * call.T + start) * B + row),
        B,
        start,
        backwards,
        arrays.has_places,
        at(arrays.read if first == 0 else arrays.write, row),  # a later chunk goes on from what the first one wrote
        at(arrays.write, row),
        at(arrays.h, state * R),
        at(arrays.c, state * call.H),
        at(out, start * out_step + row * out_row + direction * R),
        out_step,
        out_row,
    )


@internal
def run_chunk(real, call, arrays, layer, direction, row, rows, times, work, team):
    first, last = times
    task = task_of(call, arrays, call.B, layer, direction, row, first, last)
    fields = struct_at(Layer, call.layers[layer * call.directions + direction], real)
    group = lay_out(fields, last - first, rows, work[0], work[1], real, is_alone(team))
    layer_forward(fields, group, rows, task, team)


@internal
def run_variant_chunk(real, call, arrays, layer, direction, row, rows, times, work, team):
    first, last = times
    task = task_of(call, arrays, call.B, layer, direction, row, first, last)
    fields = struct_at(Layer, call.layers[layer * call.directions + direction], real)
    group = lay_out(fields, last - first, rows, work[0], work[1], real, False)
    variant_forward(fields, group, rows, task, team)


def integer_chunk(kind: Any) -> Any:
    """run_chunk for layers with 8-bit weights. kind: the type of an activation."""
    inputs_product, step_tiles, project = integer_products(kind)

    def run_integer_chunk(real, call, arrays, layer, direction, row, rows, times, work, team):
        first, last = times
        task = task_of(call, arrays, call.B, layer, direction, row, first, last)
        fields = struct_at(IntegerLayer, call.layers[layer * call.directions + direction], real)
        group = lay_out(fields, last - first, rows, work[0], work[1], real, False)
        integers = add_integers(group, kind, real)
        all_groups(fields, integers, rows, task, inputs_product, step_tiles, project, team)

    run_integer_chunk.__name__ = f"run_{kind}_chunk"
    return internal(run_integer_chunk)


@spliced
def chunk_of(call, arrays, B):
    """Rows and steps that go up through all layers together."""
    row_bytes = call.R * item_size(arrays.x)
    if call.num_layers == 1:
        return B, call.T
    rows = HANDOVER_BYTES // (CHUNK_STEPS * row_bytes) // CHUNK_ROWS * CHUNK_ROWS
    rows = min(max(CHUNK_ROWS, rows), B)
    return rows, max(1, HANDOVER_BYTES // (rows * row_bytes))


@spliced
def run_task(real, call, arrays, task, work, run_chunk):
    """task: plan.Task. The calls for all rows of B give the whole. run_chunk: the one above, or that of variants."""
    first_layer, layers, first_direction, directions, first_row, rows = task
    if call.directions == 2:
        n, times = rows - first_row, (call.first, call.last)
        for layer in range(first_layer, layers):
            for direction in range(first_direction, directions):
                run_chunk(real, call, arrays, layer, direction, first_row, n, times, (work, work), ALONE)
        return
    most_rows, steps = chunk_of(call, arrays, rows - first_row)
    for row in range(first_row, rows, most_rows):
        for first in range(ZERO, call.T, steps):
            for layer in range(call.num_layers):
                n, times = min(most_rows, rows - row), (first, min(first + steps, call.T))
                run_chunk(real, call, arrays, layer, ZERO, row, n, times, (work, work), ALONE)


@spliced
def run_tasks(real, call, arrays, rounds, work, run_chunk, team):
    """rounds: how many; then for each the number of its tasks, and their six numbers."""
    place = 1
    for _ in range(rounds[0]):
        n = rounds[place]
        part = first_part(team, n)
        while part[1] >= 0:
            for index in range(part[0], part[1]):
                run_task(real, call, arrays, six_numbers(at(rounds, place + 1 + 6 * index)), work, run_chunk)
            part = next_part(team, n)
        if is_over(team):
            return
        place += 1 + 6 * n


@spliced
def six_numbers(p):
    return p[0], p[1], p[2], p[3], p[4], p[5]


@spliced
def run_with_team(real, call, arrays, work, run_chunk, team):
    for layer in range(call.num_layers):
        for direction in range(call.directions):
            run_chunk(real, call, arrays, layer, direction, ZERO, call.B, (call.first, call.last), work, team)
            if is_over(team):
                return


@spliced
def lstm_forward(real, call, arrays, rounds, work, work_size, run_chunk, team):
    """rounds: an address, 0 where there are no tasks. work: an address, of work_size bytes for each thread."""
    own = work + rank_of(team) * work_size
    if rounds != 0:
        run_tasks(real, call, arrays, pointer(rounds, int64), own, run_chunk, team)
    elif is_alone(team):
        run_task(real, call, arrays, (ZERO, call.num_layers, ZERO, call.directions, ZERO, call.B), work, run_chunk)
    else:
        run_with_team(real, call, arrays, (work, own), run_chunk, team)
