"""The C kernels, called through cffi. Arguments were checked above; C trusts them."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np

from lstmkernel.backends._kernels import ffi, lib
from lstmkernel.backends.contract import ACTIVATIONS, Backend, BackendError
from lstmkernel.backends.packing import Array, DenseWeights, LayerWeights, empty, pack_dense, pack_layer

_per_thread = threading.local()


def instruction_sets() -> list[str]:
    """Those that this build has, whether or not the CPU can run them, best first."""
    names: list[str] = []
    while (name := lib.lk_isa_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


def backend(isa: str) -> Backend:
    built = instruction_sets()
    if isa not in built:
        raise BackendError(f"backend 'c:{isa}': this build has {', '.join(built)}")
    index = built.index(isa)
    if not lib.lk_isa_usable(index):
        has = [name for i, name in enumerate(built) if lib.lk_isa_usable(i)]
        raise BackendError(f"backend 'c:{isa}': this CPU does not have it; it has {', '.join(has)}")
    tables = {np.dtype(dtype): lib.lk_find(index, np.dtype(dtype).itemsize) for dtype in (np.float32, np.float64)}
    return Backend(
        name=f"c:{isa}",
        pack_layer=partial(_pack_layer, tables),
        pack_dense=partial(_pack_dense, tables),
        activation=partial(_activation, tables),
        gate_matmul=_gate_matmul,
        cell_update=partial(_cell_update, tables),
        dense_forward=_dense_forward,
        layer_forward=_layer_forward,
    )


Tables = dict[Any, Any]  # dtype -> const lk_kernels *


def _pack_layer(tables: Tables, w_ih: Array, w_hh: Array, bias: Array, w_hr: Array | None) -> LayerWeights:
    weights = pack_layer(w_ih, w_hh, bias, w_hr, lib.lk_lanes(tables[w_ih.dtype]))
    w_r = ffi.NULL if weights.w_r is None else _address(weights.w_r)
    struct = ffi.new(
        "lk_layer *",
        (
            *(weights.input_size, weights.hidden_size, weights.proj_size),
            *(_address(weights.w_x), _address(weights.w_h), _address(weights.bias), w_r),
        ),
    )
    return weights._replace(native=(tables[weights.bias.dtype], struct))


def _pack_dense(tables: Tables, weight: Array, bias: Array, activation: str) -> DenseWeights:
    weights = pack_dense(weight, bias, activation, lib.lk_lanes(tables[weight.dtype]))
    code = ACTIVATIONS.index(activation)
    struct = ffi.new(
        "lk_dense *",
        (weights.in_features, weights.out_features, code, _address(weights.w), _address(weights.bias)),
    )
    return weights._replace(native=(tables[weights.bias.dtype], struct))


def _activation(tables: Tables, name: str, x: Array, y: Array) -> None:
    _check(lib.lk_activation(tables[x.dtype], ACTIVATIONS.index(name), x.size, _address(x), _address(y)))


def _gate_matmul(x: Array, weights: LayerWeights, z: Array) -> None:
    _check(lib.lk_gate_matmul(*weights.native, len(x), _address(x), x.shape[1], _address(z)))


def _cell_update(tables: Tables, z: Array, c: Array, h: Array) -> None:
    _check(lib.lk_cell_update(tables[c.dtype], *c.shape, _address(z), _address(c), _address(h)))


def _dense_forward(x: Array, weights: DenseWeights, y: Array) -> None:
    rows_of_y = _address(y), y.shape[1]
    _check(lib.lk_dense_forward(*weights.native, len(x), _address(x), x.shape[1], *rows_of_y))


def _layer_forward(
    x: Array,
    weights: LayerWeights,
    lengths: Array | None,
    reverse: bool,
    h: Array,
    c: Array,
    out: Array,
) -> None:
    T, B, _ = x.shape
    x_step, x_row, _ = x.strides
    size = x.itemsize
    out_step, out_row, _ = out.strides
    kernels, layer = weights.native
    status = lib.lk_layer_forward(
        kernels,
        layer,
        T,
        B,
        _address(x),
        x_step // size,
        x_row // size,
        ffi.NULL if lengths is None else ffi.from_buffer("int64_t[]", lengths),
        reverse,
        _contiguous(h),
        _contiguous(c),
        _address(out),
        out_step // size,
        out_row // size,
        _workspace(lib.lk_workspace(kernels, layer, T, B)),
    )
    _check(status)


def _workspace(size: int) -> Any:
    """The address of this thread's scratch memory: kernels own none, and a model is shared by threads."""
    work = getattr(_per_thread, "work", None)
    if work is None or len(work) < size:
        work = _per_thread.work = ffi.from_buffer(empty((size,), np.uint8))  # keeps the array alive
    return work


#: The address of a contiguous array, several times faster than ctypes.data.
_contiguous = ffi.from_buffer


def _address(array: Array) -> Any:
    return _contiguous(array) if array.flags.c_contiguous else ffi.cast("void *", array.ctypes.data)


def _check(status: int) -> None:
    if status != lib.LK_OK:
        raise BackendError("the C kernels cannot run on this CPU")
