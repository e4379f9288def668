"""All layers of an LSTM over a sequence, on the calling thread: run_part and run_alone of csrc/run/forward.c.

One direction: time goes up through all layers a stretch at a time, so that what one layer hands to the next is in
cache; every layer reads its input from out, where the layer below left it, and writes over it. Two directions: each
needs all of time below it, so layers alternate between out and `between`. A call may be for some of the rows, of the
layers or of the directions: threads.py divides the work so.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.kernels.layer import layer_at
from lstmkernel.backends.numba.kernels.layer_forward import layer_forward
from lstmkernel.backends.numba.kernels.layout import lay_out
from lstmkernel.backends.numba.kernels.rows import Call
from lstmkernel.backends.numba.kernels.variant import variant_forward
from lstmkernel.backends.numba.memory import at, item_size

HANDOVER_BYTES = 1 << 20  # of a stretch: stays in L2 and L3 on its way up
STRETCH_STEPS = 32  # at least, for states are taken in and out at its ends
STRETCH_ROWS = 96  # rows times steps, for the input product

#: lk_call of csrc/lstmkernel.h but for its layers. R: the width of h.
Network = namedtuple(
    "Network", "num_layers directions R H T x_step x_row out_step out_row state_rows first last reverse layers"
)

#: The caller's addresses.
Arrays = namedtuple("Arrays", "x has_lengths lengths has_reset reset has_places read write h c out between work")


@spliced
def part_of(net, arrays, B, layer, direction, row, first, last):
    """Rows from `row` on of B, times first .. last - 1 of one layer, as its kernel takes them.

    direction 1 runs from the end back, and where the call is in reverse so does 0.
    """
    D, R = net.directions, net.R
    backwards = direction != 0 or net.reverse != 0
    state = (layer * D + direction) * net.state_rows + (0 if arrays.has_places else row)
    start = net.T - last if backwards else first
    above = net.num_layers - 1 - layer
    to_out, from_out = D == 1 or above % 2 == 0, D == 1 or above % 2 == 1
    between_row = D * R
    between_step = B * between_row
    x, x_step, x_row = arrays.between, between_step, between_row
    if layer == 0:
        x, x_step, x_row = arrays.x, net.x_step, net.x_row
    elif from_out:
        x, x_step, x_row = arrays.out, net.out_step, net.out_row
    out, out_step, out_row = arrays.between, between_step, between_row
    if to_out:
        out, out_step, out_row = arrays.out, net.out_step, net.out_row
    return Call(
        last - first,
        at(x, start * x_step + row * x_row),
        x_step,
        x_row,
        arrays.has_lengths,
        at(arrays.lengths, row),
        arrays.has_reset,
        at(arrays.reset, (direction * net.T + start) * B + row),
        B,
        start,
        backwards,
        arrays.has_places,
        at(arrays.read if first == 0 else arrays.write, row),  # another stretch goes on from what the first one wrote
        at(arrays.write, row),
        at(arrays.h, state * R),
        at(arrays.c, state * net.H),
        at(out, start * out_step + row * out_row + direction * R),
        out_step,
        out_row,
    )


@internal
def run_part(real, net, arrays, B, layer, direction, row, rows, first, last):
    call = part_of(net, arrays, B, layer, direction, row, first, last)
    fields = layer_at(net.layers[layer * net.directions + direction], real)
    layer_forward(fields, lay_out(fields, last - first, rows, arrays.work, real), rows, call)


@internal
def run_variant_part(real, net, arrays, B, layer, direction, row, rows, first, last):
    call = part_of(net, arrays, B, layer, direction, row, first, last)
    fields = layer_at(net.layers[layer * net.directions + direction], real)
    variant_forward(fields, lay_out(fields, last - first, rows, arrays.work, real), rows, call)


@spliced
def stretches(net, arrays, B):
    """Rows and steps that go up through all layers together."""
    row_bytes = net.R * item_size(arrays.x)
    if net.num_layers == 1:
        return B, net.T
    rows = HANDOVER_BYTES // (STRETCH_STEPS * row_bytes) // STRETCH_ROWS * STRETCH_ROWS
    rows = min(max(STRETCH_ROWS, rows), B)
    return rows, max(1, HANDOVER_BYTES // (rows * row_bytes))


@spliced
def lstm_forward(real, net, arrays, B, layers, directions, rows, run_part):
    """layers, directions and rows: (first, last + 1) of those to run. The calls for all rows of B give the whole.

    run_part: the one above, or that of variants.
    """
    if net.directions == 2:
        for layer in range(layers[0], layers[1]):
            for direction in range(directions[0], directions[1]):
                run_part(real, net, arrays, B, layer, direction, rows[0], rows[1] - rows[0], net.first, net.last)
        return
    most_rows, steps = stretches(net, arrays, rows[1] - rows[0])
    for row in range(rows[0], rows[1], most_rows):
        for first in range(0, net.T, steps):
            for layer in range(net.num_layers):
                last = min(first + steps, net.T)
                run_part(real, net, arrays, B, layer, 0, row, min(most_rows, rows[1] - row), first, last)
