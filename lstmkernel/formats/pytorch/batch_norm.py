"""A BatchNorm in inference: y = x * scale + shift, one factor and one summand for each feature.

So the layer behind it can have it in its weights, since W (x * scale + shift) + b = (W * scale) x + (W shift + b). And
so can a Linear before it. The numbers are computed in float64, and rounded once to the dtype of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.pytorch.modules import Named

Arrays = dict[str, Array]


def folded(arrays: Arrays, before: Sequence[Named], behind: Sequence[Named], dtype: str) -> Arrays:
    """The parameters of a Linear or an LSTM, with the BatchNorms whose output it takes, or which take its output.

    Raises ValueError for other widths, and for numbers that the dtype cannot hold.
    """
    named = {name: value.astype(np.float64) for name, value in arrays.items()}
    for name, norm in reversed(before):
        fold = _into_lstm if "weight_ih_l0" in named else _into_linear_above
        named = fold(named, *_scale_and_shift(name, norm, _width(named, 1)))
    for name, norm in behind:
        named = _into_linear_below(named, *_scale_and_shift(name, norm, _width(named, 0)))
    most = np.finfo(dtype).max
    for name, value in named.items():
        if np.isfinite(arrays.get(name, 0)).all() and not (np.abs(value) <= most).all():
            where = ", ".join(norm.name for norm in (*before, *behind))
            raise ValueError(
                f"{name}: expected numbers that {dtype} can hold once {where} is in them, got {np.abs(value).max():g}"
            )
    return named


def _width(named: Arrays, axis: int) -> int:
    """Of what goes into a layer (axis 1), or comes out of it (0)."""
    return int(named["weight_ih_l0" if "weight_ih_l0" in named else "weight"].shape[axis])


def _scale_and_shift(name: str, norm: Any, width: int) -> tuple[Array, Array]:
    """(width,) each, in float64."""
    mean, variance, weight, bias = (
        None if value is None else np.asarray(value.detach().cpu().double())
        for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    assert mean is not None  # modules.py has refused one without statistics
    assert variance is not None
    if len(mean) != width:
        raise ValueError(f"{name}: expected {width} features, the width of the layer beside it, got {len(mean)}")
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = (1 if weight is None else weight) / np.sqrt(variance + norm.eps)
        shift = (0 if bias is None else bias) - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise ValueError(f"{name}: expected statistics that are finite numbers, got a variance of {variance.min():g}")
    return scale, shift


def _into_linear_above(named: Arrays, scale: Array, shift: Array) -> Arrays:
    weight = named["weight"]
    return {"weight": weight * scale, "bias": weight @ shift + named.get("bias", 0)}


def _into_linear_below(named: Arrays, scale: Array, shift: Array) -> Arrays:
    return {"weight": scale[:, None] * named["weight"], "bias": scale * named.get("bias", 0) + shift}


def _into_lstm(named: Arrays, scale: Array, shift: Array) -> Arrays:
    """Its first layer takes the input. An LSTM without biases gets some, of 0 in the layers above."""
    found = dict(named)
    for name, weight in named.items():
        kind, _, suffix = name.partition("_l")
        if kind != "weight_ih":
            continue
        for bias in (f"bias_ih_l{suffix}", f"bias_hh_l{suffix}"):
            found.setdefault(bias, np.zeros(len(weight)))
        if suffix in ("0", "0_reverse"):
            found[name], found[f"bias_ih_l{suffix}"] = weight * scale, found[f"bias_ih_l{suffix}"] + weight @ shift
    return found
