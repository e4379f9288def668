"""layer_record and layer_backward: they give the tape and the gradients to the compiled kernels as structs."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from lstmkernel.backends.numba.arrays import address, scratch
from lstmkernel.backends.numba.kernels.backward_plan import (
    LOAD,
    STEPS,
    STORE,
    Gradients,
    Planned,
    plan_backward,
)
from lstmkernel.backends.numba.kernels.record import record_workspace
from lstmkernel.backends.numba.run.plan import Sizes, plan_training, training_shares
from lstmkernel.backends.numba.run.threads import board_address, called, ended
from lstmkernel.backends.numba.structs import Tape, packed
from lstmkernel.backends.numba.weights import KERNELS, lanes_of
from lstmkernel.backends.packing import Array, LayerWeights
from lstmkernel.backends.reuse import empty_reused
from lstmkernel.backends.tape import LayerGradients, LayerTape, Parameters, RowsOfTape

#: Bytes of weights that one call of a backward pass loads or stores.
MOST_PACKED = 1 << 26

ALL_ROWS = slice(None)

_per_thread = threading.local()


def layer_record(tape: LayerTape, weights: LayerWeights, most: int) -> None:
    native, B, size, lanes = weights.native, tape.x.shape[1], tape.x.itemsize, lanes_of(tape.x.dtype)
    layer = Sizes(*weights[:2], weights.output_size, size, lanes)
    threads, shares, by_units = _plan(layer, tape, most)
    work_size = record_workspace(weights.hidden_size, weights.proj_size, B, threads, lanes, size)
    words, (_held, work) = packed(_tape(tape)), scratch.of(work_size)
    native.kernels.layer_record(native.address, address(words), 0, work, by_units, board_address, threads, shares)
    ended()


def _plan(layer: Sizes, tape: LayerTape, most: int) -> tuple[int, int, bool]:
    """The number of threads, that of shares, and whether units are shared instead of rows."""
    B = tape.x.shape[1]
    plan, by_units = plan_training(layer, tape.last - tape.first, B, most)
    threads = called(plan.threads, plan.is_long)
    return threads, training_shares(threads, B, by_units), by_units


def _tape(tape: LayerTape) -> Any:
    """Every field of LayerTape is one of Tape."""
    T, B, _ = tape.x.shape
    (x_step, x_row), (h_step, h_row) = _strides(tape.x), _strides(tape.h)
    strides = {"x_step": x_step, "x_row": x_row, "h_step": h_step, "h_row": h_row}
    return Tape(T=T, B=B, has_lengths=tape.lengths is not None, **strides, **tape._asdict())


def _strides(array: Array | None) -> tuple[int, int]:
    """Along T and B, in elements."""
    return (0, 0) if array is None else (array.strides[0] // array.itemsize, array.strides[1] // array.itemsize)


def layer_backward(tapes: Iterable[RowsOfTape], parameters: Parameters, gradients: LayerGradients, most: int) -> None:
    work = _Backward(parameters, gradients, most)
    to_do = LOAD | STORE
    for tape, rows in tapes:
        of_rows = gradients if rows == ALL_ROWS else gradients.rows(rows)
        if work.parts > 1 and to_do & LOAD:
            work.run_in_parts(tape, of_rows, LOAD)
            to_do = STORE
        is_last = work.parts == 1 and tape.first == 0 and rows == ALL_ROWS  # then this call stores, too: one call less
        stages = to_do if is_last else to_do & LOAD
        work.run(tape, of_rows, STEPS | stages)
        to_do &= ~stages
    if to_do == STORE:
        work.run_in_parts(tape, of_rows, STORE)
    if work.parts == 1:
        _per_thread.packed = work.packed


def _take_packed(size: int) -> Array:
    """Memory for the weights of a backward pass: this thread's, which is away until it is given back.

    A signal handler may run another backward pass meanwhile.
    """
    found: Array | None = _per_thread.__dict__.pop("packed", None)
    return empty_reused((size,), np.uint8) if found is None or len(found) < size else found


class _Backward:
    """The backward pass of one layer and direction."""

    def __init__(self, parameters: Parameters, gradients: LayerGradients, most: int) -> None:
        w_ih, w_hh, w_hr = parameters
        dtype, self._most = w_ih.dtype, most
        self._parameters, self._kernel = parameters, KERNELS[dtype].layer_backward
        self._sizes = (w_ih.shape[1], len(w_ih) // 4, 0 if w_hr is None else len(w_hr))
        self._asked = gradients.x is not None, gradients.parameters is not None
        self._layer = Sizes(*self._sizes[:2], w_hh.shape[1], dtype.itemsize, lanes_of(dtype))
        size = self._plan(0, 0).packed_bytes
        self.packed, self.parts = _take_packed(size), max(1, -(-size // MOST_PACKED))

    def _plan(self, rows: int, steps: int) -> Planned:
        layer = self._layer
        return plan_backward(*self._sizes, rows, steps, *self._asked, layer.lanes, layer.item_size)

    def run_in_parts(self, tape: LayerTape, gradients: LayerGradients, stage: int) -> None:
        """A stage of all weights: part by part, since Ctrl-C waits for the end of a part."""
        for part in range(self.parts):
            self.run(tape, gradients, stage, part, self.parts)

    def run(self, tape: LayerTape, gradients: LayerGradients, stages: int, part: int = 0, parts: int = 1) -> None:
        threads, shares, by_units = _plan(self._layer, tape, self._most)
        plan = self._plan(tape.x.shape[1], tape.last - tape.first)
        _held, work = scratch.of(plan.work_bytes(threads))
        words, tape_words = packed(self._gradients(gradients, stages, part, parts)), packed(_tape(tape))
        given = address(words), address(tape_words), plan.address, work, by_units
        self._kernel(*given, board_address, threads, shares)
        ended()

    def _gradients(self, gradients: LayerGradients, stages: int, part: int, parts: int) -> Any:
        out, x, of_x, of_weights = gradients.out, gradients.x, *self._asked
        return Gradients(
            *self._parameters,
            *(out is not None, out, *_strides(out), gradients.h, gradients.c),
            *(of_x, x, *_strides(x), gradients.add_x),
            *(of_weights, *(gradients.parameters or (None,) * 4)),
            *(self.packed, stages, part, parts),
        )
