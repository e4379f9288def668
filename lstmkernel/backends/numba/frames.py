"""The kernels as Python calls them: places in memory (places.py) and sizes in, and a known floating-point environment.

The Numba form of lk_activation and its neighbours in csrc/run/dispatch.c. Arguments are those of csrc/lstmkernel.h; an
address of 0 is C's NULL.

Each kernel is a body and a frame around it. The body is not inlined into the frame, for run/float_control.py's reason.
Kernels that run on several threads have a job for a body (run/job.py). Frames are compiled when they are first asked
for, for one dtype, and kept on disk (jit_cache.py).
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import int8, int16, int64, uint8

from lstmkernel.backends.numba.compiled import compiled
from lstmkernel.backends.numba.jit import internal, never_inline, spliced
from lstmkernel.backends.numba.kernels import one_row
from lstmkernel.backends.numba.kernels.activation import activation
from lstmkernel.backends.numba.kernels.backward import layer_backward
from lstmkernel.backends.numba.kernels.backward_plan import Gradients
from lstmkernel.backends.numba.kernels.cell import cell_update
from lstmkernel.backends.numba.kernels.dense import dense_forward
from lstmkernel.backends.numba.kernels.input_product import gate_matmul
from lstmkernel.backends.numba.kernels.layer_forward import layer_forward
from lstmkernel.backends.numba.kernels.layout import lay_out
from lstmkernel.backends.numba.kernels.record import layer_record
from lstmkernel.backends.numba.kernels.rows import LayerTask
from lstmkernel.backends.numba.memory import pointer, pointer_to_rows
from lstmkernel.backends.numba.run.float_control import enter_kernel, leave_kernel
from lstmkernel.backends.numba.run.forward import Arrays, integer_chunk, lstm_forward, run_chunk, run_variant_chunk
from lstmkernel.backends.numba.run.job import address_of, run_job, words_of
from lstmkernel.backends.numba.run.team import ALONE
from lstmkernel.backends.numba.structs import Call, Dense, Layer, Tape, struct_at

Kernel = Callable[..., None]


@internal
def _activation(real, kind, N, x, y):
    never_inline()
    activation(kind, N, pointer(x, real), pointer(y, real))


@internal
def _gate_matmul(real, layer, N, x, x_row, z, work):
    never_inline()
    rows = pointer_to_rows(work, real)
    gate_matmul(struct_at(Layer, layer, real), N, pointer(x, real), x_row, pointer(z, real), rows)


@internal
def _cell_update(real, N, H, z, c, h):
    never_inline()
    cell_update(N, H, pointer(z, real), pointer(c, real), pointer(h, real))


@internal
def _dense_forward(real, dense, N, x, x_row, y, y_row):
    never_inline()
    dense_forward(struct_at(Dense, dense, real), N, pointer(x, real), x_row, pointer(y, real), y_row)


@internal
def _layer_forward(real, layer, T, B, x, x_step, x_row, lengths, reverse, h, c, out, out_step, out_row, work):
    never_inline()
    fields = struct_at(Layer, layer, real)
    rows_of_x = (pointer(x, real), x_step, x_row)
    rows_of_out = (pointer(out, real), out_step, out_row)
    no_reset, no_places = (False, pointer(0, uint8), 0), (False, pointer(0, int64), pointer(0, int64))
    given = (lengths != 0, pointer(lengths, int64), *no_reset, 0, reverse != 0, *no_places)
    task = LayerTask(T, *rows_of_x, *given, pointer(h, real), pointer(c, real), *rows_of_out)
    layer_forward(fields, lay_out(fields, T, B, work, work, real, True), B, task, ALONE)


def _job(function, *names):
    """A job (run/job.py): it takes what it is given, and its team.

    Symbols are named after functions. Code from two processes' caches must not share a name, and all jobs have the same
    arguments.
    """
    function.__qualname__ = "-".join(map(str, ("job", *names)))
    return internal(function)


def _layer_record(real):
    def job(given, team):
        never_inline()
        words = pointer(given, int64)
        layer, tape = struct_at(Layer, words[0], real), struct_at(Tape, words[1], real)
        layer_record(layer, tape, words[2], real, words[4], words[3] != 0, team)

    return _job(job, "layer_record", real)


def _layer_backward(real):
    def job(given, team):
        never_inline()
        words = pointer(given, int64)
        gradients, tape = struct_at(Gradients, words[0], real), struct_at(Tape, words[1], real)
        layer_backward(gradients, tape, words[5], words[2], real, words[3] != 0, team)

    return _job(job, "layer_backward", real)


def _lstm_forward(real, run_chunk):
    def job(given, team):
        never_inline()
        words = pointer(given, int64)
        call = struct_at(Call, words[0], real)
        arrays = Arrays(
            pointer(words[1], real),
            words[2] != 0,
            pointer(words[2], int64),
            words[3] != 0,
            pointer(words[3], uint8),
            words[4] != 0,
            pointer(words[4], int64),
            pointer(words[5], int64),
            pointer(words[6], real),
            pointer(words[7], real),
            pointer(words[8], real),
            pointer(words[9], real),
        )
        lstm_forward(real, call, arrays, words[12], words[10], words[11], run_chunk, team)

    return _job(job, run_chunk.py_func.__name__, real)


@spliced
def in_frame(body, real, arguments):
    callers = enter_kernel()
    body(real, *arguments)
    leave_kernel(callers)


def _layer_frame(real):
    def kernel(layer, T, B, x, x_step, x_row, lengths, reverse, h, c, out, out_step, out_row, work):
        arrays = (x, x_step, x_row, lengths, reverse, h, c, out, out_step, out_row, work)
        in_frame(_layer_forward, real, (layer, T, B, *arrays))

    return kernel


@spliced
def in_job_frame(job, words, board, threads, shares):
    callers = enter_kernel()
    run_job(board, threads, shares, address_of(job), words_of(words))
    leave_kernel(callers)


def _training_frame(job):
    """of: a layer for layer_record, gradients for layer_backward, which has a plan. `work` is for so many threads."""

    def kernel(of, tape, plan, work, by_units, board, threads, shares):
        in_job_frame(job, (of, tape, work, by_units, threads, plan), board, threads, shares)

    return kernel


def _lstm_frame(job):
    """call: a structs.Call. Then csrc/lstmkernel.h's arguments with lk_task's read and write; then forward.py's."""

    def kernel(call, x, lengths, reset, read, write, h, c, out, between, work, work_size, rounds, board, threads):
        arrays = (call, x, lengths, reset, read, write, h, c, out, between, work, work_size, rounds)
        in_job_frame(job, arrays, board, threads, threads)

    return kernel


