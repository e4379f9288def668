"""lstm_forward from layer_forward, for backends that have no lstm_forward of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np

from lstmkernel.backends.contract import (
    Advance,
    Batch,
    LayerForwardKernel,
    LSTMForwardKernel,
    PrepareAdvanceKernel,
    PrepareKernel,
    within,
)
from lstmkernel.backends.packing import Array, LayerWeights, LSTMWeights

#: A layer hands this many bytes of output to the next one at a time. They stay in cache; memory does not grow with T.
HANDOVER_BYTES = 1 << 20


def of(layer_forward: LayerForwardKernel) -> tuple[LSTMForwardKernel, PrepareKernel, PrepareAdvanceKernel]:
    """Backend.lstm_forward, Backend.prepare and Backend.prepare_advance."""
    prepare = partial(_prepare, layer_forward)
    return partial(_lstm_forward, layer_forward), prepare, partial(_prepare_advance, prepare)


def _prepare_advance(
    prepare: PrepareKernel, weights: LSTMWeights, T: int, h: Array, c: Array, read: Array, write: Array, threads: int
) -> Advance:
    rows = prepare(weights, T, len(read), threads)

    def run(x: Array, out: Array) -> int:
        if np.may_share_memory(x, out):
            return 1
        h_rows, c_rows = h[:, read], c[:, read]
        rows(x, h_rows, c_rows, out)
        h[:, write], c[:, write] = h_rows, c_rows
        return 0

    return run


def _prepare(
    layer_forward: LayerForwardKernel, weights: LSTMWeights, T: int, B: int, threads: int
) -> Callable[[Array, Array, Array, Array], None]:
    def run(x: Array, h: Array, c: Array, out: Array) -> None:
        x, out = (array.reshape(T, B, -1) for array in (x, out))
        h, c = (array.reshape(-1, B, array.shape[-1]) for array in (h, c))
        _lstm_forward(layer_forward, weights, Batch(x, None, None, h, c, out), threads)

    return run


def _lstm_forward(
    layer_forward: LayerForwardKernel,
    weights: LSTMWeights,
    batch: Batch,
    threads: int,
    times: slice | None = None,
) -> None:
    """As LSTMForwardKernel, on the calling thread."""
    T = len(batch.x)
    chunks = [times or slice(0, T)]
    if len(weights.layers[0]) == 1 < len(weights.layers):  # time goes up through all layers a chunk at a time
        steps = max(1, HANDOVER_BYTES // (batch.out[0].size * batch.out.itemsize))
        chunks = [slice(t, min(t + steps, T)) for t in range(0, T, steps)]
        if weights.reverse:
            chunks.reverse()
    for chunk in chunks:
        _all_layers(layer_forward, weights, batch, chunk)


def _all_layers(layer_forward: LayerForwardKernel, weights: LSTMWeights, batch: Batch, times: slice) -> None:
    x, lengths, reset, h, c, out = batch
    T, R = len(x), weights.layers[0][0].output_size
    below, state = x[times] if len(weights.layers[0]) == 1 else x, 0
    for layer, directions in enumerate(weights.layers):
        above = out[times] if len(directions) == 1 else out
        if layer < len(weights.layers) - 1:
            above = np.empty(above.shape, out.dtype)
        for direction, packed in enumerate(directions):
            columns = above[:, :, direction * R : (direction + 1) * R]
            span = slice(T - times.stop, T - times.start) if direction else times
            if len(directions) == 2:
                columns = columns[span]
            marks = None if reset is None else reset[direction, span]
            part = below if len(directions) == 1 else below[span]
            backwards = direction == 1 or weights.reverse
            arrays = packed, within(lengths, span), backwards, h[state], c[state]
            _restarting(layer_forward, marks, part, *arrays, columns)
            state += 1
        below = above


def _restarting(
    layer_forward: LayerForwardKernel,
    reset: Array | None,
    x: Array,
    weights: LayerWeights,
    lengths: Array | None,
    reverse: bool,
    h: Array,
    c: Array,
    out: Array,
) -> None:
    """layer_forward, once for the steps between each reset (T, B) and the next."""
    if reset is None:
        layer_forward(x, weights, lengths, reverse, h, c, out)
        return
    T = len(x)
    starts = np.flatnonzero(reset.any(axis=1))
    if reverse:
        spans = [slice(low, high) for low, high in pairwise([0, *(starts + 1), T])][::-1]
    else:
        spans = [slice(low, high) for low, high in pairwise([0, *starts, T])]
    for span in spans:
        if span.start == span.stop:
            continue
        rows = reset[span.stop - 1 if reverse else span.start]
        h[rows], c[rows] = 0, 0
        layer_forward(x[span], weights, within(lengths, span), reverse, h, c, out[span])
