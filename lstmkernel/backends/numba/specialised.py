"""The Numba backend with kernels of constant sizes for one row of narrow layers (one_row.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from lstmkernel.backends.contract import Backend, BackendError, Batch
from lstmkernel.backends.numba import backend as general
from lstmkernel.backends.numba.arrays import Place, address, scratch
from lstmkernel.backends.numba.kernels import one_row
from lstmkernel.backends.numba.target import VECTOR_BYTES
from lstmkernel.backends.packing import Array, LSTMWeights

#: Bytes of one_row.py's workspace.
_WORK_BYTES = 2 * one_row.MOST_ROW_BLOCKS * VECTOR_BYTES


def backend(sizes: Iterable[tuple[int, int, int]], backwards: Sequence[bool], dtype: np.dtype[Any]) -> Backend:
    """For networks of layers of those sizes: input_size, hidden_size and proj_size. Kernels are compiled when called.

    backwards: for each direction, whether it runs backwards. Raises BackendError if Numba has no kernels with constants
    for these layers.
    """
    if any(backwards):
        raise BackendError("Numba kernels with constants are for one direction, forwards")
    for I, H, P in sizes:
        if not one_row.fits(I, H, P, dtype.itemsize):
            projected = f", projected to {P}" if P else ""
            raise BackendError(f"Numba kernels with constants are for narrower layers than {I} -> {H}{projected}")
    return general.backend()._replace(
        name="numba special", lstm_forward=_lstm_forward, prepare=_prepare, pack_int8_layer=None
    )


def _run(weights: LSTMWeights, T: int, arrays: tuple[Array, Array, Array, Array], x_step: int, out_step: int) -> None:
    """One row, layer by layer. Each reads its input from out, where the layer below left it, and writes over it.

    arrays: x, h, c and out.
    """
    x: Place
    x, *states, out = arrays
    h, c = map(address, states)
    _held, work = scratch.of(_WORK_BYTES)
    for (layer,) in weights.layers:
        I, H = layer.input_size, layer.hidden_size
        kernel, state = layer.native.kernels.row_forward(I, H), H * layer.bias.itemsize
        kernel(layer.native.address, T, x, x_step, h, c, out, out_step, work)
        x, x_step, h, c = out, out_step, h + state, c + state


def _lstm_forward(weights: LSTMWeights, batch: Batch, threads: int, times: slice | None = None) -> None:
    x, lengths, reset, h, c, out = batch
    rows_of_states = h.strides[0] // (h.shape[2] * h.itemsize)  # h may be some rows of a larger one
    if x.shape[1] != 1 or lengths is not None or reset is not None or rows_of_states != 1:
        general.backend().lstm_forward(weights, batch, threads, times)
        return
    _run(weights, len(x), (x, h, c, out), x.strides[0] // x.itemsize, out.strides[0] // x.itemsize)


def _prepare(weights: LSTMWeights, T: int, B: int, threads: int) -> Callable[[Array, Array, Array, Array], None]:
    if B != 1:
        return general.backend().prepare(weights, T, B, threads)
    first = weights.layers[0][0]

    def run(x: Array, h: Array, c: Array, out: Array) -> None:
        _run(weights, T, (x, h, c, out), first.input_size, first.output_size)

    return run
