"""Dense: the head that follows an LSTM, y = activation(x W^T + b)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lstmkernel import backends
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments, parameters
from lstmkernel.engine.call_length import CALL_SECONDS, call_work, spans

#: What the kernels apply to each number by itself, and what is made of a whole row behind them.
ACTIVATIONS = (*backends.ACTIVATIONS, "softmax")

#: Seconds of softmax for a row and for each number in it, of many rows: more than it takes, so that calls stay short.
_SOFTMAX_SECONDS = 1e-7, 4e-9


class Dense:
    """A dense layer, as ``torch.nn.Linear`` followed by an activation.

    Parameters
    ----------
    in_features, out_features
        Widths of the last axis of input and output.
    activation
        "linear", "tanh", "sigmoid", "relu", or "softmax" over the last axis.
    bias, dtype, backend, seed
        As for LSTM; initial weights are U(-1/sqrt(in_features), 1/sqrt(in_features)).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "linear",
        *,
        bias: bool = True,
        dtype: DTypeLike = "float32",
        backend: str = "auto",
        seed: int | None = None,
    ) -> None:
        self._configure(in_features, out_features, activation, bias, dtype, backend)
        bound = 1 / np.sqrt(self.in_features)
        self.load_state_dict(parameters.uniform(self.parameter_shapes(), bound, self.dtype, seed))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], mapping: Mapping[str, Any]) -> Dense:
        """The layer of a ``config()`` and a ``state_dict()``, without drawing initial weights first."""
        self = cls.__new__(cls)
        self._configure(**config)
        self.load_state_dict(mapping)
        return self

    def _configure(
        self, in_features: int, out_features: int, activation: str, bias: bool, dtype: DTypeLike, backend: str
    ) -> None:
        self._in_features = arguments.size("in_features", in_features)
        self._out_features = arguments.size("out_features", out_features)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        self._activation = activation
        self._bias = bool(bias)
        self._dtype = arguments.float_dtype(dtype)
        for name, shape in self.parameter_shapes().items():
            arguments.addressable(name, shape, self.dtype)
        self._asked_backend = backend
        self._backend = backends.get(backend)

    # Kernels trust these, so none of them can be set from outside.

    @property
    def in_features(self) -> int:
        return self._in_features

    @property
    def out_features(self) -> int:
        return self._out_features

    @property
    def activation(self) -> str:
        return self._activation

    @property
    def bias(self) -> bool:
        return self._bias

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def backend(self) -> str:
        """The backend that runs, for example "c:avx2"."""
        return self._backend.name

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape."""
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if self.bias:
            shapes["bias"] = (self.out_features,)
        return shapes

    def state_dict(self) -> dict[str, Array]:
        """``weight`` (O, K) and ``bias`` (O,), read-only."""
        return dict(self._parameters)

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Replace the parameters; errors as ``LSTM.load_state_dict``."""
        new = parameters.checked(mapping, self.parameter_shapes(), self.dtype)
        bias = new["bias"] if self.bias else np.zeros(self.out_features, self.dtype)
        in_kernel = "linear" if self.activation == "softmax" else self.activation
        self._weights = self._backend.pack_dense(new["weight"], bias, in_kernel)
        self._parameters = new

    def __call__(self, x: ArrayLike) -> Array:
        """x (..., in_features) -> y (..., out_features)."""
        array = arguments.real("x", x, self.dtype)
        if array.ndim == 0 or array.shape[-1] != self.in_features:
            raise ValueError(f"x: expected shape (..., {self.in_features}), got {array.shape}")
        rows = np.ascontiguousarray(array).reshape(-1, self.in_features)
        y = np.empty((len(rows), self.out_features), self.dtype)
        for span in spans(len(rows), self._call_rows(len(rows))):
            self._run_rows(rows[span], y[span])
        return y.reshape(*array.shape[:-1], self.out_features)

    def _run_rows(self, x: Array, y: Array) -> None:
        """Without checks: x (N, in_features) and y (N, out_features), contiguous and of the right dtype."""
        self._backend.dense_forward(x, self._weights, y)
        if self.activation == "softmax":
            _softmax(y)

    def _call_rows(self, rows: int) -> int:
        """Of so many rows, those that one call of the kernel may take without being deaf to Ctrl-C for long."""
        work = call_work(self._backend, rows, self.dtype.itemsize)
        most = work // (2 * self.in_features * self.out_features)
        if self.activation == "softmax":
            of_row, of_number = _SOFTMAX_SECONDS
            most = min(most, int(CALL_SECONDS / (of_row + of_number * self.out_features)))
        return most

    def _snapshot(self) -> Dense:
        other = type(self).__new__(type(self))
        other.__dict__ = dict(self.__dict__)
        return other

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, but for the seed."""
        names = ("in_features", "out_features", "activation", "bias")
        config = {name: getattr(self, name) for name in names}
        return {**config, "dtype": self.dtype.name, "backend": self._asked_backend}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_config, (self.config(), self.state_dict())

    def __repr__(self) -> str:
        return f"Dense({self.in_features}, {self.out_features}, {self.activation!r}, backend={self.backend!r})"


def _softmax(y: Array) -> None:
    """exp(y) / sum(exp(y)) of each row of y (N, O), in place.

    In NumPy, on every backend: a row of a head is small beside the LSTM below it (4 us for 5 numbers, 5 for 1000), so a
    kernel would gain little. The largest number is subtracted first, so that exp cannot overflow; a row with NaN or
    +Inf, or of -Inf alone, becomes NaN, as in PyTorch.
    """
    with np.errstate(all="ignore"):
        np.subtract(y, y.max(axis=1, keepdims=True), out=y)
        np.exp(y, out=y)
        np.divide(y, y.sum(axis=1, keepdims=True), out=y)
