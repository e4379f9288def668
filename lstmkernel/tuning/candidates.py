"""The backends that may be the fastest for a network: those of this machine, and kernels made for its sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkernel import backends
from lstmkernel.backends import Backend
from lstmkernel.backends.c.specialised import SPECIALISED, Sizes

__all__ = ["SPECIALISED", "build", "names", "promises_bits"]


def promises_bits(name: str) -> bool:
    """Whether a backend promises the same bits as the others that promise them."""
    return name.removesuffix(SPECIALISED) in backends.ONE_ANSWER


def names(own: str) -> list[str]:
    """All candidates for a network that runs on ``own``, which comes first."""
    fused = [name for name in backends.ONE_ANSWER if backends.unavailable(name) is None]
    return list(dict.fromkeys([own, *fused, *(name + SPECIALISED for name in fused)]))


def build(name: str, layers: Sequence[Sizes], backwards: Sequence[bool], dtype: np.dtype[Any]) -> tuple[Backend, float]:
    """A candidate for a network of such layers, and the seconds that the C compiler took.

    backwards: for each direction, whether it runs backwards. Raises BackendError or CompileError, with the reason.
    """
    if not name.endswith(SPECIALISED):
        return backends.get(name), 0.0
    if name == "numba" + SPECIALISED:
        from lstmkernel.backends.numba import specialised as numba_specialised

        return numba_specialised.backend(layers, backwards, dtype), 0.0
    from lstmkernel.backends.c import specialised

    return specialised.backend(name.removeprefix("c:").removesuffix(SPECIALISED), dtype, layers)
