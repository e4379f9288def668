"""Backends that round the weights before they pack them: ``compare`` shows kernels of fewer bits beside the others."""

from __future__ import annotations

from functools import partial

import numpy as np

from lstmkernel import backends
from lstmkernel.backends import Backend, BackendError
from lstmkernel.backends.packing import Array, Int8Matrix, LayerVariant, LayerWeights
from lstmkernel.engine import precision as bits
from lstmkernel.engine.precision import Precision

#: What ``--precision`` takes.
CHOICES = {
    "float16": bits.checked("float16"),
    "int8": bits.checked("int8"),
    "int8/int8": bits.checked("int8", "int8"),
}


def name_of(backend: str, choice: str) -> str:
    return f"{backend} {choice}"


def is_int8(precision: str) -> bool:
    """Whether a precision, of CHOICES or a dtype, has 8-bit weights."""
    return precision in CHOICES and CHOICES[precision].is_int8


def parts_of(name: str) -> tuple[str, str | None]:
    """The backend and the choice in a name; None where it is no such name."""
    base, _, choice = name.rpartition(" ")
    return (base, choice) if choice in CHOICES else (name, None)


def backend(name: str, choice: str) -> Backend:
    """A backend whose layers have weights of that precision. Raises BackendError for one without such kernels."""
    base, precision = backends.get(name), CHOICES[choice]
    if precision.is_int8 and base.pack_int8_layer is None:
        raise BackendError(f"--precision {choice}: backend {name!r} has no kernels for 8-bit weights")
    pack = _pack_int8 if precision.is_int8 else _pack_float16
    return base._replace(name=name_of(name, choice), pack_layer=partial(pack, base, precision))


def _pack_float16(
    base: Backend,
    precision: Precision,
    w_ih: Array,
    w_hh: Array,
    bias: Array,
    w_hr: Array | None,
    variant: LayerVariant | None = None,
) -> LayerWeights:
    def rounded(weight: Array) -> Array:
        narrow = weight.astype(np.float16)
        return narrow if base.takes_float16 else narrow.astype(bias.dtype)

    return base.pack_layer(rounded(w_ih), rounded(w_hh), bias, None if w_hr is None else rounded(w_hr), variant)


def _pack_int8(
    base: Backend,
    precision: Precision,
    w_ih: Array,
    w_hh: Array,
    bias: Array,
    w_hr: Array | None,
    variant: LayerVariant | None = None,
) -> LayerWeights:
    def rounded(name: str, weight: Array) -> Int8Matrix:
        return bits.matrix(bits.integers(name, weight), name, precision)

    assert base.pack_int8_layer is not None
    if variant is not None:
        raise BackendError("--precision int8: the network has a variant of the cell, and float16 takes it")
    narrow = None if w_hr is None else rounded("weight_hr", w_hr)
    return base.pack_int8_layer(rounded("weight_ih", w_ih), rounded("weight_hh", w_hh), bias, narrow)
