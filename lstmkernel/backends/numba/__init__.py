"""The Numba kernels: csrc written once more, line by line, over the same vector operations, with the same bits.

It runs where no C compiler did, is compiled for this very CPU, and shows that Python can be as fast as C. Modules carry
the names of the C headers that they mirror; vec.py explains how. Arguments were checked above; kernels trust them.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from _cffi_backend import FFI  # type: ignore[import-untyped]  # cffi's compiled half, without its parser
from numba import float32, float64
from numba.core import config

from lstmkernel.backends import stacked
from lstmkernel.backends.contract import ACTIVATIONS, Backend, BackendError
from lstmkernel.backends.numba.gate_matmul import SLAB
from lstmkernel.backends.numba.kernels import Kernels
from lstmkernel.backends.numba.plan import WORD, workspace
from lstmkernel.backends.numba.vec import lanes_of
from lstmkernel.backends.packing import (
    Array,
    DenseWeights,
    LayerWeights,
    LSTMWeights,
    empty,
    pack_dense,
    pack_layer,
)


def backend() -> Backend:
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise BackendError("backend 'numba': NUMBA_DISABLE_JIT is set, and vectors exist only in compiled code")
    lstm_forward, prepare = stacked.of(_layer_forward)
    return Backend(
        name="numba",
        gflops=20,
        pack_layer=_pack_layer,
        pack_lstm=LSTMWeights,
        pack_dense=_pack_dense,
        activation=_activation,
        gate_matmul=_gate_matmul,
        cell_update=_cell_update,
        dense_forward=_dense_forward,
        layer_forward=_layer_forward,
        lstm_forward=lstm_forward,
        prepare=prepare,
    )


_KERNELS = {np.dtype(np.float32): Kernels(float32), np.dtype(np.float64): Kernels(float64)}
_LANES = {np.dtype(np.float32): lanes_of(float32), np.dtype(np.float64): lanes_of(float64)}


class _Native:
    """Sizes and addresses of packed weights as the kernels read them, and the kernels of their dtype."""

    def __init__(self, dtype: Any, *fields: int) -> None:
        self.kernels = _KERNELS[dtype]
        self._fields = np.array(fields, np.int64)
        self.address: int = self._fields.ctypes.data


class _Workspace(threading.local):
    """This thread's scratch memory: kernels own none, and a model is shared by threads."""

    memory = empty((0,), np.uint8)

    def of(self, size: int) -> Array:
        """At least so many bytes. The caller holds on to them: a signal handler may run a larger model meanwhile."""
        if self.memory.size < size:
            self.memory = empty((size,), np.uint8)
        return self.memory


_workspace = _Workspace()


def _pack_layer(w_ih: Array, w_hh: Array, bias: Array, w_hr: Array | None) -> LayerWeights:
    weights = pack_layer(w_ih, w_hh, bias, w_hr, _LANES[w_ih.dtype])
    sizes = (weights.input_size, weights.hidden_size, weights.proj_size)
    addresses = (_address(weights.w_x), _address(weights.w_h), _address(weights.bias))
    w_r = 0 if weights.w_r is None else _address(weights.w_r)
    return weights._replace(native=_Native(w_ih.dtype, *sizes, *addresses, w_r))


def _pack_dense(weight: Array, bias: Array, activation: str) -> DenseWeights:
    weights = pack_dense(weight, bias, activation, _LANES[weight.dtype])
    sizes = (weights.in_features, weights.out_features, ACTIVATIONS.index(activation))
    return weights._replace(native=_Native(weight.dtype, *sizes, _address(weights.w), _address(weights.bias)))


def _activation(name: str, x: Array, y: Array) -> None:
    _KERNELS[x.dtype].activation(ACTIVATIONS.index(name), x.size, _address(x), _address(y))


def _gate_matmul(x: Array, weights: LayerWeights, z: Array) -> None:
    native, work = weights.native, _workspace.of(SLAB * WORD)
    native.kernels.gate_matmul(native.address, len(x), _address(x), x.shape[1], _address(z), _address(work))


def _cell_update(z: Array, c: Array, h: Array) -> None:
    _KERNELS[c.dtype].cell_update(*c.shape, _address(z), _address(c), _address(h))


def _dense_forward(x: Array, weights: DenseWeights, y: Array) -> None:
    native = weights.native
    native.kernels.dense_forward(native.address, len(x), _address(x), x.shape[1], _address(y), y.shape[1])


def _layer_forward(
    x: Array, weights: LayerWeights, lengths: Array | None, reverse: bool, h: Array, c: Array, out: Array
) -> None:
    T, B, _ = x.shape
    size = x.itemsize
    native = weights.native
    work = _workspace.of(workspace(weights.hidden_size, weights.proj_size, T, B, _LANES[x.dtype], size))
    native.kernels.layer_forward(
        native.address,
        T,
        B,
        _address(x),
        x.strides[0] // size,
        x.strides[1] // size,
        0 if lengths is None else _address(lengths),
        reverse,
        _address(h),
        _address(c),
        _address(out),
        out.strides[0] // size,
        out.strides[1] // size,
        _address(work),
    )


_ffi = FFI()
_ADDRESS = _ffi.typeof("intptr_t")


def _address(array: Array) -> int:
    if array.flags.c_contiguous:  # twice as fast as ctypes.data
        return int(_ffi.cast(_ADDRESS, _ffi.from_buffer(array)))
    return array.ctypes.data
