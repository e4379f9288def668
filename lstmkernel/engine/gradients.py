"""The additive gradient: from dL/d(out) and dL/d(last states) back to every parameter, x and the first states.

In an LSTM, c_t = f_t * c_{t-1} + i_t * g_t is a sum. Therefore dL/dc flows back gated by f_t, not multiplied by a
matrix at every step (Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000). ``layer_backward`` in
backends/numpy/definition.py has the formulas of one step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.packing import Array
from lstmkernel.backends.reuse import empty_reused
from lstmkernel.backends.tape import LayerGradients, ParameterGradients
from lstmkernel.engine import arguments, inputs
from lstmkernel.engine.tape import Direction, Layer, Tape

Named = dict[str, Array]


def backward(
    tape: Tape,
    d_out: ArrayLike | None,
    d_state: tuple[ArrayLike | None, ArrayLike | None] | None = None,
    *,
    of_x: bool = True,
    of_parameters: bool = True,
) -> Named:
    """``LSTM.backward`` for the tape's network. Gradients that are not needed are left out."""
    tape.check_x()
    network, rows, batched = tape.network, tape.rows, tape.batched
    B, R, H = tape.x.shape[1], network.shape.output_size, network.shape.hidden_size
    steps = None if d_out is None else rows.sorted(_steps_of(tape, d_out))
    of_h, of_c = (None, None) if d_state is None else arguments.pair("d_state", d_state, "(d_h_n, d_c_n)")
    d_h, d_c = (
        np.zeros((network.num_states, B, width), network.dtype)
        if value is None
        else np.ascontiguousarray(rows.sorted(inputs.state_of(network, name, value, B, width, batched)))
        for name, value, width in (("d_h_n", of_h, R), ("d_c_n", of_c, H))
    )
    found = _gradients(tape, steps, d_h, d_c, of_x=of_x, of_parameters=of_parameters)
    if of_x:
        found["x"] = inputs.as_given(network, rows.given_back(found["x"]), batched)
    if tape.from_parameters:
        return {**found, "h_0": d_h.sum(axis=1), "c_0": d_c.sum(axis=1)}
    h_0, c_0 = inputs.states_as_given((rows.given_back(d_h), rows.given_back(d_c)), batched)
    return {**found, "h_0": h_0, "c_0": c_0}


def _steps_of(tape: Tape, d_out: ArrayLike) -> Array:
    """d_out as (T, B, D*R)."""
    network, (T, B, _) = tape.network, tape.x.shape
    array = arguments.real("d_out", d_out, network.dtype)
    arguments.shape("d_out", array, inputs.out_shape(network, T, B, tape.batched), "of out")
    return inputs.as_steps(network, array, tape.batched)


def _gradients(tape: Tape, d_out: Array | None, d_h: Array, d_c: Array, *, of_x: bool, of_parameters: bool) -> Named:
    """By the names of ``state_dict()``, and "x" (T, B, I): what was asked for, rows in the tape's order.

    d_out (T, B, D*R), None for zeros; d_h (L*D, B, R) and d_c (L*D, B, H) become those of the first states.
    """
    network = tape.network
    found: Named = {}
    if of_parameters:
        found = {name: np.zeros(shape, network.dtype) for name, shape in network.shape.parameters().items()}
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
    if of_parameters and network.shape.bias:
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
    for place, direction in enumerate(layer.directions):
        R = direction.tape.h.shape[-1]
        columns = None if d_out is None else d_out[:, :, place * R : place * R + R]
        row = index * len(layer.directions) + place
        of_parameters = None if found is None else _of_parameters(direction, found)
        of_layer = LayerGradients(columns, d_h[row], d_c[row], d_below, place > 0, of_parameters)
        network = direction.network
        network.backend.layer_backward(direction.backwards(), direction.parameters(), of_layer, network.threads())


def _of_parameters(direction: Direction, found: Named) -> ParameterGradients:
    """The arrays that a direction's gradients are added to. That of bias_ih serves for both biases."""
    end, network = direction.suffix, direction.network
    bias = found[f"bias_ih{end}"] if network.shape.bias else np.zeros(4 * network.shape.hidden_size, network.dtype)
    return ParameterGradients(found[f"weight_ih{end}"], found[f"weight_hh{end}"], bias, found.get(f"weight_hr{end}"))
