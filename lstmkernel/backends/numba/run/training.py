"""layer_record and layer_backward: they give the tape and the workspace to the compiled kernels as structs."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkernel.backends.numba.arrays import address, scratch
from lstmkernel.backends.numba.kernels.backward import BackwardPass
from lstmkernel.backends.numba.kernels.record import record_workspace
from lstmkernel.backends.numba.kernels.tile import LINE_BYTES
from lstmkernel.backends.numba.structs import Tape, packed
from lstmkernel.backends.numba.weights import KERNELS, lanes_of
from lstmkernel.backends.packing import Array, LayerWeights, in_rows
from lstmkernel.backends.reuse import copied, empty_reused
from lstmkernel.backends.tape import LayerGradients, LayerTape, ParameterGradients, Parameters

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


def layer_backward(tape: LayerTape, parameters: Parameters, gradients: LayerGradients, _threads: int) -> None:
    dtype = parameters.w_ih.dtype
    work = _Work(lanes_of(dtype), tape, parameters, gradients)
    words, tape_words = packed(work.struct(gradients)), packed(_tape(tape))
    KERNELS[dtype].layer_backward(address(words), address(tape_words))
    if gradients.parameters is not None:
        work.store_weights(gradients.parameters)
    work.store_states(gradients)


class _Work:
    """Sizes and the workspace of a backward pass. Attributes have the names of BackwardPass's fields."""

    def __init__(self, lanes: int, tape: LayerTape, parameters: Parameters, gradients: LayerGradients) -> None:
        w_ih, w_hh, w_hr = parameters
        (_, B, I), H, R, P = tape.x.shape, w_ih.shape[0] // 4, w_hh.shape[1], 0 if w_hr is None else len(w_hr)
        self.dtype, self.lanes, self.H, self.I, self.R, self.P = w_ih.dtype, lanes, H, I, R, P
        line = LINE_BYTES // w_ih.itemsize
        self.c_stride, self.h_stride = _whole(H, lanes), _whole(R, lanes)
        self.d_z_stride = _whole(4 * H, 4 * lanes) + line  # rows a power of two apart would share few cache sets
        self.hidden_stride, self.d_x_stride = _whole(H, 4 * lanes), _whole(I, line)
        self.most_rows = self._most_rows(B, B * (tape.last - tape.first))
        self.transposed_stride = _whole(self.most_rows, line) + line
        self.has_d_out = gradients.out is not None
        self.of_x, self.of_weights = gradients.x is not None, gradients.parameters is not None
        self._take_states(B, gradients)
        self._take_weights(parameters, gradients.parameters)
        self._take_chunk()

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
        self.w_hh = copied(in_rows(w_hh.T, self.lanes))
        self.w_ih = copied(in_rows(w_ih.T, self.lanes)) if self.of_x else none
        self.w_hr = none if w_hr is None else copied(in_rows(w_hr.T, self.lanes))
        self.d_weights = self.d_w_hr = none
        if found is not None:
            rows = np.concatenate([found.w_ih, found.bias[:, None], found.w_hh], axis=1)
            self.d_weights = copied(in_rows(rows, self.lanes))
        if found is not None and found.w_hr is not None:
            self.d_w_hr = copied(in_rows(found.w_hr.T, self.lanes))

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
        self.add_x = gradients.add_x
        none = np.zeros((0, 0, 0), self.dtype)
        self.d_out = none if gradients.out is None else gradients.out
        self.d_x = none if gradients.x is None else gradients.x
        self.d_out_step, self.d_out_row = _strides(self.d_out)
        self.x_step, self.x_row = _strides(self.d_x)
        return BackwardPass(*(getattr(self, name) for name in BackwardPass._fields))

    def store_states(self, gradients: LayerGradients) -> None:
        gradients.h[...], gradients.c[...] = self.d_h[:, : self.R], self.d_c[:, : self.H]

    def store_weights(self, found: ParameterGradients) -> None:
        """The sums go to the caller's arrays."""
        inputs = self.I + 1 + self.R
        # [blocks, inputs, 4, lanes] -> (4H, inputs)
        rows = self.d_weights.reshape(-1, inputs, 4 * self.lanes).swapaxes(1, 2).reshape(-1, inputs)[: 4 * self.H]
        found.w_ih[...], found.w_hh[...] = rows[:, : self.I], rows[:, self.I + 1 :]
        found.bias[...] = rows[:, self.I]
        if found.w_hr is not None:
            found.w_hr[...] = self.d_w_hr.transpose(1, 0, 2, 3).reshape(self.P, -1)[:, : self.H]


def _whole(count: int, of: int) -> int:
    """The next multiple."""
    return -(-count // of) * of
