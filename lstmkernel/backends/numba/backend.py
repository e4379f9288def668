"""The Numba backend: gives arrays and sizes to the compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from numba.core import config

from lstmkernel.backends.contract import ACTIVATIONS, Advance, Backend, BackendError, Batch
from lstmkernel.backends.numba.arrays import Place, address, scratch
from lstmkernel.backends.numba.kernels.input_product import ROWS_AT_ONCE
from lstmkernel.backends.numba.kernels.layout import WORD, integer_bytes, workspace
from lstmkernel.backends.numba.kernels.tile import LINE_BYTES
from lstmkernel.backends.numba.layers_in_turn import LayersInTurn, part_strides
from lstmkernel.backends.numba.run.plan import Sizes, plan_lstm
from lstmkernel.backends.numba.run.threads import board_address, called, ended
from lstmkernel.backends.numba.run.training import layer_backward, layer_record
from lstmkernel.backends.numba.structs import Call, packed
from lstmkernel.backends.numba.weights import (
    KERNELS,
    Network,
    activation_bits,
    lanes_of,
    pack_lstm,
    pack_native_dense,
    pack_native_int8_layer,
    pack_native_layer,
)
from lstmkernel.backends.packing import Array, DenseWeights, LayerWeights, LSTMWeights, empty


def backend() -> Backend:
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise BackendError("backend 'numba': NUMBA_DISABLE_JIT is set, and vectors exist only in compiled code")
    return Backend(
        name="numba",
        min_gflops=20,
        pack_layer=pack_native_layer,
        pack_lstm=pack_lstm,
        pack_dense=pack_native_dense,
        activation=_activation,
        gate_matmul=_gate_matmul,
        cell_update=_cell_update,
        dense_forward=_dense_forward,
        layer_forward=_layer_forward,
        layer_record=layer_record,
        layer_backward=layer_backward,
        lstm_forward=_lstm_forward,
        prepare=_prepare,
        prepare_advance=_prepare_advance,
        address=address,
        pack_int8_layer=pack_native_int8_layer,
    )


def _activation(name: str, x: Array, y: Array) -> None:
    KERNELS[x.dtype].activation(ACTIVATIONS.index(name), x.size, x, y)


def _gate_matmul(x: Array, weights: LayerWeights, z: Array) -> None:
    native, (_held, work) = weights.native, scratch.of(ROWS_AT_ONCE * WORD)
    native.kernels.gate_matmul(native.address, len(x), x, x.shape[1], z, work)


def _cell_update(z: Array, c: Array, h: Array) -> None:
    KERNELS[c.dtype].cell_update(*c.shape, z, c, h)


def _dense_forward(x: Array, weights: DenseWeights, y: Array) -> None:
    native = weights.native
    native.kernels.dense_forward(native.address, len(x), x, x.shape[1], y, y.shape[1])


def _layer_forward(
    x: Array, weights: LayerWeights, lengths: Array | None, reverse: bool, h: Array, c: Array, out: Array
) -> None:
    T, B, _ = x.shape
    size = x.itemsize
    native = weights.native
    if weights.variant is not None or weights.scales is not None:
        _lstm_forward(pack_lstm([[weights]], reverse), Batch(x, lengths, None, h[None], c[None], out), 1)
        return
    _held, work = scratch.of(workspace(*weights[:3], T, B, lanes_of(x.dtype), size))
    native.kernels.layer_forward(
        native.address,
        T,
        B,
        x,
        x.strides[0] // size,
        x.strides[1] // size,
        lengths,
        reverse,
        h,
        c,
        out,
        out.strides[0] // size,
        out.strides[1] // size,
        work,
    )


def _work_bytes(layer: LayerWeights, steps: int, rows: int) -> int:
    """Of one thread."""
    dtype, bits = layer.bias.dtype, activation_bits(layer)
    size = workspace(*layer[:3], steps, rows, lanes_of(dtype), dtype.itemsize)
    of_integers = integer_bytes(*layer[:3], steps, rows, lanes_of(dtype), dtype.itemsize, bits) if bits else 0
    return size + of_integers


class _Call:
    """What lstm_forward does with arrays of one shape: the call as compiled code reads it, and how it is run."""

    def __init__(
        self, net: Network, T: int, B: int, strides: tuple[int, ...], state_rows: int, times: slice, most: int
    ) -> None:
        self._net = net  # its arrays, which the words below point to
        layers = net.all_layers()
        self._layers = packed(tuple(layer.native.address for layer in layers))
        call = Call(
            *(net.num_layers, net.directions, net.output_size, net.hidden_size, T, B),
            *strides,
            state_rows,
            first=times.start,
            last=times.stop,
            reverse=net.reverse,
            layers=self._layers,
        )
        self._words = packed(call)
        self._address = address(self._words)
        self._kernel = net.forward_kernel()
        self._between = (T, B, 2 * net.output_size) if net.directions == 2 and net.num_layers > 1 else None
        steps, item_size, lanes = times.stop - times.start, net.dtype.itemsize, lanes_of(net.dtype)
        sizes = [Sizes(*layer[:2], layer.output_size, item_size, lanes) for layer in layers]
        self._plan = plan_lstm(net.num_layers, net.directions, sizes, steps, B, most)
        rounds = [number for tasks in self._plan.rounds for number in (len(tasks), *chain(*tasks))]
        self._rounds = np.array([len(self._plan.rounds), *rounds], np.int64)
        self._rounds_at = address(self._rounds) if rounds else 0
        rows = max((task.rows - task.row for tasks in self._plan.rounds for task in tasks), default=B)
        work_size = max(_work_bytes(layer, steps, rows) for layer in layers)
        self._work_size = -(-work_size // LINE_BYTES) * LINE_BYTES

    def run_at(self, places: Sequence[Place]) -> None:
        """places: x, lengths, reset, read, write, h, c and out."""
        between = None if self._between is None else empty(self._between, self._net.dtype)
        threads = called(self._plan.threads, self._plan.is_long)
        _held, work = scratch.of(self._work_size * threads)
        how = (between, work, self._work_size, self._rounds_at, board_address, threads)
        self._kernel(self._address, *places, *how)
        if self._plan.threads > 1:
            ended()

    def prepared(self) -> Callable[[Array, Array, Array, Array], None]:
        """``run_at`` for contiguous arrays without lengths, with no more around the kernel than it needs."""
        if self._between is not None:
            return lambda x, h, c, out: self.run_at((x, None, None, None, None, h, c, out))
        kernel, call, work_size, rounds = self._kernel, self._address, self._work_size, self._rounds_at
        wanted, is_long, memory = self._plan.threads, self._plan.is_long, scratch

        def run(x: Array, h: Array, c: Array, out: Array) -> None:
            threads = called(wanted, is_long) if wanted > 1 else 1
            size = work_size * threads
            _held, work = memory.place if memory.size >= size else memory.of(size)
            marks = (None, None, None, None)
            kernel(call, x, *marks, h, c, out, None, work, work_size, rounds, board_address, threads)
            if wanted > 1:
                ended()

        run.__dict__["keep_alive"] = self
        return run


def _call(
    net: Network, T: int, B: int, strides: tuple[int, ...], state_rows: int, times: slice, most: int
) -> _Call | LayersInTurn:
    if not net.parts:
        return _Call(net, T, B, strides, state_rows, times, most)
    of_parts = part_strides(net, B, strides)
    calls = [_Call(part, T, B, own, state_rows, times, most) for part, own in zip(net.parts, of_parts, strict=True)]
    return LayersInTurn(net, calls, (T, B), state_rows)


def _lstm_forward(weights: LSTMWeights, batch: Batch, threads: int, times: slice | None = None) -> None:
    x, lengths, reset, h, c, out = batch
    T, B, _ = x.shape
    size = x.itemsize
    strides = (x.strides[0] // size, x.strides[1] // size, out.strides[0] // size, out.strides[1] // size)
    state_rows = h.strides[0] // (h.shape[2] * size)  # h may be some rows of a larger one
    call = _call(weights.native, T, B, strides, state_rows, times or slice(0, T), threads)
    call.run_at((x, lengths, reset, None, None, h, c, out))


def _prepare(weights: LSTMWeights, T: int, B: int, threads: int) -> Callable[[Array, Array, Array, Array], None]:
    net: Network = weights.native
    width = net.directions * net.output_size
    strides = (B * net.input_size, net.input_size, B * width, width)
    return _call(net, T, B, strides, B, slice(0, T), threads).prepared()


def _prepare_advance(
    weights: LSTMWeights, T: int, h: Array, c: Array, read: Array, write: Array, threads: int
) -> Advance:
    net: Network = weights.native
    B, I, R = len(read), net.input_size, net.output_size
    call = _call(net, T, B, (B * I, I, B * R, R), h.shape[1], slice(0, T), threads)
    states = (read, write, h, c)
    x_bytes, out_bytes = (T * B * width * h.itemsize for width in (I, R))

    def run(x: int, out: int) -> int:
        if x < out + out_bytes and out < x + x_bytes:
            return 1
        call.run_at((x, None, None, *states, out))
        return 0

    return run
