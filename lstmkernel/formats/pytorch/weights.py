"""A tensor of a network by its name, which is read when its numbers are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lstmkernel.backends.packing import Array


class Weight(NamedTuple):
    """What PyTorch's forward pass uses in inference under this name."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array]
    problem: str = ""  # why it cannot be read, and what to do
    assumed: str = ""  # what the file does not say
    precision: str = ""  # of a network that was quantized: "int8" or "float16"


def unreadable(name: str, problem: str, shape: tuple[int, ...] = ()) -> Weight:
    """A tensor that is there, but whose numbers cannot be had."""

    def read() -> Array:
        raise ValueError(f"{name}: {problem}")

    return Weight(name, shape, "", read, problem)


def problem_of(weight: Weight) -> str:
    """Why a weight cannot be read, or ""."""
    known = weight.dtype == "bfloat16" or weight.dtype.startswith(("float16", "float32", "float64"))
    return weight.problem or ("" if known else f"expected floating-point numbers, got {weight.dtype}")
