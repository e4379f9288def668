"""lstm_forward from layer_forward, for backends that have no such kernel of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from lstmkernel.backends.contract import LayerForwardKernel, LSTMForwardKernel, PrepareKernel
from lstmkernel.backends.packing import Array, LSTMWeights

#: Bytes of one layer's output handed to the next at a time: they stay in cache, and memory does not grow with T.
HANDOVER_BYTES = 1 << 20


def of(layer_forward: LayerForwardKernel) -> tuple[LSTMForwardKernel, PrepareKernel]:
    """Backend.lstm_forward and Backend.prepare."""
    return partial(_lstm_forward, layer_forward), partial(_prepare, layer_forward)


def _prepare(
    layer_forward: LayerForwardKernel, weights: LSTMWeights, T: int, B: int, threads: int
) -> Callable[[Array, Array, Array, Array], None]:
    def run(x: Array, h: Array, c: Array, out: Array) -> None:
        x, out = (array.reshape(T, B, -1) for array in (x, out))
        h, c = (array.reshape(-1, B, array.shape[-1]) for array in (h, c))
        _lstm_forward(layer_forward, weights, x, None, h, c, out, slice(0, T), threads)

    return run


def _lstm_forward(
    layer_forward: LayerForwardKernel,
    weights: LSTMWeights,
    x: Array,
    lengths: Array | None,
    h: Array,
    c: Array,
    out: Array,
    times: slice,
    threads: int,
) -> None:
    """As LSTMForwardKernel, on the calling thread."""
    stretches = [times]
    if len(weights.layers[0]) == 1 < len(weights.layers):  # time goes up through all layers a stretch at a time
        steps = max(1, HANDOVER_BYTES // (out[0].size * out.itemsize))
        stretches = [slice(t, min(t + steps, times.stop)) for t in range(times.start, times.stop, steps)]
    for stretch in stretches:
        _all_layers(layer_forward, weights, x, lengths, h, c, out, stretch)


def _all_layers(
    layer_forward: LayerForwardKernel,
    weights: LSTMWeights,
    x: Array,
    lengths: Array | None,
    h: Array,
    c: Array,
    out: Array,
    times: slice,
) -> None:
    T, R = len(x), weights.layers[0][0].output_size
    below, state = x[times] if len(weights.layers[0]) == 1 else x, 0
    for layer, directions in enumerate(weights.layers):
        above = out[times] if len(directions) == 1 else out
        if layer < len(weights.layers) - 1:
            above = np.empty(above.shape, out.dtype)
        for direction, packed in enumerate(directions):
            columns = above[:, :, direction * R : (direction + 1) * R]
            if len(directions) == 1:
                layer_forward(below, packed, within(lengths, times), False, h[state], c[state], columns)
            else:
                span = slice(T - times.stop, T - times.start) if direction else times
                part = within(lengths, span)
                layer_forward(below[span], packed, part, direction == 1, h[state], c[state], columns[span])
            state += 1
        below = above


def within(lengths: Array | None, times: slice) -> Array | None:
    """How many of each row's steps fall into that span of time."""
    return None if lengths is None else np.clip(lengths - times.start, 0, times.stop - times.start)
