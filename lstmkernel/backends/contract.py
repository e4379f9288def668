"""The kernel contract: what every backend provides, under the same names, with the same arguments in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

from lstmkernel.backends.packing import Array, DenseWeights, Int8Matrix, LayerVariant, LayerWeights, LSTMWeights
from lstmkernel.backends.tape import LayerGradients, LayerTape, Parameters, RowsOfTape

#: Every kernel of the contract, by the name of its field in Backend.
KERNELS = (
    "activation",
    "gate_matmul",
    "cell_update",
    "dense_forward",
    "layer_forward",
    "layer_record",
    "layer_backward",
)

#: What a dense layer may apply to each number, in the order of csrc/lstmkernel.h's enum.
ACTIVATIONS = ("linear", "tanh", "sigmoid", "relu")

#: What a variant of the cell may apply, in the order of the same enum, and the defaults of the alpha and beta it takes.
VARIANT_ACTIVATIONS: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(ACTIVATIONS, ()),
    "affine": (1.0, 0.0),
    "scaled_tanh": (1.0, 1.0),
    "hard_sigmoid": (0.2, 0.5),
    "leaky_relu": (0.01,),
    "thresholded_relu": (1.0,),
    "elu": (1.0,),
    "softsign": (),
    "softplus": (),
}

#: What a dense layer may apply, and the number of it in the same enum. Softmax takes a whole row.
DENSE_ACTIVATIONS = {
    **{name: number for number, name in enumerate(ACTIVATIONS)},
    "softmax": len(VARIANT_ACTIVATIONS),
}


class BackendError(RuntimeError):
    """A known backend that this machine or this installation cannot run; the message says why."""


class PackLayer(Protocol):
    def __call__(
        self,
        w_ih: Array,
        w_hh: Array,
        bias: Array,
        w_hr: Array | None,
        variant: LayerVariant | None = None,
        /,
    ) -> LayerWeights:
        """One direction of one layer from w_ih (4H, I), w_hh (4H, R), bias (4H,) and w_hr (P, H)."""


class PackInt8Layer(Protocol):
    def __call__(self, w_ih: Int8Matrix, w_hh: Int8Matrix, bias: Array, w_hr: Int8Matrix | None, /) -> LayerWeights:
        """The same for 8-bit weights of a plain LSTM; bias is float32."""


class PackLSTM(Protocol):
    def __call__(self, layers: list[list[LayerWeights]], reverse: bool = False, /) -> LSTMWeights:
        """All layers, by layer and direction. reverse: the one direction runs from each row's end to its start."""


class ActivationKernel(Protocol):
    def __call__(self, name: str, x: Array, y: Array, /) -> None:
        """y (N,) = activation(x (N,)), contiguous."""


class GateMatmulKernel(Protocol):
    def __call__(self, x: Array, weights: LayerWeights, z: Array, /) -> None:
        """z [N, blocks, 4, lanes] = x (N, I) W_ih^T + bias, x contiguous."""


class CellUpdateKernel(Protocol):
    def __call__(self, z: Array, c: Array, h: Array, /) -> None:
        """The cell's four moves on z [N, blocks, 4, lanes]: c (N, H) in place, h (N, H) written."""


class DenseForwardKernel(Protocol):
    def __call__(self, x: Array, weights: DenseWeights, y: Array, /) -> None:
        """y (N, O) = activation(x (N, K) W^T + bias), contiguous."""


class LayerForwardKernel(Protocol):
    def __call__(
        self,
        x: Array,
        weights: LayerWeights,
        lengths: Array | None,
        reverse: bool,
        h: Array,
        c: Array,
        out: Array,
        /,
    ) -> None:
        """One direction of one layer over time.

        x (T, B, I) and out (T, B, R): any strides along T and B, contiguous along the last axis. lengths (B,) int64 or
        None. h (B, R) and c (B, H), contiguous, hold the first states and receive the last ones.
        """


class LayerRecordKernel(Protocol):
    def __call__(self, tape: LayerTape, weights: LayerWeights, threads: int, /) -> None:
        """layer_forward with the same bits; it also keeps everything that layer_backward needs.

        It reads x, lengths, h_0 and c[0] of ``tape`` and, if the tape does not begin with step 0, h of the step before.
        It writes h, the gates and the rest of c, for rows that take the step.
        """


class LayerBackwardKernel(Protocol):
    def __call__(
        self, tapes: Iterable[RowsOfTape], parameters: Parameters, gradients: LayerGradients, threads: int, /
    ) -> None:
        """The backward pass through one tape after the other, each from its last step to its first.

        The tapes go back in time: one of all rows that begins with step 0 is the last one. Each is of some rows of
        ``gradients``. Writes all of ``gradients``.
        """


