"""Whether an array that is kept without a copy is still what it was."""

from __future__ import annotations

import numpy as np

from lstmkernel.backends.packing import Array

#: How many sums there are: the first of these primes, or the second if the first divides the array's size. Because the
#: number is prime, rows or steps that trade places mostly move into other sums. Because the array's size is not a
#: multiple of it, some sum has an odd number of elements. That sum changes when all elements change their signs.
SUMS = 251, 241


def fingerprint(array: Array) -> Array:
    """Sums of every 251st or 241st 32-bit word of a contiguous array. A change of any one element changes a sum.

    Two changes in one sum can cancel each other, which does not happen by accident.
    """
    words = array.reshape(-1).view(np.uint32)
    sums = SUMS[0] if words.size % SUMS[0] else SUMS[1]
    whole = words.size // sums * sums
    found: Array = words[:whole].reshape(-1, sums).sum(axis=0, dtype=np.uint32)
    found[: words.size - whole] += words[whole:]
    return found
