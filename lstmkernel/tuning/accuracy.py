"""Whether an answer is right: its distance from the float64 reference, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array

#: t of each dtype: an element agrees within t + t |reference|.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

Answer = tuple[Array, ...]


def tolerance_text(dtype: str) -> str:
    """ "1e-05 + 1e-05 |reference|"."""
    return f"{TOLERANCE[dtype]:g} + {TOLERANCE[dtype]:g} |reference|"


def error(answer: Answer, reference: Answer, dtype: np.dtype[Any]) -> float:
    """The largest error, in multiples of the tolerance: up to 1 agrees. NaN where the answer has one."""
    t = TOLERANCE[dtype.name]
    parts = zip(answer, reference, strict=True)
    return float(np.max([np.max(np.abs(a - right) / (t + t * np.abs(right)), initial=0) for a, right in parts]))


def agrees(multiple: float, limit: float = 1.0) -> bool:
    """Whether an ``error`` is within the tolerance, or within a larger limit. NaN is not."""
    return multiple <= limit


def same_bits(answer: Answer, other: Answer) -> bool:
    """Whether two answers are equal to the last bit."""
    return all(a.tobytes() == b.tobytes() for a, b in zip(answer, other, strict=True))
