"""LSTMCell: one step of one layer, for loops that PyTorch users write by hand."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments, calibration_data, parameters
from lstmkernel.engine.fixed_attributes import FixedAttributes
from lstmkernel.engine.precision import SCALE
from lstmkernel.lstm import LSTM

if TYPE_CHECKING:
    from lstmkernel.certificate import Certificate
    from lstmkernel.plan import Plan


class LSTMCell(FixedAttributes):
    """One step of one layer, as ``torch.nn.LSTMCell``: ``h, c = cell(x, (h, c))``.

    Arguments as for LSTM. Parameters are named as PyTorch's cell names them, without ``_l0``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        dtype: DTypeLike = "float32",
        backend: str = "auto",
        seed: int | None = None,
    ) -> None:
        self._lstm = LSTM(input_size, hidden_size, bias=bias, dtype=dtype, backend=backend, seed=seed)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], mapping: Mapping[str, Any]) -> LSTMCell:
        """The cell of a ``config()`` and a ``state_dict()``. No initial weights are drawn."""
        one_layer = {"num_layers": 1, "bidirectional": False, "proj_size": 0, "batch_first": False, "num_threads": None}
        self = cls.__new__(cls)
        self._lstm = LSTM.from_config({**config, **one_layer}, {_of_layer(name): mapping[name] for name in mapping})
        return self

    @property
    def input_size(self) -> int:
        """I: how many numbers x has."""
        return self._lstm.input_size

    @property
    def in_features(self) -> int:
        """As ``input_size``: what a Dense calls it."""
        return self._lstm.input_size

    @property
    def hidden_size(self) -> int:
        """H: how many units the cell has."""
        return self._lstm.hidden_size

    @property
    def bias(self) -> bool:
        """Whether the cell has bias_ih and bias_hh."""
        return self._lstm.bias

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._lstm.dtype

    @property
    def backend(self) -> str:
        """The backend that runs, for example "c:avx2"."""
        return self._lstm.backend

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape."""
        return {name.removesuffix("_l0"): shape for name, shape in self._lstm.parameter_shapes().items()}

    def state_dict(self) -> dict[str, Array]:
        """``weight_ih`` (4H, I), ``weight_hh`` (4H, H) and, with bias, ``bias_ih`` and ``bias_hh`` (4H,), read-only."""
        return {name.removesuffix("_l0"): value for name, value in self._lstm.state_dict().items()}

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Replace the parameters; errors as ``LSTM.load_state_dict``."""
        mapping = parameters.checked(mapping, self.parameter_shapes(), self._lstm.dtype)
        self._lstm.load_state_dict({f"{name}_l0": value for name, value in mapping.items()})

    def __call__(self, x: ArrayLike, state: tuple[ArrayLike, ArrayLike] | None = None) -> tuple[Array, Array]:
        """One step: x (B, I) or (I,), state (h, c) each (B, H) or (H,), None for zeros. Returns the next (h, c)."""
        dtype, I, H = self._lstm.dtype, self.input_size, self.hidden_size
        x = arguments.real("x", x, dtype)
        if x.ndim not in (1, 2) or x.shape[-1] != I:
            raise ValueError(f"x: expected shape (B, I) or (I,) with I = {I}, got {x.shape}")
        if state is not None:
            rows, meaning = x.shape[:-1], "(B, H)" if x.ndim == 2 else "(H,)"
            h, c = (arguments.real("state", part, dtype) for part in arguments.pair("state", state, "(h, c)"))
            arguments.shape("h", h, (*rows, H), meaning)
            arguments.shape("c", c, (*rows, H), meaning)
            state = h[None], c[None]
        _, (h_n, c_n) = self._lstm(x[None], state)
        return h_n[0], c_n[0]

    @property
    def precision(self) -> str:
        """What the weights are rounded to: "float16" or "int8" after ``quantize``, else the dtype's name."""
        return self._lstm.precision

    @property
    def activations(self) -> str:
        """What the weights are multiplied by; see ``LSTM.activations``."""
        return self._lstm.activations

    def quantize(
        self,
        precision: str | None = None,
        activations: str | None = None,
        calibrate: Any = None,
        *,
        weights: str | None = None,
        max_error: float | None = None,
    ) -> LSTMCell:
        """The same cell with weights of fewer bits, which never change; see ``LSTM.quantize``.

        calibrate: (T, B, I), over which the cell runs step by step from zeros, or a list or an iterator of such arrays.
        Rows (B, I) are refused: one step from zeros does not use weight_hh.
        """
        try:
            data = calibration_data.of_steps(calibrate)
            more: dict[str, Any] = {"weights": weights, "max_error": max_error}
            return self._with(self._lstm.quantize(precision, activations, data, **more))
        except ValueError as error:
            raise ValueError(str(error).replace("_l0:", ":", 1)) from None

    @property
    def certificate(self) -> Certificate | None:
        """How far the cell was measured to be off the float64 one; see ``LSTM.certificate``."""
        return self._lstm.certificate

    @property
    def plan(self) -> Plan | None:
        """What ``compile`` measured and chose; None for a cell that ``compile`` did not make."""
        return self._lstm.plan

    def compile(self, batch_size: SupportsIndex = 1) -> LSTMCell:
        """The same cell on the kernels that are fastest for ``batch_size`` rows; see ``LSTM.compile``."""
        return self._with(self._lstm.compile(batch_size, 1))

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, without the seed, and ``precision``, where ``quantize`` has made the cell."""
        config = self._lstm.config()
        names = ("input_size", "hidden_size", "bias", "dtype", "precision", "activations", "certificate", "backend")
        return {name: config[name] for name in names if name in config}

    def __copy__(self) -> LSTMCell:
        """Another cell with the same packed weights, which never change."""
        return self._with(copy(self._lstm))

    def _with(self, lstm: LSTM) -> LSTMCell:
        other = type(self).__new__(type(self))
        vars(other).update(vars(self), _lstm=lstm)
        return other

    def stored(self) -> dict[str, Array]:
        """For ``from_config``: ``state_dict()``, but weights of fewer bits in those bits. Read-only."""
        return {name.replace("_l0", ""): value for name, value in self._lstm.stored().items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_config, (self.config(), self.stored())

    def __repr__(self) -> str:
        bias = "" if self.bias else ", bias=False"
        sizes = f"{self.input_size}, {self.hidden_size}{bias}"
        quantized = f".quantize({self._lstm.engine.precisions[0]})" if self._lstm.engine.is_quantized else ""
        return f"LSTMCell({sizes}, dtype={self.dtype.name!r}, backend={self.backend!r}){quantized}"


def _of_layer(name: str) -> str:
    """The name that an LSTM has for a cell's parameter."""
    return f"{name.removesuffix(SCALE)}_l0{SCALE}" if name.endswith(SCALE) else f"{name}_l0"
