"""Loads and stores of less than a whole vector: csrc/vec/tail.h.

They go through a small buffer, because masked stores are slow on some CPUs and missing on others.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from lstmkernel.backends.numba.jit import inlined
from lstmkernel.backends.numba.memory import buffer, clear, copy, lanes
from lstmkernel.backends.numba.vec.operations import v_load, v_store


@inlined
def v_load_n(p, n):
    if n >= lanes(p):
        return v_load(p)
    padded = buffer(p)
    clear(padded, lanes(p))
    copy(padded, p, n)
    return v_load(padded)


@inlined
def v_store_n(p, a, n):
    if n >= lanes(p):
        v_store(p, a)
        return
    whole = buffer(p)
    v_store(whole, a)
    for lane in range(n):
        p[lane] = whole[lane]
