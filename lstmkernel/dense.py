"""Dense: the layer behind an LSTM, y = activation(x W^T + b)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lstmkernel import backends
from lstmkernel.backends.contract import DENSE_ACTIVATIONS
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments, head_tape, parameters
from lstmkernel.engine.fixed_attributes import FixedAttributes
from lstmkernel.engine.head import Head
from lstmkernel.engine.head_tape import HeadTape
from lstmkernel.engine.parameters import Shapes


class Dense(FixedAttributes):
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

        def values(shapes: Shapes, dtype: np.dtype[Any]) -> dict[str, Array]:
            return parameters.uniform(shapes, 1 / np.sqrt(shapes["weight"][1]), dtype, seed)

        self._make(values, in_features, out_features, activation, bias, dtype, backend)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], mapping: Mapping[str, Any]) -> Dense:
        """The layer of a ``config()`` and a ``state_dict()``. No initial weights are drawn."""
        self = cls.__new__(cls)
        self._make(partial(parameters.checked, mapping), **config)
        return self

    def _make(
        self,
        values: Callable[[Shapes, np.dtype[Any]], dict[str, Array]],
        in_features: int,
        out_features: int,
        activation: str,
        bias: bool,
        dtype: DTypeLike,
        backend: str,
    ) -> None:
        """Check the arguments and pack the parameters, which ``values`` makes for given shapes in a given dtype."""
        K, O = arguments.size("in_features", in_features), arguments.size("out_features", out_features)
        if not isinstance(activation, str) or activation not in DENSE_ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(DENSE_ACTIVATIONS)}, got {activation!r}")
        found = arguments.float_dtype(dtype)
        shapes: Shapes = {"weight": (O, K)}
        if bias:
            shapes["bias"] = (O,)
        for name, shape in shapes.items():
            arguments.addressable(name, shape, found)
        kernels = backends.get(backend)
        self._asked_backend = backend
        self._engine = Head(values(shapes, found), activation, found, kernels)

    @property
    def engine(self) -> Head:
        """The layer that runs, packed on its backend, with the current parameters. Its interface may change."""
        return self._engine

    @property
    def in_features(self) -> int:
        """K: the width of the input's last axis."""
        return self._engine.input_size

    @property
    def out_features(self) -> int:
        """O: the width of the output's last axis."""
        return self._engine.out_features

    @property
    def activation(self) -> str:
        """The activation's name."""
        return self._engine.activation

    @property
    def bias(self) -> bool:
        """Whether the layer has a bias."""
        return "bias" in self._engine.parameters

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._engine.dtype

    @property
    def backend(self) -> str:
        """The backend that runs, for example "c:avx2"."""
        return self._engine.backend.name

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape."""
        return {name: value.shape for name, value in self._engine.parameters.items()}

    def state_dict(self) -> dict[str, Array]:
        """``weight`` (O, K) and ``bias`` (O,), read-only."""
        return dict(self._engine.parameters)

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Replace the parameters; errors as ``LSTM.load_state_dict``."""
        head = self._engine
        checked = parameters.checked(mapping, self.parameter_shapes(), head.dtype)
        self._engine = head.with_parameters(checked)

    def __call__(self, x: ArrayLike) -> Array:
        """x (..., in_features) -> y (..., out_features)."""
        return self._engine(x)

    def forward(self, x: ArrayLike) -> tuple[Array, HeadTape]:
        """x (..., in_features) -> y as a call gives it, and a tape for ``backward``.

        The tape holds x itself, not a copy: do not change x before ``backward``.
        """
        return head_tape.record(self._engine, x)

    def backward(self, tape: HeadTape, d_y: ArrayLike) -> dict[str, Array]:
        """Gradients of a loss L, from d_y = dL/dy of y's shape.

        Returns "weight" (O, K) and, with a bias, "bias" (O,), each summed over all rows of x, and "x" of x's shape.
        NumPy computes them, so their last bits may depend on the machine. Raises ValueError for a wrong shape, for
        another layer's tape, and if x was written to since ``forward``.
        """
        if not isinstance(tape, HeadTape):
            raise TypeError(f"tape: expected what forward returned, got {type(tape).__name__}")
        if tape.head.kind != self._engine.kind:
            raise ValueError(f"tape: expected one of {self!r}, got {tape!r}")
        return head_tape.backward(tape, d_y)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, without the seed."""
        names = ("in_features", "out_features", "activation", "bias")
        config = {name: getattr(self, name) for name in names}
        return {**config, "dtype": self.dtype.name, "backend": self._asked_backend}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_config, (self.config(), self.state_dict())

    def __copy__(self) -> Dense:
        """Another layer with the same packed weights, which never change."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __repr__(self) -> str:
        bias = "" if self.bias else ", bias=False"
        sizes = f"{self.in_features}, {self.out_features}, {self.activation!r}{bias}"
        return f"Dense({sizes}, dtype={self.dtype.name!r}, backend={self.backend!r})"
