"""All layers of an LSTM over a sequence, on the calling thread: run_chunk and run_alone of csrc/run/forward.c.

One direction: time goes up through all layers a chunk at a time, so that what one layer hands to the next is in cache.
Every layer reads its input from out, where the layer below left it, and writes over it. Two directions: each needs all
of time below it, so layers alternate between out and `between`. A call may be for some of the rows, of the layers or of
the directions: threads.py divides the work so.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.kernels.layer_forward import layer_forward
from lstmkernel.backends.numba.kernels.layout import lay_out
from lstmkernel.backends.numba.kernels.rows import LayerTask
from lstmkernel.backends.numba.kernels.variant import variant_forward
from lstmkernel.backends.numba.memory import at, item_size
from lstmkernel.backends.numba.run.cost import CHUNK_ROWS, HANDOVER_BYTES
from lstmkernel.backends.numba.structs import Layer, struct_at

#: A chunk has at least CHUNK_STEPS steps, because states are copied at both of its ends, and at least CHUNK_ROWS rows
#: times steps.
CHUNK_STEPS = 32

#: The caller's arrays.
Arrays = namedtuple("Arrays", "x has_lengths lengths has_reset reset has_places read write h c out between work")


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
def run_chunk(real, call, arrays, B, layer, direction, row, rows, first, last):
    task = task_of(call, arrays, B, layer, direction, row, first, last)
    fields = struct_at(Layer, call.layers[layer * call.directions + direction], real)
    layer_forward(fields, lay_out(fields, last - first, rows, arrays.work, real), rows, task)


@internal
def run_variant_chunk(real, call, arrays, B, layer, direction, row, rows, first, last):
    task = task_of(call, arrays, B, layer, direction, row, first, last)
    fields = struct_at(Layer, call.layers[layer * call.directions + direction], real)
    variant_forward(fields, lay_out(fields, last - first, rows, arrays.work, real), rows, task)


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
def lstm_forward(real, call, arrays, B, layers, directions, rows, run_chunk):
    """layers, directions and rows: (first, last + 1) of those to run. The calls for all rows of B give the whole.

    run_chunk: the one above, or that of variants.
    """
    if call.directions == 2:
        for layer in range(layers[0], layers[1]):
            for direction in range(directions[0], directions[1]):
                run_chunk(real, call, arrays, B, layer, direction, rows[0], rows[1] - rows[0], call.first, call.last)
        return
    most_rows, steps = chunk_of(call, arrays, rows[1] - rows[0])
    for row in range(rows[0], rows[1], most_rows):
        for first in range(0, call.T, steps):
            for layer in range(call.num_layers):
                last = min(first + steps, call.T)
                run_chunk(real, call, arrays, B, layer, 0, row, min(most_rows, rows[1] - row), first, last)
