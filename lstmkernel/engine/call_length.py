"""How much work one kernel call may take: kernels cannot hear Ctrl-C, so long work is cut into calls.

This module needs the longest time that work can take. Whether a second thread pays depends on the usual time; the
kernels decide that themselves (csrc/run/cost.h).
"""

from __future__ import annotations

from typing import NamedTuple

from lstmkernel.backends.contract import Backend
from lstmkernel.engine.parameters import LSTMShape

#: A kernel call takes at most about this long, so that Ctrl-C is heard within half a second on a busy machine, too.
CALL_SECONDS = 0.2

#: So many rows take a step in about the time of one row.
FULL_ROWS = 8

#: A layer's step of one row takes time beside its matrix products: this many floating-point operations stand for it.
#: They keep the calls of tiny layers short, too.
STEP_FLOPS = 1_000

#: The backward pass of a step takes this many times the forward pass.
BACKWARD = 2

#: Upper bounds of the seconds that softmax takes for a row, and for each number in it.
SOFTMAX_SECONDS = 1e-7, 4e-9


def call_flops(backend: Backend, rows: int, itemsize: int) -> int:
    """Floating-point operations of one call on one thread, which may be all that a call gets.

    Fewer rows than FULL_ROWS take as long as these: the kernels wait for weights.
    """
    return int(CALL_SECONDS * backend.min_gflops * 1e9 * min(rows, FULL_ROWS) / FULL_ROWS * 4 / itemsize)


def lstm_step_flops(shape: LSTMShape) -> int:
    """Floating-point operations of a step of one row through all layers and directions; each counts as the widest."""
    width = max(shape.input_size, shape.directions * shape.output_size) + shape.output_size
    return shape.num_layers * shape.directions * (8 * shape.hidden_size * width + STEP_FLOPS)


def lstm_rows(shape: LSTMShape, backend: Backend, B: int, itemsize: int) -> int:
    """How many rows times steps, of B rows, one call of an LSTM may take."""
    return call_flops(backend, B, itemsize) // lstm_step_flops(shape)


def training_rows(shape: LSTMShape, backend: Backend, B: int, itemsize: int) -> int:
    """How many rows times steps, of B rows, one call of a layer's training kernels may take, in one direction."""
    layer_flops = lstm_step_flops(shape) // (shape.num_layers * shape.directions)
    return call_flops(backend, B, itemsize) // (BACKWARD * layer_flops)


def dense_rows(in_features: int, out_features: int, softmax: bool, backend: Backend, rows: int, itemsize: int) -> int:
    """How many of ``rows`` rows one call of a dense layer may take."""
    most = call_flops(backend, rows, itemsize) // (2 * in_features * out_features)
    if softmax:
        of_row, of_number = SOFTMAX_SECONDS
        most = min(most, int(CALL_SECONDS / (of_row + of_number * out_features)))
    return max(most, FULL_ROWS)


class Cut(NamedTuple):
    """How much one kernel call takes of work that is cut into several."""

    rows: int
    steps: int

    @classmethod
    def of(cls, B: int, call_rows: int) -> Cut:
        """Of steps of B rows. call_rows: rows times steps of a call."""
        rows = max(1, min(B, max(FULL_ROWS, call_rows)))
        return cls(rows, max(1, call_rows // rows))
