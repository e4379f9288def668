"""The additive gradient: from dL/d(out) and dL/d(last states) back to every parameter, x and the first states.

What makes an LSTM an LSTM is that c_t = f_t * c_{t-1} + i_t * g_t is a sum: dL/dc flows back gated by f_t, not
multiplied by a matrix at every step (Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000). One step
backwards is in backends/numpy.py, ``layer_backward``.
"""

from __future__ import annotations

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.backends.reuse import empty_reused
from lstmkernel.backends.tape import LayerGradients, ParameterGradients
from lstmkernel.engine.tape import Layer, Part, Tape

Named = dict[str, Array]


def gradients(tape: Tape, d_out: Array | None, d_h: Array, d_c: Array, *, of_x: bool, of_parameters: bool) -> Named:
    """By the names of ``state_dict()``, and "x" (T, B, I): what was asked for, rows in the tape's order.

    d_out (T, B, D*R), None for zeros; d_h (L*D, B, R) and d_c (L*D, B, H) become those of the first states.
    """
    lstm = tape.lstm
    found: Named = {}
    if of_parameters:
        found = {name: np.zeros(shape, lstm.dtype) for name, shape in lstm.parameter_shapes().items()}
    if of_x:
        found["x"] = _of_input(tape.x, tape.rows.lengths)
    for times, layers in tape.backwards():
        d_above = None if d_out is None else d_out[times]
        for index in range(len(layers) - 1, -1, -1):
            if index:
                d_below: Array | None = _of_input(layers[index - 1].out, tape.rows.lengths)
            else:
                d_below = found["x"][times] if of_x else None
            _layer_backward(layers[index], index, d_above, d_h, d_c, d_below, found if of_parameters else None)
            d_above = d_below
    if of_parameters and lstm.bias:
        found |= {
            name.replace("_ih_", "_hh_"): value.copy() for name, value in found.items() if name.startswith("bias_ih")
        }
    return found


def _of_input(x: Array, lengths: Array | None) -> Array:
    """Room for dL/dx, zero where rows have no steps."""
    d_x = empty_reused(x.shape, x.dtype)
    if lengths is not None:
        d_x[...] = 0
    return d_x


def _layer_backward(
    layer: Layer, index: int, d_out: Array | None, d_h: Array, d_c: Array, d_below: Array | None, found: Named | None
) -> None:
    for direction, part in enumerate(layer.parts):
        R = part.tape.h.shape[-1]
        columns = None if d_out is None else d_out[:, :, direction * R : direction * R + R]
        row = index * len(layer.parts) + direction
        of_parameters = None if found is None else _of_parameters(part, found)
        of_layer = LayerGradients(columns, d_h[row], d_c[row], d_below, direction > 0, of_parameters)
        for tape in part.backwards():
            part.lstm._backend.layer_backward(tape, part.parameters(), of_layer, part.lstm._threads())


def _of_parameters(part: Part, found: Named) -> ParameterGradients:
    """The arrays that a part's gradients are added to; bias_ih's serves both biases."""
    end = part.name_end
    bias = found[f"bias_ih{end}"] if part.lstm.bias else np.zeros(4 * part.lstm.hidden_size, part.lstm.dtype)
    return ParameterGradients(found[f"weight_ih{end}"], found[f"weight_hh{end}"], bias, found.get(f"weight_hr{end}"))
