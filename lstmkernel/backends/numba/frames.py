"""The kernels as Python calls them: addresses and sizes in, and a known floating-point environment.

The Numba form of csrc/run/dispatch.c.

Each is a frame around a body that is not inlined, for float_control.py's reason. Arguments are those of
csrc/lstmkernel.h; an address of 0 is C's NULL. Each is compiled when it is first asked for, for one dtype, and kept on
disk (cache.py).
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

from numba import int64, uint8

from lstmkernel.backends.numba.float_control import enter_kernel, leave_kernel
from lstmkernel.backends.numba.jit import entry, internal, never_inline, spliced
from lstmkernel.backends.numba.jit_cache import DiskCache
from lstmkernel.backends.numba.kernels import one_row
from lstmkernel.backends.numba.kernels.activation import activation
from lstmkernel.backends.numba.kernels.backward import backward_at, layer_backward
from lstmkernel.backends.numba.kernels.cell import cell_update
from lstmkernel.backends.numba.kernels.dense import dense_forward
from lstmkernel.backends.numba.kernels.input_product import gate_matmul
from lstmkernel.backends.numba.kernels.layer import dense_at, layer_at
from lstmkernel.backends.numba.kernels.layer_forward import layer_forward
from lstmkernel.backends.numba.kernels.layout import lay_out
from lstmkernel.backends.numba.kernels.record import layer_record
from lstmkernel.backends.numba.kernels.rows import Call
from lstmkernel.backends.numba.kernels.tape import tape_at
from lstmkernel.backends.numba.memory import at, pointer, pointer_to_rows
from lstmkernel.backends.numba.run.forward import Arrays, Network, lstm_forward, run_part, run_variant_part
from lstmkernel.host.spinner import spinning

Kernel = Callable[..., None]


@internal
def _activation(real, kind, N, x, y):
    never_inline()
    activation(kind, N, pointer(x, real), pointer(y, real))


@internal
def _gate_matmul(real, layer, N, x, x_row, z, work):
    never_inline()
    gate_matmul(layer_at(layer, real), N, pointer(x, real), x_row, pointer(z, real), pointer_to_rows(work, real))


@internal
def _cell_update(real, N, H, z, c, h):
    never_inline()
    cell_update(N, H, pointer(z, real), pointer(c, real), pointer(h, real))


@internal
def _dense_forward(real, dense, N, x, x_row, y, y_row):
    never_inline()
    dense_forward(dense_at(dense, real), N, pointer(x, real), x_row, pointer(y, real), y_row)


@internal
def _layer_forward(real, layer, T, B, x, x_step, x_row, lengths, reverse, h, c, out, out_step, out_row, work):
    never_inline()
    fields = layer_at(layer, real)
    rows_of_x = (pointer(x, real), x_step, x_row)
    rows_of_out = (pointer(out, real), out_step, out_row)
    no_reset, no_places = (False, pointer(0, uint8), 0), (False, pointer(0, int64), pointer(0, int64))
    given = (lengths != 0, pointer(lengths, int64), *no_reset, 0, reverse != 0, *no_places)
    call = Call(T, *rows_of_x, *given, pointer(h, real), pointer(c, real), *rows_of_out)
    layer_forward(fields, lay_out(fields, T, B, work, real), B, call)


@spliced
def _run_lstm(real, run_part, call, x, lengths, reset, read, write, h, c, out, between, work, part):
    field = pointer(call, int64)
    fields = (field[0], field[1], field[2], field[3], field[4])
    strides = (field[6], field[7], field[8], field[9])
    net = Network(*fields, *strides, field[10], field[11], field[12], field[13], at(field, 14))
    states = (pointer(h, real), pointer(c, real))
    given = (lengths != 0, pointer(lengths, int64), reset != 0, pointer(reset, uint8))
    places = (read != 0, pointer(read, int64), pointer(write, int64))
    scratch = (pointer(between, real), work)
    arrays = Arrays(pointer(x, real), *given, *places, *states, pointer(out, real), *scratch)
    lstm_forward(real, net, arrays, field[5], part[0], part[1], part[2], run_part)


@internal
def _lstm_forward(real, call, x, lengths, reset, read, write, h, c, out, between, work, layers, directions, rows):
    never_inline()
    part = (layers, directions, rows)
    _run_lstm(real, run_part, call, x, lengths, reset, read, write, h, c, out, between, work, part)


@internal
def _variant_forward(real, call, x, lengths, reset, read, write, h, c, out, between, work, layers, directions, rows):
    never_inline()
    part = (layers, directions, rows)
    _run_lstm(real, run_variant_part, call, x, lengths, reset, read, write, h, c, out, between, work, part)


@internal
def _layer_record(real, layer, tape, work):
    never_inline()
    layer_record(layer_at(layer, real), tape_at(tape, real), work, real)


@internal
def _layer_backward(real, gradients, tape):
    never_inline()
    layer_backward(backward_at(gradients, real), tape_at(tape, real))


class Kernels:
    """The kernels of one dtype, a Numba type."""

    def __init__(self, real: Any) -> None:
        self._real = real

    @cached_property
    def activation(self) -> Kernel:
        real = self._real

        def kernel(kind, N, x, y):
            callers = enter_kernel()
            _activation(real, kind, N, x, y)
            leave_kernel(callers)

        return self._compile("activation", kernel)

    @cached_property
    def gate_matmul(self) -> Kernel:
        real = self._real

        def kernel(layer, N, x, x_row, z, work):
            callers = enter_kernel()
            _gate_matmul(real, layer, N, x, x_row, z, work)
            leave_kernel(callers)

        return self._compile("gate_matmul", kernel)

    @cached_property
    def cell_update(self) -> Kernel:
        real = self._real

        def kernel(N, H, z, c, h):
            callers = enter_kernel()
            _cell_update(real, N, H, z, c, h)
            leave_kernel(callers)

        return self._compile("cell_update", kernel)

    @cached_property
    def dense_forward(self) -> Kernel:
        real = self._real

        def kernel(dense, N, x, x_row, y, y_row):
            callers = enter_kernel()
            _dense_forward(real, dense, N, x, x_row, y, y_row)
            leave_kernel(callers)

        return self._compile("dense_forward", kernel)

    @cached_property
    def layer_forward(self) -> Kernel:
        real = self._real

        def kernel(layer, T, B, x, x_step, x_row, lengths, reverse, h, c, out, out_step, out_row, work):
            callers = enter_kernel()
            _layer_forward(real, layer, T, B, x, x_step, x_row, lengths, reverse, h, c, out, out_step, out_row, work)
            leave_kernel(callers)

        return self._compile("layer_forward", kernel)

    @cached_property
    def layer_record(self) -> Kernel:
        """layer and tape: the addresses of what layer.py and tape.py read."""
        real = self._real

        def kernel(layer, tape, work):
            callers = enter_kernel()
            _layer_record(real, layer, tape, work)
            leave_kernel(callers)

        return self._compile("layer_record", kernel)

    @cached_property
    def layer_backward(self) -> Kernel:
        """gradients and tape: the addresses of what backward.py and tape.py read."""
        real = self._real

        def kernel(gradients, tape):
            callers = enter_kernel()
            _layer_backward(real, gradients, tape)
            leave_kernel(callers)

        return self._compile("layer_backward", kernel)

    @cached_property
    def lstm_forward(self) -> Kernel:
        return self._compile_lstm("lstm_forward", _lstm_forward)

    @cached_property
    def variant_forward(self) -> Kernel:
        """lstm_forward of layers with variants."""
        return self._compile_lstm("variant_forward", _variant_forward)

    def _compile_lstm(self, name: str, body: Any) -> Kernel:
        """call: the address of num_layers, directions, R, H, T, B, x_step, x_row, out_step, out_row, state_rows, first,
        last, reverse, and of each layer's address (layer.py); then csrc/lstmkernel.h's arguments, with lk_span's read
        and write, and the first and last + 1 of the layers, directions and rows to run.
        """
        real = self._real

        def kernel(
            call,
            x,
            lengths,
            reset,
            read,
            write,
            h,
            c,
            out,
            between,
            work,
            layer,
            layers,
            direction,
            directions,
            row,
            rows,
        ):
            callers = enter_kernel()
            part = ((layer, layers), (direction, directions), (row, rows))
            places = (read, write)
            body(real, call, x, lengths, reset, *places, h, c, out, between, work, *part)
            leave_kernel(callers)

        return self._compile(name, kernel)

    @cache  # noqa: B019 - there are two of this class, for good
    def row_forward(self, I: int, H: int) -> Kernel:
        """one_row.py, for layers of those sizes: the address of one, T; x, x_step, h, c, out, out_step and work."""
        real, body = self._real, one_row.kernel_of(I, H, self._real.bitwidth // 8)

        def kernel(layer, T, x, x_step, h, c, out, out_step, work):
            callers = enter_kernel()
            body(real, layer, T, x, x_step, h, c, out, out_step, work)
            leave_kernel(callers)

        return self._compile(f"row_forward_{I}_{H}", kernel)

    def _compile(self, name: str, kernel: Any) -> Kernel:
        """The compiled function itself: Numba's dispatcher would look at every argument's type at every call."""
        # Symbols are named after functions. Code of two dtypes from two processes' caches must not share a name.
        kernel.__qualname__ = f"{name}-{self._real}"
        dispatcher = entry(kernel)
        dispatcher._cache = DiskCache(kernel.__qualname__)
        with spinning(f"lstmkernel: compiling {name} for {self._real}, the first time only"):
            compiled: Kernel = dispatcher.compile((int64,) * dispatcher.py_func.__code__.co_argcount)
        return compiled
