"""layer_record and layer_backward: they give the tape and the workspace to the compiled kernels as structs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import numpy as np

from lstmkernel.backends.numba.arrays import address, scratch
from lstmkernel.backends.numba.kernels.backward import BackwardPass
from lstmkernel.backends.numba.kernels.record import record_workspace
from lstmkernel.backends.numba.kernels.tile import LINE_BYTES
from lstmkernel.backends.numba.structs import Tape, packed
from lstmkernel.backends.numba.weights import KERNELS, lanes_of
from lstmkernel.backends.packing import Array, LayerWeights, fill_rows
from lstmkernel.backends.reuse import empty_reused
from lstmkernel.backends.tape import LayerGradients, LayerTape, ParameterGradients, Parameters, RowsOfTape

#: Rows of a chunk: at most CHUNK_STEPS_ROWS, and fewer where their d_z would be more than CHUNK_D_Z_BYTES, but at least
#: CHUNK_LEAST_ROWS. As in csrc/kernels/backward.h.
CHUNK_STEPS_ROWS, CHUNK_LEAST_ROWS, CHUNK_D_Z_BYTES = 256, 96, 1 << 21


def layer_record(tape: LayerTape, weights: LayerWeights, _threads: int) -> None:
    native, B = weights.native, tape.x.shape[1]
    lanes, size = weights.bias.shape[-1], tape.x.itemsize
    _held, work = scratch.of(record_workspace(weights.hidden_size, weights.proj_size, B, lanes, size))
    words = packed(_tape(tape))
    native.kernels.layer_record(native.address, address(words), work)


def _tape(tape: LayerTape) -> Any:
    """Every field of LayerTape is one of Tape."""
    T, B, _ = tape.x.shape
    (x_step, x_row), (h_step, h_row) = _strides(tape.x), _strides(tape.h)
    strides = {"x_step": x_step, "x_row": x_row, "h_step": h_step, "h_row": h_row}
    return Tape(T=T, B=B, has_lengths=tape.lengths is not None, **strides, **tape._asdict())


def _strides(array: Array) -> tuple[int, int]:
    """Along T and B, in elements."""
    return array.strides[0] // array.itemsize, array.strides[1] // array.itemsize


def layer_backward(
    tapes: Iterable[RowsOfTape], parameters: Parameters, gradients: LayerGradients, _threads: int
) -> None:
    work: _Work | None = None
    for tape, rows in tapes:
        work = work or _Work(parameters, gradients)
        work.run(tape, gradients.rows(rows))
    if work is not None and gradients.parameters is not None:
        work.store_weights(gradients.parameters)


class _Work:
    """Sizes and the workspace of a backward pass. Attributes have the names of BackwardPass's fields."""

    def __init__(self, parameters: Parameters, gradients: LayerGradients) -> None:
        w_ih, w_hh, w_hr = parameters
        self.dtype, self.lanes = w_ih.dtype, lanes_of(w_ih.dtype)
        self.H, self.I, self.R, self.P = len(w_ih) // 4, w_ih.shape[1], w_hh.shape[1], 0 if w_hr is None else len(w_hr)
        self.of_x, self.of_weights = gradients.x is not None, gradients.parameters is not None
        self._take_weights(parameters, gradients.parameters)

    def run(self, tape: LayerTape, gradients: LayerGradients) -> None:
        self._take_sizes(tape)
        self._take_states(tape.x.shape[1], gradients)
        self._take_chunk()
        words, tape_words = packed(self.struct(gradients)), packed(_tape(tape))
        KERNELS[self.dtype].layer_backward(address(words), address(tape_words))
        gradients.h[...], gradients.c[...] = self.d_h[:, : self.R], self.d_c[:, : self.H]

    def _take_sizes(self, tape: LayerTape) -> None:
        H, R, B, lanes = self.H, self.R, tape.x.shape[1], self.lanes
        line = LINE_BYTES // self.dtype.itemsize
        self.c_stride, self.h_stride = _whole(H, lanes), _whole(R, lanes)
        self.d_z_stride = _whole(4 * H, 4 * lanes) + line  # rows a power of two apart would share few cache sets
        self.hidden_stride, self.d_x_stride = _whole(H, 4 * lanes), _whole(self.I, line)
        self.most_rows = self._most_rows(B, B * (tape.last - tape.first))
        self.transposed_stride = _whole(self.most_rows, line) + line

    def _most_rows(self, B: int, all_rows: int) -> int:
        most: int = min(CHUNK_STEPS_ROWS, max(CHUNK_LEAST_ROWS, CHUNK_D_Z_BYTES // (4 * self.H * self.dtype.itemsize)))
        return max(B, min(most, all_rows))

    def _take_states(self, B: int, gradients: LayerGradients) -> None:
        """The gradients of the states at the step at hand. Columns past the last are zero, and stay so."""
        self.d_h, self.d_c = self._zeros(B, self.h_stride), self._zeros(B, self.c_stride)
        self.d_h[:, : self.R], self.d_c[:, : self.H] = gradients.h, gradients.c
        self.d_hidden = self._zeros(B, self.c_stride) if self.P else self.d_h

    def _take_weights(self, parameters: Parameters, found: ParameterGradients | None) -> None:
        """Weights packed for transposed_product, and their gradients so far, packed likewise."""
        w_ih, w_hh, w_hr = parameters
        none = self._zeros(0)
        self.w_hh = self._in_rows(w_hh.T)
        self.w_ih = self._in_rows(w_ih.T) if self.of_x else none
        self.w_hr = none if w_hr is None else self._in_rows(w_hr.T)
        self.d_weights = self.d_w_hr = none
        if found is not None:
            self.d_weights = self._in_rows(found.w_ih, found.bias[:, None], found.w_hh)
        if found is not None and found.w_hr is not None:
            self.d_w_hr = self._in_rows(found.w_hr.T)

    def _in_rows(self, *matrices: Array) -> Array:
        """Matrices (O, K_1), (O, K_2), ... side by side, as pack_rows packs one."""
        outputs, widths = len(matrices[0]), [matrix.shape[1] for matrix in matrices]
        found = empty_reused((-(-outputs // (4 * self.lanes)), sum(widths), 4, self.lanes), self.dtype)
        for matrix, stop in zip(matrices, accumulate(widths), strict=True):
            fill_rows(found[:, stop - matrix.shape[1] : stop], matrix)
        return found

    def _take_chunk(self) -> None:
        """For each row of a chunk: d_z, d_x, a pointer, and what the weights' gradients multiply d_z by, transposed."""
        rows, inputs, of_projection = self.most_rows, self.I + 1 + self.R, self.most_rows if self.P else 0
        self.d_z = self._zeros(rows, self.d_z_stride)
        self.d_x_rows = empty_reused((rows if self.of_x else 0, self.d_x_stride), self.dtype)
        self.transposed = empty_reused((inputs if self.of_weights else 0, self.transposed_stride), self.dtype)
        self.hidden = self._zeros(of_projection, self.hidden_stride)
        self.d_h_rows = self._zeros(of_projection, self.h_stride)
        self.d_h_transposed = self._zeros(self.P, self.transposed_stride)
        self.pointers = np.zeros(rows, np.int64)

    def _zeros(self, *shape: int) -> Array:
        array = empty_reused(shape, self.dtype)
        array[...] = 0
        return array

    def struct(self, gradients: LayerGradients) -> Any:
        self.add_x, self.has_d_out = gradients.add_x, gradients.out is not None
        none = np.zeros((0, 0, 0), self.dtype)
        self.d_out = none if gradients.out is None else gradients.out
        self.d_x = none if gradients.x is None else gradients.x
        self.d_out_step, self.d_out_row = _strides(self.d_out)
        self.x_step, self.x_row = _strides(self.d_x)
        return BackwardPass(*(getattr(self, name) for name in BackwardPass._fields))

    def store_weights(self, found: ParameterGradients) -> None:
        """The sums go to the caller's arrays, block by block, so that Ctrl-C is heard between two of them."""
        outputs = 4 * self.lanes
        for block, sums in enumerate(self.d_weights):  # [inputs, 4, lanes]
            rows = slice(block * outputs, min((block + 1) * outputs, 4 * self.H))
            of_rows = sums.reshape(-1, outputs)[:, : rows.stop - rows.start].T
            found.w_ih[rows], found.w_hh[rows] = of_rows[:, : self.I], of_rows[:, self.I + 1 :]
            found.bias[rows] = of_rows[:, self.I]
        if found.w_hr is not None:
            found.w_hr[...] = self.d_w_hr.transpose(1, 0, 2, 3).reshape(self.P, -1)[:, : self.H]


def _whole(count: int, of: int) -> int:
    """The next multiple."""
    return -(-count // of) * of
