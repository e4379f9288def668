"""y[i] = exp(y[i]) / sum of all exp(y[j]), of one row in place. The Numba form of csrc/kernels/softmax.h."""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from numba.extending import intrinsic

from lstmkernel.backends.contract import DENSE_ACTIVATIONS
from lstmkernel.backends.numba.jit import inlined, internal
from lstmkernel.backends.numba.kernels.activation import exp_of, exp_parts, v_constant, v_number
from lstmkernel.backends.numba.memory import at, buffer, clear, emit_buffer, lanes
from lstmkernel.backends.numba.vec.operations import (
    v_add,
    v_div,
    v_load,
    v_max,
    v_min,
    v_splat,
    v_store,
    v_sub,
    v_zero_below,
)
from lstmkernel.backends.numba.vec.tail import v_load_n, v_store_n

SOFTMAX = DENSE_ACTIVATIONS["softmax"]
PARTIAL_SUMS = 16


@intrinsic
def partial_buffer(typingctx, p):
    """Stack for PARTIAL_SUMS numbers of the pointer's dtype."""
    return p(p), lambda context, builder, signature, args: emit_buffer(builder, p.dtype, PARTIAL_SUMS)


@inlined
def greater(a, b):
    if b > a:
        return b
    return a


@inlined
def largest_of(y, n):
    largest, i = y[0], 0
    if n >= lanes(y):
        most, i = v_load(y), lanes(y)
        while i + lanes(y) <= n:
            most = v_max(most, v_load(at(y, i)))
            i += lanes(y)
        lane = buffer(y)
        v_store(lane, most)
        for each in range(lanes(y)):
            largest = greater(largest, lane[each])
    while i < n:
        largest = greater(largest, y[i])
        i += 1
    return largest


@inlined
def v_exp_below_zero(x):
    s, m = exp_parts(v_min(v_constant(x, "-EXP_LOW"), v_sub(v_number(x, 0), x)))
    return v_zero_below(exp_of(s, m), x, v_constant(x, "EXP_LOW"))


@inlined
def exp_and_sum(y, n, largest):
    partial = partial_buffer(y)
    clear(partial, PARTIAL_SUMS)
    for i in range(0, n, lanes(y)):
        left = n - i
        v_store_n(at(y, i), v_exp_below_zero(v_sub(v_load_n(at(y, i), left), v_splat(largest))), left)
        sums = at(partial, i % PARTIAL_SUMS)
        v_store(sums, v_add(v_load(sums), v_load_n(at(y, i), left)))  # zeros after the last number
    half = PARTIAL_SUMS // 2
    while half > 0:
        for p in range(half):
            partial[p] += partial[p + half]
        half //= 2
    return partial[0]


@internal
def softmax(y, n):
    total = v_splat(exp_and_sum(y, n, largest_of(y, n)))
    for i in range(0, n, lanes(y)):
        v_store_n(at(y, i), v_div(v_load_n(at(y, i), n - i), total), n - i)
