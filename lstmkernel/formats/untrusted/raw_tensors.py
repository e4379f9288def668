"""A tensor's raw bytes as an array; bfloat16, which NumPy lacks, becomes float32."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.inspection import Tensor


def widened(tensor: Tensor, data: bytes | memoryview, byte_order: Literal["<", ">"]) -> Array:
    """An array of the tensor's shape over ``data``; byte_order is "<" or ">", as in NumPy's dtypes."""
    if tensor.dtype == "bfloat16":
        upper = np.frombuffer(data, f"{byte_order}u2").astype(np.uint32)
        return (upper << 16).view(np.float32).reshape(tensor.shape)  # float32 less the lower half of its bits
    return np.frombuffer(data, dtype_of(tensor).newbyteorder(byte_order)).reshape(tensor.shape)


def dtype_of(tensor: Tensor) -> np.dtype[np.generic]:
    """NumPy's dtype of a tensor that is real numbers, or an error that names it."""
    try:
        dtype = np.dtype(tensor.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "fiub":
        raise ValueError(f"{tensor.name}: expected float16, bfloat16, float32 or float64, got {tensor.dtype}")
    return dtype
