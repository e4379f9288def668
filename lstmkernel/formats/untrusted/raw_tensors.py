"""A tensor's raw bytes as an array; bfloat16, which NumPy does not have, becomes float32."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.inspection import Tensor


def as_array(tensor: Tensor, data: bytes | memoryview, byte_order: Literal["<", ">"]) -> Array:
    """An array of the tensor's shape over ``data``; ``byte_order`` as in NumPy's dtypes."""
    if tensor.dtype == "bfloat16":
        return from_bfloat16(np.frombuffer(data, f"{byte_order}u2")).reshape(tensor.shape)
    return np.frombuffer(data, _dtype_of(tensor).newbyteorder(byte_order)).reshape(tensor.shape)


def from_bfloat16(bits: Array) -> Array:
    """float32 from the bits of bfloat16 as integers: bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _dtype_of(tensor: Tensor) -> np.dtype[np.generic]:
    """NumPy's dtype of a tensor of real numbers, or an error that names it."""
    try:
        dtype = np.dtype(tensor.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "fiub":
        raise ValueError(f"{tensor.name}: expected float16, bfloat16, float32 or float64, got {tensor.dtype}")
    return dtype
