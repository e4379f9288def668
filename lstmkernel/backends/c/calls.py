"""The C kernels, called through cffi. The callers have checked the arguments; C trusts them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends.c._kernels import ffi, lib
from lstmkernel.backends.contract import (
    ACTIVATIONS,
    DENSE_ACTIVATIONS,
    VARIANT_ACTIVATIONS,
    Advance,
    Backend,
    BackendError,
    Batch,
    Ragged,
)
from lstmkernel.backends.packing import (
    Array,
    DenseWeights,
    Int8Matrix,
    LayerScales,
    LayerVariant,
    LayerWeights,
    LSTMWeights,
    empty,
    pack_dense,
    pack_int8_layer,
    pack_layer,
)
from lstmkernel.backends.reuse import empty_reused
from lstmkernel.backends.tape import LayerGradients, LayerTape, Parameters, RowsOfTape

#: Backend.min_gflops.
MIN_GFLOPS = {"avx512": 60.0, "avx2": 40.0, "generic": 8.0}

#: Bytes of weights that one call of a backward pass loads or stores.
MOST_PACKED = 1 << 26

#: A layer whose float16 weights have no more bytes than this is packed in float32: those are near the core, too.
FEW_NARROW_BYTES = 1 << 15

ALL_ROWS = slice(None)

_per_thread = threading.local()

#: dtype -> const lk_kernels *; float16: for float32 with narrow weights; int16, int8: with 8-bit weights and such
#: activations.
Tables = dict[Any, Any]
Specialised = dict[tuple[int, int, int], Any]  # input_size, hidden_size, proj_size -> const lk_kernels *


def instruction_sets() -> list[str]:
    """The instruction sets of this build, best first, whether or not the CPU can run them."""
    names: list[str] = []
    while (name := lib.lk_isa_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


def backend(isa: str, specialised: Specialised | None = None) -> Backend:
    """The C kernels on that instruction set. specialised: kernels of specialised.py, for layers of certain sizes."""
    tables = _tables(isa)
    has_int8 = tables[np.dtype(np.int8)] != ffi.NULL  # not on the first CPUs with AVX-512, which lack a part of it
    return Backend(
        name=f"c:{isa}",
        min_gflops=MIN_GFLOPS.get(isa, 20),
        pack_layer=partial(_pack_layer, tables, specialised or {}),
        pack_lstm=_pack_lstm,
        pack_dense=partial(_pack_dense, tables),
        activation=partial(_activation, tables),
        gate_matmul=_gate_matmul,
        cell_update=partial(_cell_update, tables),
        dense_forward=_dense_forward,
        layer_forward=_layer_forward,
        layer_record=_layer_record,
        layer_backward=partial(_layer_backward, tables),
        lstm_forward=_lstm_forward,
        prepare=_prepare,
        prepare_advance=_prepare_advance,
        address=ffi.from_buffer,
        lstm_ragged=_lstm_ragged,
        takes_float16=not specialised and tables[np.dtype(np.float16)] != ffi.NULL,
        pack_int8_layer=None if specialised or not has_int8 else partial(_pack_int8_layer, tables),
    )


def source(isa: str, dtype: DTypeLike) -> str | None:
    """The file of csrc/tables that an instruction set runs; None where there is none. dtype: as in Tables."""
    kernels = _tables(isa)[np.dtype(dtype)]
    return None if kernels == ffi.NULL else ffi.string(lib.lk_source(kernels)).decode()


def _tables(isa: str) -> Tables:
    built = instruction_sets()
    if isa not in built:
        raise BackendError(f"backend 'c:{isa}': this build has {', '.join(built)}")
    index = built.index(isa)
    if not lib.lk_isa_usable(index):
        has = [name for i, name in enumerate(built) if lib.lk_isa_usable(i)]
        raise BackendError(f"backend 'c:{isa}': this CPU does not have it; it has {', '.join(has)}")
    tables = {
        dtype: lib.lk_find(index, dtype.itemsize) for dtype in map(np.dtype, (np.float16, np.float32, np.float64))
    }
    return tables | {dtype: lib.lk_find_int8(index, 8 * dtype.itemsize) for dtype in map(np.dtype, (np.int16, np.int8))}


def _pack_layer(
    tables: Tables,
    specialised: Specialised,
    w_ih: Array,
    w_hh: Array,
    bias: Array,
    w_hr: Array | None,
    variant: LayerVariant | None = None,
) -> LayerWeights:
    if w_ih.dtype == np.float16 and w_ih.nbytes + w_hh.nbytes <= FEW_NARROW_BYTES:
        w_ih, w_hh = w_ih.astype(bias.dtype), w_hh.astype(bias.dtype)
        w_hr = None if w_hr is None else w_hr.astype(bias.dtype)
    weights = pack_layer(w_ih, w_hh, bias, w_hr, variant, lib.lk_lanes(tables[bias.dtype]))
    w_r = ffi.NULL if weights.w_r is None else _address(weights.w_r)
    own = ffi.NULL if weights.variant is None else _variant(weights.variant)
    struct = ffi.new(
        "lk_layer *",
        (
            *(weights.input_size, weights.hidden_size, weights.proj_size),
            *(_address(weights.w_x), _address(weights.w_h), _address(weights.bias), w_r),
            *(_own_kernels(tables, specialised, weights), own, ffi.NULL),
        ),
    )
    return weights._replace(native=(tables[weights.bias.dtype], struct, own))


def _pack_int8_layer(
    tables: Tables, w_ih: Int8Matrix, w_hh: Int8Matrix, bias: Array, w_hr: Int8Matrix | None
) -> LayerWeights:
    kernels = tables[bias.dtype]
    weights = pack_int8_layer(w_ih, w_hh, bias, w_hr, lib.lk_lanes(kernels))
    assert weights.scales is not None
    own = tables[np.dtype(np.int16 if w_ih.levels == 32767 else np.int8)]
    scales = _scales(weights.scales)
    w_r = ffi.NULL if weights.w_r is None else _address(weights.w_r)
    arrays = (*(_address(array) for array in (weights.w_x, weights.w_h, weights.bias)), w_r)
    struct = ffi.new("lk_layer *", (*weights[:3], *arrays, own, ffi.NULL, scales))
    return weights._replace(native=(kernels, struct, scales))


def _scales(scales: LayerScales) -> Any:
    """An lk_scales."""
    packed = scales.x, scales.h, scales.r
    own = (ffi.NULL if part is None else _address(part.scale) for part in packed)
    offsets = (ffi.NULL if part is None else ffi.from_buffer("int32_t[]", part.offset) for part in packed)
    return ffi.new("lk_scales *", (*own, *offsets))


def _own_kernels(tables: Tables, specialised: Specialised, weights: LayerWeights) -> Any:
    """lk_layer.specialised."""
    if weights.w_x.dtype == np.float16:
        return tables[weights.w_x.dtype]
    return specialised.get(weights[:3], ffi.NULL) if weights.variant is None else ffi.NULL


def _variant(variant: LayerVariant) -> Any:
    """An lk_variant."""
    names = list(VARIANT_ACTIVATIONS)
    functions = [
        (names.index(name), alpha, beta) for name, alpha, beta in (variant.gates, variant.candidate, variant.output)
    ]
    coupled = {None: lib.LK_NOT_COUPLED, "forget": lib.LK_FORGET_COUPLED, "input": lib.LK_INPUT_COUPLED}
    peephole = ffi.NULL if variant.peephole is None else _address(variant.peephole)
    clips = variant.gate_clip, variant.cell_clip
    return ffi.new("lk_variant *", (*functions, *clips, coupled[variant.coupled], peephole))


class _NativeLSTM:
    """lk_layer of every layer and direction, side by side, and the kernels.

    C reads packed weights by their addresses, so this keeps the arrays, too, and everything that C was given keeps
    this: a call that was prepared may outlive the network.
    """

    def __init__(self, layers: list[list[LayerWeights]], reverse: bool) -> None:
        first = layers[0][0]
        self.keep_alive = layers
        self.reverse = reverse
        self.kernels = first.native[0]
        self.num_layers, self.directions = len(layers), len(layers[0])
        self.output_size = first.output_size
        self.layers = ffi.new("lk_layer[]", [packed.native[1][0] for directions in layers for packed in directions])

    def layer(self, index: int) -> _NativeLSTM:
        one = object.__new__(_NativeLSTM)
        own = {"num_layers": 1, "layers": self.layers + index * self.directions, "keep_alive": self}
        one.__dict__ = {**self.__dict__, **own}
        return one


def _pack_lstm(layers: list[list[LayerWeights]], reverse: bool = False) -> LSTMWeights:
    return LSTMWeights(layers, reverse, _NativeLSTM(layers, reverse))


def _pack_dense(tables: Tables, weight: Array, bias: Array, activation: str) -> DenseWeights:
    weights = pack_dense(weight, bias, activation, lib.lk_lanes(tables[weight.dtype]))
    code = DENSE_ACTIVATIONS[activation]
    struct = ffi.new(
        "lk_dense *",
        (weights.in_features, weights.out_features, code, _address(weights.w), _address(weights.bias)),
    )
    return weights._replace(native=(tables[weights.bias.dtype], struct))


def _activation(tables: Tables, name: str, x: Array, y: Array) -> None:
    _check(lib.lk_activation(tables[x.dtype], ACTIVATIONS.index(name), x.size, _address(x), _address(y)))


def _gate_matmul(x: Array, weights: LayerWeights, z: Array) -> None:
    _check(lib.lk_gate_matmul(*weights.native[:2], len(x), _address(x), x.shape[1], _address(z)))


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
    kernels, layer, _variant = weights.native
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


def _tape(tape: LayerTape, threads: int) -> Any:
    """An lk_tape."""
    T, B, _ = tape.x.shape
    lengths = ffi.NULL if tape.lengths is None else ffi.from_buffer("int64_t[]", tape.lengths)
    return ffi.new(
        "lk_tape *",
        (
            *(T, B, tape.first, tape.last, lengths, tape.reverse),
            *(_address(tape.x), *_strides(tape.x), _contiguous(tape.h_0), _address(tape.h), *_strides(tape.h)),
            *(_contiguous(tape.c), _contiguous(tape.gates), threads),
        ),
    )


def _strides(array: Array) -> tuple[int, int]:
    """Along T and B, in elements."""
    return array.strides[0] // array.itemsize, array.strides[1] // array.itemsize


def _layer_record(tape: LayerTape, weights: LayerWeights, threads: int) -> None:
    kernels, layer, _variant = weights.native
    struct = _tape(tape, threads)
    work = _workspace(lib.lk_record_workspace(kernels, layer, struct))
    _check(lib.lk_layer_record(kernels, layer, struct, work))


def _layer_backward(
    tables: Tables, tapes: Iterable[RowsOfTape], parameters: Parameters, gradients: LayerGradients, threads: int
) -> None:
    kernels = tables[parameters.w_ih.dtype]
    struct = _gradients(parameters, gradients)
    size = lib.lk_packed_bytes(kernels, struct)
    packed, parts = _take_packed(size), -(-size // MOST_PACKED)
    to_do = lib.LK_LOAD | lib.LK_STORE
    for tape, rows in tapes:
        native = _tape(tape, threads)
        if rows != ALL_ROWS:
            struct = _gradients(parameters, gradients.rows(rows))
        struct.packed = packed
        if parts > 1 and to_do & lib.LK_LOAD:
            _weights_backward(kernels, native, struct, lib.LK_LOAD, parts)
            to_do = lib.LK_STORE
        is_last = parts == 1 and tape.first == 0 and rows == ALL_ROWS  # then this call stores, too: one call less
        stages = to_do if is_last else to_do & lib.LK_LOAD
        _stage_backward(kernels, native, struct, lib.LK_STEPS | stages)
        to_do &= ~stages
    if to_do == lib.LK_STORE:
        _weights_backward(kernels, native, struct, lib.LK_STORE, parts)
    if parts == 1:
        _per_thread.packed = packed


def _take_packed(size: int) -> Any:
    """Memory for the weights of a backward pass: this thread's, which is away until it is given back.

    A signal handler may run another backward pass meanwhile.
    """
    packed = _per_thread.__dict__.pop("packed", None)
    if packed is None or len(packed) < size:
        packed = ffi.from_buffer(empty_reused((size,), np.uint8))
    return packed


def _weights_backward(kernels: Any, native: Any, struct: Any, stage: int, parts: int) -> None:
    """A stage of all weights: part by part, since Ctrl-C waits for the end of a part."""
    for part in range(parts):
        _stage_backward(kernels, native, struct, stage, part, parts)


def _stage_backward(kernels: Any, native: Any, struct: Any, stages: int, part: int = 0, parts: int = 1) -> None:
    struct.stages, struct.part, struct.parts = stages, part, parts
    work = _workspace(lib.lk_backward_workspace(kernels, native, struct))
    _check(lib.lk_layer_backward(kernels, native, struct, work))


def _gradients(parameters: Parameters, gradients: LayerGradients) -> Any:
    """An lk_gradients without what a call does."""
    w_ih, _w_hh, w_hr = parameters
    null, out, x, of = ffi.NULL, gradients.out, gradients.x, gradients.parameters
    return ffi.new(
        "lk_gradients *",
        (
            *(w_ih.shape[1], w_ih.shape[0] // 4, 0 if w_hr is None else len(w_hr)),
            *(null if array is None else _contiguous(array) for array in parameters),
            *((null, 0, 0) if out is None else (_address(out), *_strides(out))),
            *(_contiguous(gradients.h), _contiguous(gradients.c)),
            *((null, 0, 0) if x is None else (_address(x), *_strides(x))),
            gradients.add_x,
            *(null if array is None else _contiguous(array) for array in of or (None,) * 4),
        ),
    )


def _call(
    native: _NativeLSTM, x_shape: tuple[int, ...], strides: Any, state_rows: int, times: slice, threads: int
) -> Any:
    """An lk_call."""
    T, B, _ = x_shape
    sizes = (native.num_layers, native.directions, T, B, *strides, state_rows, times.start, times.stop, threads)
    sizes = (*sizes, native.reverse)
    return ffi.new("lk_call *", (native.kernels, native.layers, *sizes))


def _lstm_forward(weights: LSTMWeights, batch: Batch, threads: int, times: slice | None = None) -> None:
    x, lengths, reset, h, c, out = batch
    state_rows = h.strides[0] // (h.shape[2] * h.itemsize)  # h may be some rows of a larger one
    strides = (*_strides(x), *_strides(out))
    call = _call(weights.native, x.shape, strides, state_rows, times or slice(0, len(x)), threads)
    status = lib.lk_lstm_forward(
        call,
        _address(x),
        ffi.NULL if lengths is None else ffi.from_buffer("int64_t[]", lengths),
        ffi.NULL if reset is None else ffi.from_buffer("uint8_t[]", reset),
        _address(h),
        _address(c),
        _address(out),
        _between(weights.native, x.shape, x.dtype),
        _workspace(lib.lk_lstm_workspace(call)),
    )
    _check(status)


def _planned(call: Any) -> Any:
    """The call with the threads of its plan: C plans a call for several threads anew each time, which takes time."""
    if call.threads > 1:
        plan = ffi.new("lk_plan *")
        lib.lk_lstm_plan(call, ffi.NULL, plan)
        call.threads = plan.threads
    return call


def _lstm_ragged(weights: LSTMWeights, rows: Ragged, threads: int) -> None:
    x, begins, lengths, h, c, out, last = rows
    native, shape, size = weights.native, (int(lengths[0]), len(lengths), x.shape[1]), x.itemsize
    strides = (x.shape[1], 0, 0, out.shape[1]) if last else (x.shape[1], 0, out.shape[1], 0)
    call = _call(native, shape, strides, h.strides[0] // (h.shape[2] * size), slice(0, shape[0]), threads)
    call.begins = places = ffi.from_buffer("int64_t[]", begins)
    status = lib.lk_lstm_forward(
        call,
        _address(x),
        ffi.from_buffer("int64_t[]", lengths),
        ffi.NULL,
        _address(h),
        _address(c),
        _address(out),
        _between(native, shape, x.dtype),
        _workspace(lib.lk_lstm_workspace(call)),
    )
    del places  # C reads it until here
    _check(status)


def _prepare(weights: LSTMWeights, T: int, B: int, threads: int) -> Callable[[Array, Array, Array, Array], None]:
    native, dtype = weights.native, weights.layers[0][0].bias.dtype
    I, width = weights.layers[0][0].input_size, native.directions * native.output_size
    call = _planned(_call(native, (T, B, I), (B * I, I, B * width, width), B, slice(0, T), threads))
    work_size = lib.lk_lstm_workspace(call)
    has_between = native.directions == 2 and native.num_layers > 1
    forward, address, null, ok = lib.lk_lstm_forward, ffi.from_buffer, ffi.NULL, lib.LK_OK

    def run(x: Array, h: Array, c: Array, out: Array) -> None:
        between = _between(native, (T, B), dtype) if has_between else null
        states = address(h), address(c)
        status = forward(call, address(x), null, null, *states, address(out), between, _workspace(work_size))
        if status != ok:
            _check(status)

    run.__dict__["keep_alive"] = native
    return run


def _prepare_advance(
    weights: LSTMWeights, T: int, h: Array, c: Array, read: Array, write: Array, threads: int
) -> Advance:
    native, layer = weights.native, weights.layers[0][0]
    I, R, B = layer.input_size, layer.output_size, len(read)
    call = _planned(_call(native, (T, B, I), (B * I, I, B * R, R), h.shape[1], slice(0, T), threads))
    work = empty((lib.lk_lstm_workspace(call),), np.uint8)
    places = (ffi.from_buffer("int64_t[]", read), ffi.from_buffer("int64_t[]", write))
    stream = ffi.new("lk_stream *", (call[0], *places, _contiguous(h), _contiguous(c), _contiguous(work)))
    run = partial(lib.lk_advance, stream)
    run.__dict__["keep_alive"] = (native, h, c, work, places)
    return run


def _between(native: _NativeLSTM, x_shape: tuple[int, ...], dtype: Any) -> Any:
    """Room for the output of two directions between two layers; see lk_lstm_forward."""
    if native.directions == 1 or native.num_layers == 1:
        return ffi.NULL
    return ffi.from_buffer(empty((x_shape[0], x_shape[1], 2 * native.output_size), dtype))


def _workspace(size: int) -> Any:
    """The address of this thread's workspace: kernels own no memory, and several threads may share a model."""
    work = getattr(_per_thread, "work", None)
    if work is None or len(work) < size:
        work = _per_thread.work = ffi.from_buffer(empty((size,), np.uint8))  # keeps the array alive
    return work


#: The address of a contiguous array. It takes much less time than ctypes.data.
_contiguous = ffi.from_buffer


def _address(array: Array) -> Any:
    return _contiguous(array) if array.flags.c_contiguous else ffi.cast("void *", array.ctypes.data)


def _check(status: int) -> None:
    if status != lib.LK_OK:
        raise BackendError("the C kernels cannot run on this CPU")