#: For each kernel, its frame for a dtype.
FRAMES = {
    "activation": lambda real: lambda kind, N, x, y: in_frame(_activation, real, (kind, N, x, y)),
    "gate_matmul": lambda real: (
        lambda layer, N, x, x_row, z, work: in_frame(_gate_matmul, real, (layer, N, x, x_row, z, work))
    ),
    "cell_update": lambda real: lambda N, H, z, c, h: in_frame(_cell_update, real, (N, H, z, c, h)),
    "dense_forward": lambda real: (
        lambda dense, N, x, x_row, y, y_row: in_frame(_dense_forward, real, (dense, N, x, x_row, y, y_row))
    ),
    "layer_forward": _layer_frame,
    "layer_record": lambda real: _training_frame(_layer_record(real)),
    "layer_backward": lambda real: _training_frame(_layer_backward(real)),
    "lstm_forward": lambda real: _lstm_frame(_lstm_forward(real, run_chunk)),
    "variant_forward": lambda real: _lstm_frame(_lstm_forward(real, run_variant_chunk)),  # of layers with variants
    # Of layers with 8-bit weights, by the bits of an activation.
    "i8a16_forward": lambda real: _lstm_frame(_lstm_forward(real, integer_chunk(int16))),
    "i8a8_forward": lambda real: _lstm_frame(_lstm_forward(real, integer_chunk(int8))),
}


class Kernels:
    """The kernels of one dtype, a Numba type: an attribute for each name in FRAMES."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Kernel:
        if name not in FRAMES:
            raise AttributeError(name)
        kernel = self._compile(name, FRAMES[name](self._real))
        setattr(self, name, kernel)
        return kernel

    @cache  # noqa: B019 - there are two of this class, for good
    def row_forward(self, I: int, H: int) -> Kernel:
        """one_row.py, for layers of those sizes: the address of one, T; x, x_step, h, c, out, out_step and work."""
        real, body = self._real, one_row.kernel_of(I, H, self._real.bitwidth // 8)

        def kernel(layer, T, x, x_step, h, c, out, out_step, work):
            in_frame(body, real, (layer, T, x, x_step, h, c, out, out_step, work))

        return self._compile(f"row_forward_{I}_{H}", kernel)

    def _compile(self, name: str, kernel: Any) -> Kernel:
        # Code of two dtypes from two processes' caches must not share a name.
        return compiled(f"{name}-{self._real}", kernel, f"{name} for {self._real}")
