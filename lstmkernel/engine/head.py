"""One dense layer, packed for one backend. Everything that runs a Dense holds one; it never changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.contract import Backend
from lstmkernel.backends.large import slices
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments, call_length


class Head:
    """y = activation(x W^T + b). parameters: ``weight`` (O, K) and perhaps ``bias`` (O,), checked, of ``dtype``."""

    def __init__(
        self, parameters: Mapping[str, Array], activation: str, dtype: np.dtype[Any], backend: Backend
    ) -> None:
        self.parameters, self.activation, self.dtype, self.backend = parameters, activation, dtype, backend
        weight = parameters["weight"]
        self.out_features, self.input_size = int(weight.shape[0]), int(weight.shape[1])
        bias = parameters["bias"] if "bias" in parameters else np.zeros(self.out_features, dtype)
        self._weights = backend.pack_dense(weight, bias, activation)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What layers that differ only in their numbers have in common."""
        return (self.activation, self.dtype, *(value.shape for value in self.parameters.values()))

    def state_dict(self) -> dict[str, Array]:
        """Every parameter, in the dtype."""
        return dict(self.parameters)

    def with_parameters(self, parameters: Mapping[str, Array]) -> Head:
        """Another layer of the same shape."""
        return Head(parameters, self.activation, self.dtype, self.backend)

    def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:
        """x (..., K) -> y (..., O), in kernel calls that are short enough for Ctrl-C.

        out: where to write y, if it is given: contiguous, of the right shape and dtype; it is not checked.
        """
        array = arguments.real("x", x, self.dtype)
        if array.ndim == 0 or array.shape[-1] != self.input_size:
            raise ValueError(f"x: expected shape (..., {self.input_size}), got {array.shape}")
        rows = np.ascontiguousarray(array).reshape(-1, self.input_size)
        if out is None:
            out = np.empty((*array.shape[:-1], self.out_features), self.dtype)
        y = out.reshape(-1, self.out_features)
        for part in slices(len(rows), self.call_rows(len(rows))):
            self.run(rows[part], y[part])
        return out

    def run(self, x: Array, y: Array) -> None:
        """Without checks: x (N, K) and y (N, O), contiguous and of the right dtype."""
        self.backend.dense_forward(x, self._weights, y)

    def call_rows(self, rows: int) -> int:
        """How many of ``rows`` rows one kernel call may take."""
        sizes = self.input_size, self.out_features, self.activation == "softmax"
        return call_length.dense_rows(*sizes, self.backend, rows, self.dtype.itemsize)
