"""Whether an array that is kept without a copy is still what it was, at a third of the price of the copy."""

from __future__ import annotations

import numpy as np

from lstmkernel.backends.packing import Array

#: Sums of a fingerprint. A prime, so that elements which trade places mostly belong to different sums: where rows of a
#: batch do, or steps, it is by a multiple of their width.
SUMS = 251


def fingerprint(array: Array) -> Array:
    """Sums of every SUMS-th 32-bit word of a contiguous array: any element that changes, changes one.

    Two changes in one sum can cancel each other, which does not happen by accident.
    """
    words = array.reshape(-1).view(np.uint32)
    whole = words.size // SUMS * SUMS
    found: Array = words[:whole].reshape(-1, SUMS).sum(axis=0, dtype=np.uint32)
    found[: words.size - whole] += words[whole:]
    return found
