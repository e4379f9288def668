"""Weights of fewer bits, as NumPy defines them.

"float16": a weight is what ``astype(np.float16)`` makes of a float32 one. float32 has every number that float16 has, so
such a network gives the bits of a float32 network with the rounded weights.

"int8": a weight is an integer from -127 to 127 times the scale of its row of the matrix, and the kernels multiply it by
activations that are integers, too (backends/numpy/int8.py). The scale is kept beside the matrix, as weight_ih_l0_scale.

Only the matrices are rounded: weight_ih, weight_hh and weight_hr. Biases and learned states stay float32, and so do
states and the cell. Each layer of a network has a precision of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.large import fill
from lstmkernel.backends.packing import Array, Int8Matrix

FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"

#: What ``quantize`` makes.
PRECISIONS = (FLOAT16, INT8)

#: The largest activation of each kind.
LEVELS = {"int16": 32767, "int8": 127}

#: The largest 8-bit weight.
MOST_INT8 = 127

#: Behind the name of an 8-bit matrix: its scale.
SCALE = "_scale"

#: A matrix of a layer, or its scale.
_MATRIX = re.compile(r"weight_(?:ih|hh|hr)_l([0-9]{1,6})(?:_reverse)?(?:_scale)?")

_LARGEST = float(np.finfo(np.float16).max)

#: A scale must be a normal number after it was divided by the most levels: kernels flush others to 0.
_LEAST_SCALE = np.finfo(np.float32).tiny * 32767

#: A larger scale would make infinite weights.
_MOST_SCALE = np.finfo(np.float32).max / MOST_INT8


class Precision(NamedTuple):
    """What the weights of a network are, and what its kernels multiply them by."""

    weights: str
    activations: str

    @property
    def is_int8(self) -> bool:
        return self.weights == INT8

    @property
    def levels(self) -> int:
        """The largest activation of 8-bit weights."""
        return LEVELS[self.activations]

    def __str__(self) -> str:
        """As the arguments of ``quantize``."""
        return f"{self.weights!r}, activations={self.activations!r}" if self.is_int8 else repr(self.weights)


#: Of each layer, the lowest one first.
Precisions = tuple[Precision, ...]


def plain(dtype: np.dtype[Any]) -> Precision:
    """That of a layer which is not quantized."""
    return Precision(dtype.name, dtype.name)


#: Of a float32 layer.
PLAIN = plain(np.dtype(np.float32))


def checked(weights: Any, activations: Any = None) -> Precision:
    """The precision, or an error that names those that there are."""
    if not isinstance(weights, str):
        raise TypeError(f"precision: expected {_one_of(PRECISIONS)}, got {type(weights).__name__}")
    if weights not in PRECISIONS:
        raise ValueError(f"precision: expected {_one_of(PRECISIONS)}, got {weights[:100]!r}")
    if weights == FLOAT16:
        if activations is not None:
            raise ValueError(
                f"activations: expected None with 'float16', which keeps them float32, got {activations!r}"
            )
        return Precision(FLOAT16, FLOAT32)
    activations = "int16" if activations is None else activations
    if not isinstance(activations, str) or activations not in LEVELS:
        raise ValueError(f"activations: expected {_one_of(LEVELS)} with 'int8', got {activations!r}")
    return Precision(INT8, activations)


def _one_of(names: Any) -> str:
    return " or ".join(map(repr, names))


# ---------------------------------------------------------------- of several layers


def distinct(names: Iterable[str]) -> str:
    """What layers have, joined by commas where they differ."""
    return ", ".join(dict.fromkeys(names))


def in_words(precisions: Precisions) -> str:
    """As the arguments of ``quantize``; layer by layer where they differ."""
    if len(set(precisions)) == 1:
        return str(precisions[0])
    return f"by layer: {'; '.join(map(str, precisions))}"


def config(precisions: Precisions) -> dict[str, Any]:
    """For ``from_config``: "precision" and, where there are 8-bit weights, "activations".

    Each is a string, or a list with an entry for each layer where layers differ: None for activations without 8-bit
    weights.
    """
    known: dict[str, list[Any]] = {"precision": [each.weights for each in precisions]}
    if any(each.is_int8 for each in precisions):
        known["activations"] = [each.activations if each.is_int8 else None for each in precisions]
    return {name: values[0] if len(set(values)) == 1 else values for name, values in known.items()}


def of_config(weights: Any, activations: Any, num_layers: int) -> Precisions:
    """What ``config`` has said, checked. Raises ValueError and TypeError."""
    if not isinstance(weights, list | tuple) and not isinstance(activations, list | tuple):
        return (checked(weights, activations),) * num_layers
    columns = []
    for name, given in (("precision", weights), ("activations", activations)):
        column = given if isinstance(given, list | tuple) else [given] * num_layers
        if len(column) != num_layers:
            raise ValueError(f"{name}: expected one, or a list of {num_layers}, one for each layer, got {len(column)}")
        columns.append(column)
    found = []
    for weight, activation in zip(*columns, strict=True):
        is_plain = isinstance(weight, str) and weight == FLOAT32 and activation is None
        found.append(PLAIN if is_plain else checked(weight, activation))
    return tuple(found)


def _of(name: str, precisions: Precisions) -> Precision:
    """That of a parameter: PLAIN for all but the matrices of quantized layers."""
    match = _MATRIX.fullmatch(name)
    layer = int(match[1]) if match else len(precisions)
    return precisions[layer] if layer < len(precisions) else PLAIN


def require_float32(dtype: np.dtype[Any], purpose: str, way_out: str) -> None:
    """Raises ValueError for the dtype of a network that cannot have fewer bits."""
    if dtype != np.float32:
        raise ValueError(f"dtype: expected a float32 network, {purpose}, got {dtype.name}; {way_out}")


# ---------------------------------------------------------------- from numbers


def rounded(parameters: Mapping[str, Array], precisions: Precisions) -> dict[str, Array]:
    """The same parameters with narrow matrices, read-only; of int8, each with its scale.

    ValueError names a weight that its layer's precision cannot hold.
    """
    narrow: dict[str, Array] = {}
    for name, value in parameters.items():
        precision = _of(name, precisions)
        if precision.is_int8:
            narrow |= integers(name, value)
        else:
            narrow[name] = _round(name, value) if precision.weights == FLOAT16 else value
    return narrow


def integers(name: str, weight: Array) -> dict[str, Array]:
    """The integers of a float32 matrix and, behind its name, its scale: the largest of a row is 127."""
    if not np.isfinite(weight).all():
        place = tuple(map(int, np.argwhere(~np.isfinite(weight))[0]))
        raise ValueError(
            f"{name}: expected finite numbers, got {weight[place]:g} at {list(place)}; keep this network in float32"
        )
    scale = scale_of(weight)
    values = (weight / np.where(scale > 0, scale, 1)[:, None]).round().astype(np.int8)
    return frozen({name: values, name + SCALE: scale})


def scale_of(weight: Array) -> Array:
    """The scale of each row (rows,) of a float32 matrix. A row of numbers below 5e-32 has 0, and counts as zeros."""
    scale: Array = np.abs(weight).max(axis=1, initial=0) / np.float32(MOST_INT8)
    scale[scale < _LEAST_SCALE] = 0
    return scale


def frozen(named: dict[str, Array]) -> dict[str, Array]:
    """The same arrays, read-only from now on."""
    for value in named.values():
        value.flags.writeable = False
    return named


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


# ---------------------------------------------------------------- from what was quantized before


def halves(parameters: Mapping[str, Array], precisions: Precisions) -> dict[str, Array]:
    """The parameters with float16 matrices where the precision says so. ValueError if that changes a number."""
    narrow = dict(parameters)
    for name, value in parameters.items():
        if _of(name, precisions).weights != FLOAT16:
            continue
        narrow[name] = _round(name, value)
        if not np.array_equal(narrow[name], value):
            raise ValueError(
                f"{name}: expected numbers that float16 has, for precision='float16', got others; leave the precision "
                "out, then quantize('float16') rounds them"
            )
    return narrow


def checked_int8(mapping: Mapping[str, Any], precisions: Precisions) -> dict[str, Array]:
    """The 8-bit matrices of a mapping and their scales, as read-only copies; the first one that is wrong, by name."""
    found: dict[str, Array] = {}
    names = [name for name in mapping if not name.endswith(SCALE) and _of(name, precisions).is_int8]
    for name in names:
        if name + SCALE not in mapping:
            raise ValueError(
                f"{name}: expected {name + SCALE} beside it, for precision='int8'; leave the precision out if its "
                "weights are numbers, then quantize('int8') rounds them"
            )
        values, scale = np.array(mapping[name]), np.array(mapping[name + SCALE])
        if values.dtype != np.int8 or values.ndim != 2 or values.min(initial=0) < -MOST_INT8:
            got = "-128" if values.dtype == np.int8 and values.ndim == 2 else f"{values.dtype} {values.shape}"
            raise ValueError(f"{name}: expected a matrix of int8 numbers from -127 to 127, got {got}")
        if scale.dtype != np.float32 or scale.shape != values.shape[:1]:
            raise ValueError(
                f"{name + SCALE}: expected float32 {values.shape[:1]}, one for each row of {name}, got {scale.dtype} "
                f"{scale.shape}"
            )
        if not ((scale >= 0) & (scale <= _MOST_SCALE)).all():
            raise ValueError(f"{name + SCALE}: expected numbers from 0 to {_MOST_SCALE:g}, got others")
        scale[scale < _LEAST_SCALE] = 0
        found |= {name: values, name + SCALE: scale}
    return frozen(found)


# ---------------------------------------------------------------- to numbers, and to kernels


def widened(parameters: Mapping[str, Array], dtype: np.dtype[Any]) -> dict[str, Array]:
    """The same parameters with matrices of ``dtype``, read-only. float16 numbers are exact; int8 times scale rounds."""
    wide: dict[str, Array] = {}
    for name, value in parameters.items():
        if value.dtype == np.int8:
            wide |= frozen({name: (value * parameters[name + SCALE][:, None]).astype(dtype)})
        elif not name.endswith(SCALE):
            wide[name] = _widen(value, dtype) if value.dtype == np.float16 else value
    return wide


def without_float16(parameters: Mapping[str, Array]) -> dict[str, Array]:
    """The same parameters with float32 matrices in place of float16 ones."""
    wide = np.dtype(np.float32)
    return {name: _widen(value, wide) if value.dtype == np.float16 else value for name, value in parameters.items()}


def _widen(value: Array, dtype: np.dtype[Any]) -> Array:
    wide = np.empty(value.shape, dtype)
    fill(wide, value)
    wide.flags.writeable = False
    return wide


def matrix(parameters: Mapping[str, Array], name: str, precision: Precision) -> Int8Matrix:
    """A matrix of 8-bit weights as a backend packs it."""
    return Int8Matrix(parameters[name], parameters[name + SCALE], precision.levels)
