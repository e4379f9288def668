"""The Numba backend: packs weights, and gives arrays to the compiled kernels as addresses and sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import float32, float64
from numba.core import config

from lstmkernel.backends.contract import ACTIVATIONS, VARIANT_ACTIVATIONS, Advance, Backend, BackendError, Batch
from lstmkernel.backends.numba.arrays import ADDRESS, address, ffi, scratch
from lstmkernel.backends.numba.frames import Kernels
from lstmkernel.backends.numba.kernels.input_product import SLAB
from lstmkernel.backends.numba.kernels.layout import WORD, workspace
from lstmkernel.backends.numba.kernels.variant import COUPLED
from lstmkernel.backends.numba.run import threads
from lstmkernel.backends.numba.run.training import layer_backward, layer_record
from lstmkernel.backends.numba.vec.operations import lanes_of
from lstmkernel.backends.packing import (
    Array,
    DenseWeights,
    LayerVariant,
    LayerWeights,
    LSTMWeights,
    empty,
    pack_dense,
    pack_layer,
)
from lstmkernel.backends.tape import LayerGradients, LayerTape, Parameters


def backend() -> Backend:
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise BackendError("backend 'numba': NUMBA_DISABLE_JIT is set, and vectors exist only in compiled code")
    return Backend(
        name="numba",
        min_gflops=20,
        pack_layer=_pack_layer,
        pack_lstm=_pack_lstm,
        pack_dense=_pack_dense,
        activation=_activation,
        gate_matmul=_gate_matmul,
        cell_update=_cell_update,
        dense_forward=_dense_forward,
        layer_forward=_layer_forward,
        layer_record=layer_record,
        layer_backward=_layer_backward,
        lstm_forward=_lstm_forward,
        prepare=_prepare,
        prepare_advance=_prepare_advance,
        address=address,
    )


_KERNELS = {np.dtype(np.float32): Kernels(float32), np.dtype(np.float64): Kernels(float64)}
_LANES = {np.dtype(np.float32): lanes_of(float32), np.dtype(np.float64): lanes_of(float64)}


class _Native:
    """Sizes and addresses of packed weights as the kernels read them, and the kernels of their dtype."""

    def __init__(self, dtype: Any, *fields: int, keep: Any = None) -> None:
        self._keep = keep
        self.kernels = _KERNELS[dtype]
        self._fields = np.array(fields, np.int64)
        self.address: int = self._fields.ctypes.data


class _NativeVariant:
    """A variant as variant.py's variant_at reads it."""

    def __init__(self, variant: LayerVariant, dtype: Any) -> None:
        functions = (variant.gates, variant.candidate, variant.output)
        alpha_beta = [number for _, *numbers in functions for number in numbers]
        self._numbers = np.array([*alpha_beta, variant.gate_clip, variant.cell_clip], dtype)
        kinds = [list(VARIANT_ACTIVATIONS).index(name) for name, *_ in functions]
        peephole = 0 if variant.peephole is None else address(variant.peephole)
        places = (COUPLED.index(variant.coupled), peephole, *kinds, address(self._numbers))
        self._fields = np.array(places, np.int64)
        self.address: int = self._fields.ctypes.data


def _pack_layer(
    w_ih: Array, w_hh: Array, bias: Array, w_hr: Array | None, variant: LayerVariant | None = None
) -> LayerWeights:
    weights = pack_layer(w_ih, w_hh, bias, w_hr, variant, _LANES[w_ih.dtype])
    sizes = (weights.input_size, weights.hidden_size, weights.proj_size)
    addresses = (address(weights.w_x), address(weights.w_h), address(weights.bias))
    w_r = 0 if weights.w_r is None else address(weights.w_r)
    own = None if weights.variant is None else _NativeVariant(weights.variant, w_ih.dtype)
    return weights._replace(native=_Native(w_ih.dtype, *sizes, *addresses, w_r, own.address if own else 0, keep=own))


def _pack_dense(weight: Array, bias: Array, activation: str) -> DenseWeights:
    weights = pack_dense(weight, bias, activation, _LANES[weight.dtype])
    sizes = (weights.in_features, weights.out_features, ACTIVATIONS.index(activation))
    return weights._replace(native=_Native(weight.dtype, *sizes, address(weights.w), address(weights.bias)))