class Batch(NamedTuple):
    """The arrays of one ``lstm_forward``: rows that run through time together."""

    x: Array  # (T, B, I), any strides along T and B
    lengths: Array | None  # (B,) int64: the steps of each row; None: T each
    reset: Array | None  # (D, T, B) bool, contiguous: where a row's states become 0 before that direction's step
    h: Array  # (L*D, B, R), contiguous rows: the first states, then the last ones
    c: Array  # (L*D, B, H), likewise
    out: Array  # (T, B, D*R), any strides along T and B

    def rows(self, rows: slice) -> Batch:
        """Those rows alone."""
        lengths = None if self.lengths is None else self.lengths[rows]
        reset = None if self.reset is None else np.ascontiguousarray(self.reset[:, :, rows])
        return Batch(self.x[:, rows], lengths, reset, self.h[:, rows], self.c[:, rows], self.out[:, rows])

    def chunk(self, times: slice) -> Batch:
        """Those time steps alone."""
        reset = None if self.reset is None else np.ascontiguousarray(self.reset[:, times])
        return self._replace(x=self.x[times], lengths=within(self.lengths, times), reset=reset, out=self.out[times])


def within(lengths: Array | None, times: slice) -> Array | None:
    """How many of each row's steps are among those times."""
    return None if lengths is None else np.clip(lengths - times.start, 0, times.stop - times.start)


class LSTMForwardKernel(Protocol):
    def __call__(self, weights: LSTMWeights, batch: Batch, threads: int, times: slice | None = None, /) -> None:
        """All layers over time, on at most ``threads`` threads.

        ``times`` None means all of T. Only one layer of two directions may run a part: those times forwards, and as
        many from the end backwards.
        """


class Ragged(NamedTuple):
    """The arrays of one ``lstm_ragged``: rows that begin anywhere in x and, at the same steps, in out."""

    x: Array  # (N, I), contiguous
    begins: Array  # (B,) int64: the step of x at which each row begins
    lengths: Array  # (B,) int64, the longest first
    h: Array  # as in Batch
    c: Array
    out: Array  # (N, D*R), contiguous; nothing else of it is written
    last: bool = False  # out is (B, R): of one layer that runs forwards, the output at each row's last step


class LSTMRaggedKernel(Protocol):
    def __call__(self, weights: LSTMWeights, rows: Ragged, threads: int, /) -> None:
        """As lstm_forward."""


#: A kernel call that was prepared for one shape: of x, h, c and out, all contiguous.
Prepared = Callable[[Array, Array, Array, Array], None]


class PrepareKernel(Protocol):
    def __call__(self, weights: LSTMWeights, T: int, B: int, threads: int, /) -> Prepared:
        """lstm_forward for one T and B, without lengths and reset."""


#: Takes x (T, B, I) and out (T, B, R), both contiguous and as ``Backend.address`` gives them. Returns nonzero, and has
#: done nothing, if they overlap.
Advance = Callable[[Any, Any], int]


class PrepareAdvanceKernel(Protocol):
    def __call__(
        self, weights: LSTMWeights, T: int, h: Array, c: Array, read: Array, write: Array, threads: int, /
    ) -> Advance:
        """T steps of B rows, in one direction.

        h (L, S, R) and c (L, S, H) are the states of S rows, and stay where they are. Row b of the B rows reads its
        first states at read[b] and writes its last states at write[b]. Both are (B,) int64, and all their numbers
        differ. Every call looks at them anew.
        """


class Backend(NamedTuple):
    """The kernels of one backend and, for C, one instruction set."""

    name: str  # "numpy", "numba", "c:avx2", ...
    min_gflops: float  # a lower bound on any CPU, in float32 with 8 rows or more; it bounds a call's duration
    pack_layer: PackLayer
    pack_lstm: PackLSTM
    pack_dense: Callable[[Array, Array, str], DenseWeights]  # of weight, bias, activation
    activation: ActivationKernel
    gate_matmul: GateMatmulKernel
    cell_update: CellUpdateKernel
    dense_forward: DenseForwardKernel
    layer_forward: LayerForwardKernel
    layer_record: LayerRecordKernel
    layer_backward: LayerBackwardKernel
    lstm_forward: LSTMForwardKernel
    prepare: PrepareKernel
    prepare_advance: PrepareAdvanceKernel
    address: Callable[[Array], Any]
    lstm_ragged: LSTMRaggedKernel | None = None  # None: lstm_forward, on copies of the rows
    takes_float16: bool = False  # whether pack_layer takes float16 weights beside a float32 bias
    pack_int8_layer: PackInt8Layer | None = None  # None: no kernels for 8-bit weights
