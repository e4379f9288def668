"""Weights of fewer bits. NumPy defines them: a float16 weight is what ``astype(np.float16)`` makes of a float32 one.

Only the matrices are rounded: weight_ih, weight_hh and weight_hr. Biases, peepholes and learned states stay float32,
and so do all sums and states. float32 has every number that float16 has, so such a network gives the bits of a float32
network with the rounded weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmkernel.backends.large import fill
from lstmkernel.backends.packing import Array

FLOAT32, FLOAT16 = "float32", "float16"

#: What ``quantize`` makes.
PRECISIONS = (FLOAT16,)

_MATRICES = ("weight_ih", "weight_hh", "weight_hr")

_LARGEST = float(np.finfo(np.float16).max)


def checked(precision: Any) -> str:
    """The precision, or an error that names those that there are."""
    if not isinstance(precision, str):
        raise TypeError(f"precision: expected {_known()}, got {type(precision).__name__}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected {_known()}, got {precision[:100]!r}")
    return precision


def _known() -> str:
    return " or ".join(map(repr, PRECISIONS))


def require_float32(dtype: np.dtype[Any], purpose: str, way_out: str) -> None:
    """Raises ValueError for the dtype of a network that cannot have fewer bits."""
    if dtype != np.float32:
        raise ValueError(f"dtype: expected a float32 network, {purpose}, got {dtype.name}; {way_out}")


def rounded(parameters: Mapping[str, Array]) -> dict[str, Array]:
    """The same parameters with float16 matrices, read-only. ValueError names a weight that float16 cannot hold."""
    return {name: _round(name, value) if name.startswith(_MATRICES) else value for name, value in parameters.items()}


def _round(name: str, value: Array) -> Array:
    if value.dtype == np.float16:
        return value
    narrow = np.empty(value.shape, np.float16)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        fill(narrow, value)
    if not np.isfinite(narrow).all():
        place = tuple(map(int, np.argwhere(~np.isfinite(narrow))[0]))
        raise ValueError(
            f"{name}: expected numbers of at most {_LARGEST:g}, float16's largest, got {value[place]:g} at "
            f"{list(place)}; keep this network in float32"
        )
    narrow.flags.writeable = False
    return narrow


def require_rounded(parameters: Mapping[str, Array], narrow: Mapping[str, Array]) -> None:
    """Raises ValueError unless ``rounded`` has made ``narrow`` without changing a number."""
    for name, value in parameters.items():
        if not np.array_equal(narrow[name], value):
            raise ValueError(
                f"{name}: expected numbers that float16 has, for precision='float16', got others; leave the precision "
                "out, then quantize('float16') rounds them"
            )


def widened(parameters: Mapping[str, Array], dtype: np.dtype[Any]) -> dict[str, Array]:
    """The same parameters with matrices of ``dtype``, read-only, exactly."""
    return {name: _widen(value, dtype) if value.dtype == np.float16 else value for name, value in parameters.items()}


def _widen(value: Array, dtype: np.dtype[Any]) -> Array:
    wide = np.empty(value.shape, dtype)
    fill(wide, value)
    wide.flags.writeable = False
    return wide