def _activation(name: str, x: Array, y: Array) -> None:
    _KERNELS[x.dtype].activation(ACTIVATIONS.index(name), x.size, address(x), address(y))


def _gate_matmul(x: Array, weights: LayerWeights, z: Array) -> None:
    native, (_held, work) = weights.native, scratch.of(SLAB * WORD)
    native.kernels.gate_matmul(native.address, len(x), address(x), x.shape[1], address(z), work)


def _cell_update(z: Array, c: Array, h: Array) -> None:
    _KERNELS[c.dtype].cell_update(*c.shape, address(z), address(c), address(h))


def _dense_forward(x: Array, weights: DenseWeights, y: Array) -> None:
    native = weights.native
    native.kernels.dense_forward(native.address, len(x), address(x), x.shape[1], address(y), y.shape[1])


def _layer_forward(
    x: Array, weights: LayerWeights, lengths: Array | None, reverse: bool, h: Array, c: Array, out: Array
) -> None:
    T, B, _ = x.shape
    size = x.itemsize
    native = weights.native
    if weights.variant is not None:
        _lstm_forward(_pack_lstm([[weights]], reverse), Batch(x, lengths, None, h[None], c[None], out), 1)
        return
    _held, work = scratch.of(workspace(*weights[:3], T, B, _LANES[x.dtype], size))
    native.kernels.layer_forward(
        native.address,
        T,
        B,
        address(x),
        x.strides[0] // size,
        x.strides[1] // size,
        0 if lengths is None else address(lengths),
        reverse,
        address(h),
        address(c),
        address(out),
        out.strides[0] // size,
        out.strides[1] // size,
        work,
    )


def _layer_backward(tape: LayerTape, parameters: Parameters, gradients: LayerGradients, threads: int) -> None:
    dtype = parameters.w_ih.dtype
    layer_backward(_KERNELS[dtype].layer_backward, _LANES[dtype], tape, parameters, gradients, threads)


class _Network:
    """The layers of an LSTM, of each layer and direction."""

    def __init__(self, layers: list[list[LayerWeights]], reverse: bool) -> None:
        self.layers, self.reverse = layers, reverse
        first = layers[0][0]
        self.kernels: Kernels = first.native.kernels
        self.is_plain = first.variant is None
        self.num_layers, self.directions = len(layers), len(layers[0])
        self.output_size, self.hidden_size, self.input_size = first.output_size, first.hidden_size, first.input_size
        self.proj_size = first.proj_size
        self.dtype = first.bias.dtype

    def layer(self, index: int) -> _Network:
        return _Network([self.layers[index]], self.reverse)

    def step_ns(self) -> float:
        """Of one row and step through all layers, at 100 GFLOP/s in float32, as in csrc/run/forward.c."""
        widths = sum(layer.input_size + layer.output_size for directions in self.layers for layer in directions)
        return 8 * self.hidden_size * widths / 100 * self.dtype.itemsize / 4


def _pack_lstm(layers: list[list[LayerWeights]], reverse: bool = False) -> LSTMWeights:
    return LSTMWeights(layers, reverse, _Network(layers, reverse))


