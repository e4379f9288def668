"""Large arrays, part by part: Ctrl-C is heard between two parts, and the first touch of a gigabyte may take seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Numbers that are copied at once.
MOST_COPIED = 1 << 24


def slices(total: int, most: int) -> Iterator[slice]:
    """0..total in consecutive slices of at most ``most``, and at least 1."""
    most = max(1, most)
    for start in range(0, total, most):
        yield slice(start, min(start + most, total))


def fill(to: NDArray[Any], source: NDArray[Any]) -> None:
    """to[...] = source, of the same shape."""
    if to.size <= MOST_COPIED:
        to[...] = source
        return
    axis = int(np.argmax(to.shape))
    to, source = np.moveaxis(to, axis, 0), np.moveaxis(source, axis, 0)
    for part in slices(len(to), MOST_COPIED * len(to) // to.size):
        to[part] = source[part]
