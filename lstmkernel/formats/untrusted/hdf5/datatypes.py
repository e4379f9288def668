"""What the elements of an array or an attribute are, and its shape."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lstmkernel.formats.untrusted.hdf5.blocks import Fields

#: Classes of types, by HDF5's numbers.
_INTEGER, _FLOAT, _STRING, _OPAQUE, _VARIABLE = 0, 1, 3, 5, 9
_OTHERS = {4: "bits", 6: "a compound", 7: "a reference", 8: "an enumeration", 10: "an array"}

#: Floating-point numbers: bits, place and size of the exponent, size of the mantissa, bias of the exponent.
_FLOATS = {
    (16, 10, 5, 10, 15): "float16",
    (16, 7, 8, 7, 127): "bfloat16",
    (32, 23, 8, 23, 127): "float32",
    (64, 52, 11, 52, 1023): "float64",
}

#: Of a text of variable length: its length, the address of the heap in which it is, its number there.
VARIABLE_BYTES = 16


class Datatype(NamedTuple):
    """Elements of ``size`` bytes. ``name`` is NumPy's name, or "bfloat16", or a description."""

    name: str
    size: int
    byte_order: str = "<"
    text: bool = False
    variable: bool = False  # a text of variable length, which is elsewhere


def datatype(fields: Fields) -> Datatype:
    first = fields.integer(1)
    kind = first & 15
    bits = fields.take(3)
    size = fields.integer(4)
    order = ">" if bits[0] & 1 else "<"
    if kind == _FLOAT:
        return Datatype(_float(fields, bits, size), size, order)
    if kind == _INTEGER:
        return Datatype(f"{'int' if bits[0] & 8 else 'uint'}{8 * size}", size, order)
    if kind == _STRING:
        return Datatype(f"text of {size} bytes", size, text=True)
    if kind == _OPAQUE:
        return Datatype(f"void{8 * size}", size)
    if kind == _VARIABLE:
        is_text = bits[0] & 15 == 1 and size == VARIABLE_BYTES
        return Datatype("text" if is_text else "lists of any length", size, text=is_text, variable=True)
    return Datatype(f"{_OTHERS.get(kind, f'type {kind}')} of {size} bytes", size)


def _float(fields: Fields, bits: bytes, size: int) -> str:
    offset, precision = fields.integers(2, 2)
    exponent_at, exponent, mantissa_at, mantissa = fields.integers(4, 1)
    name = _FLOATS.get((precision, exponent_at, exponent, mantissa, fields.integer(4)))
    plain = offset == mantissa_at == 0 and precision == 8 * size and bits[1] == precision - 1
    # The highest bit of the mantissa is implied (bits 4 and 5), and no third byte order (bit 6).
    if name is None or not plain or (bits[0] >> 4) & 7 != 2:
        return f"a floating-point number of {size} bytes"
    return name


def shape(fields: Fields) -> tuple[int, ...] | None:
    """The extents of each dimension; None for HDF5's empty ones, which have no element and no shape."""
    version = fields.version(1, 2)
    rank = fields.integer(1)
    fields.take(1)
    if version == 2 and fields.integer(1) == 2:
        return None
    if version == 1:
        fields.take(5)
    if rank > 32:
        raise ValueError(f"HDF5: shape: expected at most 32 dimensions, got {rank}")
    return tuple(fields.integers(rank, 8))


def numpy_dtype(kind: Datatype) -> np.dtype[np.generic]:
    """NumPy's dtype of floating-point numbers; the bits of bfloat16 as integers."""
    name = "uint16" if kind.name == "bfloat16" else kind.name
    return np.dtype(name).newbyteorder(kind.byte_order)  # type: ignore[arg-type]
