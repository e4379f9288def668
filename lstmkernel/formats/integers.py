"""Integers of 8 bits that others made of weights, as those from -127 to 127 that there are here."""

from __future__ import annotations

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.engine.precision import MOST_INT8
from lstmkernel.formats import assumptions


def symmetric(values: Array) -> Array:
    """int8 numbers from -127 on; what changes is told.

    Where a scale is the largest number / 127.5, as quantize_dynamic's is, -127 is as near to that number as -128.
    """
    if values.min(initial=0) >= -MOST_INT8:
        return values
    assumptions.assume("some weights are the integer -128: they become -127, the least that there is here")
    return np.maximum(values, np.int8(-MOST_INT8))