class _Call:
    """What lstm_forward does with arrays of one shape: the call as compiled code reads it, and its parts."""

    def __init__(
        self, net: _Network, T: int, B: int, strides: tuple[int, ...], state_rows: int, times: slice, most: int
    ) -> None:
        sizes = (net.num_layers, net.directions, net.output_size, net.hidden_size, T, B, *strides, state_rows)
        addresses = [layer.native.address for directions in net.layers for layer in directions]
        self._fields = np.array([*sizes, times.start, times.stop, net.reverse, *addresses], np.int64)
        self._address = self._fields.ctypes.data
        self._kernel = net.kernels.lstm_forward if net.is_plain else net.kernels.variant_forward
        self._between = (T, B, 2 * net.output_size) if net.directions == 2 and net.num_layers > 1 else None
        steps = times.stop - times.start
        work_ns = steps * max(B, 2) * net.step_ns()
        self._turns = threads.divide(net.num_layers, net.directions, B, work_ns, most)
        self._alone = self._turns[0][0] if len(self._turns) == len(self._turns[0]) == 1 else None
        rows = max(part.rows - part.row for turn in self._turns for part in turn)
        self._work_size = max(
            workspace(*layer[:3], steps, rows, _LANES[net.dtype], net.dtype.itemsize)
            for directions in net.layers
            for layer in directions
        )

    def run(
        self,
        x: Array,
        lengths: Array | None,
        reset: Array | None,
        places: tuple[Array | None, Array | None],
        h: Array,
        c: Array,
        out: Array,
    ) -> None:
        between = None if self._between is None else empty(self._between, out.dtype)
        arrays = (x, lengths, reset, *places, h, c, out, between)
        self.run_at([0 if array is None else address(array) for array in arrays], arrays)

    def run_at(self, addresses: list[int], arrays: Any = None) -> None:
        """arrays: what must stay until all threads are done."""
        if self._alone is not None:
            self._run_part(addresses, self._alone)
            return
        for turn in self._turns:
            threads.run([partial(self._run_part, addresses, part, arrays) for part in turn])

    def _run_part(self, addresses: list[int], part: threads.Part, keep_alive: Any = None) -> None:
        _held, work = scratch.of(self._work_size)
        self._kernel(self._address, *addresses, work, *part)

    def prepared(self) -> Callable[[Array, Array, Array, Array], None]:
        """``run`` for contiguous arrays without lengths; on one thread with no more around the kernel than it needs."""
        if self._alone is None or self._between is not None:
            return lambda x, h, c, out: self.run(x, None, None, (None, None), h, c, out)
        kernel, call, work_size, part = self._kernel, self._address, self._work_size, tuple(self._alone)
        cast, buffer, kind, memory = ffi.cast, ffi.from_buffer, ADDRESS, scratch

        def run(x: Array, h: Array, c: Array, out: Array) -> None:
            _held, work = memory.place if memory.size >= work_size else memory.of(work_size)
            x_at, h_at = int(cast(kind, buffer(x))), int(cast(kind, buffer(h)))
            c_at, out_at = int(cast(kind, buffer(c))), int(cast(kind, buffer(out)))
            kernel(call, x_at, 0, 0, 0, 0, h_at, c_at, out_at, 0, work, *part)

        run.__dict__["keep_alive"] = self
        return run


def _lstm_forward(weights: LSTMWeights, batch: Batch, threads: int, times: slice | None = None) -> None:
    x, lengths, reset, h, c, out = batch
    T, B, _ = x.shape
    size = x.itemsize
    strides = (x.strides[0] // size, x.strides[1] // size, out.strides[0] // size, out.strides[1] // size)
    state_rows = h.strides[0] // (h.shape[2] * size)  # h may be some rows of a larger one
    call = _Call(weights.native, T, B, strides, state_rows, times or slice(0, T), threads)
    call.run(x, lengths, reset, (None, None), h, c, out)


def _prepare(weights: LSTMWeights, T: int, B: int, threads: int) -> Callable[[Array, Array, Array, Array], None]:
    net: _Network = weights.native
    width = net.directions * net.output_size
    strides = (B * net.input_size, net.input_size, B * width, width)
    return _Call(net, T, B, strides, B, slice(0, T), threads).prepared()


def _prepare_advance(
    weights: LSTMWeights, T: int, h: Array, c: Array, read: Array, write: Array, threads: int
) -> Advance:
    net: _Network = weights.native
    B, I, R = len(read), net.input_size, net.output_size
    call = _Call(net, T, B, (B * I, I, B * R, R), h.shape[1], slice(0, T), threads)
    states = (address(read), address(write), address(h), address(c))
    x_bytes, out_bytes = (T * B * width * h.itemsize for width in (I, R))

    def run(x: int, out: int) -> int:
        if x < out + out_bytes and out < x + x_bytes:
            return 1
        call.run_at([x, 0, 0, *states, out, 0])
        return 0

    run.__dict__["keep_alive"] = (h, c, read, write)
    return run
