"""sigmoid and tanh: the same branch-free sequence of operations as csrc/activation.h, which explains it.

y = n ln 2 + r, |r| <= ln 2 / 2; exp(y) = 2^n exp(r); exp(r) - 1 = m = r + r^2 q(r). With s = 2^n:
    sigmoid(x) = 1 / (s + (s m + 1)),              y = -x
    tanh(x) = +-(s m + (s - 1)) / (s m + (s + 1)), y = -2|x|
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from lstmkernel.backends.contract import ACTIVATIONS
from lstmkernel.backends.numba.jit import inlined, spliced
from lstmkernel.backends.numba.memory import at, lanes
from lstmkernel.backends.numba.vec import (
    emit_constant,
    emit_fma,
    v_add,
    v_copysign,
    v_div,
    v_fma,
    v_fnma,
    v_load,
    v_max,
    v_min,
    v_mul,
    v_pow2,
    v_store,
    v_sub,
)
from lstmkernel.backends.numba.vec_tail import v_load_n, v_store_n

LINEAR, TANH, SIGMOID, RELU = range(len(ACTIVATIONS))

#: The names of csrc/activation.h. Hexadecimal, because decimal floats would be rounded a second time.
CONSTANTS = {
    types.float32: {
        "LOG2_E": "0x1.715476p+0",
        "LN2_HIGH": "0x1.62e4p-1",
        "LN2_LOW": "0x1.7f7d1cp-20",
        "ROUND_SHIFT": "0x1.8p+23",  # v_pow2 takes it
        "EXP_LOW": "-0x1.5cp+6",  # -87 and 88: 2^n stays a normal number between
        "EXP_HIGH": "0x1.6p+6",
        "TANH_LOW": "-0x1.4p+4",  # -20: tanh rounds to -1 where y is below
    },
    types.float64: {
        "LOG2_E": "0x1.71547652b82fep+0",
        "LN2_HIGH": "0x1.62e42feep-1",
        "LN2_LOW": "0x1.a39ef35793c76p-33",
        "ROUND_SHIFT": "0x1.8p+52",
        "EXP_LOW": "-0x1.62p+9",  # -708 and 709
        "EXP_HIGH": "0x1.628p+9",
        "TANH_LOW": "-0x1.4p+5",  # -40
    },
}

#: The polynomial q, lowest power first.
Q = {
    types.float32: (
        *("0x1.0p-1", "0x1.555554p-3", "0x1.5554f8p-5"),
        *("0x1.1112dap-7", "0x1.6d3a46p-10", "0x1.9e6e9cp-13"),
    ),
    types.float64: (
        *("0x1.0000000000000p-1", "0x1.5555555555559p-3", "0x1.555555555553ep-5", "0x1.111111110f6c1p-7"),
        *("0x1.6c16c16c1f11ep-10", "0x1.a01a01afdece4p-13", "0x1.a01a017b9f818p-16", "0x1.71ddf860e0b78p-19"),
        *("0x1.27e536663c584p-22", "0x1.af5eace0c8a9dp-26", "0x1.1ee8540de02a3p-29"),
    ),
}


@intrinsic(prefer_literal=True)
def v_number(typingctx, like, number):
    """The literal int in every lane of a vector like `like`."""

    def codegen(context, builder, signature, args):
        return emit_constant(args[0].type, float(number.literal_value))

    return like(like, number), codegen


@intrinsic(prefer_literal=True)
def v_constant(typingctx, like, name):
    """The constant of that name and of like's dtype, in every lane."""
    number = float.fromhex(CONSTANTS[like.real][name.literal_value])

    def codegen(context, builder, signature, args):
        return emit_constant(args[0].type, number)

    return like(like, name), codegen


@intrinsic(prefer_literal=True)
def horner(typingctx, r2, first):
    """q[first] + q[first + 2] r2 + q[first + 4] r2^2 + ...: the even or odd powers of q."""
    coefficients = [float.fromhex(q) for q in Q[r2.real][first.literal_value :: 2]]

    def codegen(context, builder, signature, args):
        r2_value, _ = args
        total = emit_constant(r2_value.type, coefficients[-1])
        for q in reversed(coefficients[:-1]):
            total = emit_fma(builder, total, r2_value, emit_constant(r2_value.type, q))
        return total

    return r2(r2, first), codegen


@inlined
def exp_parts(y):
    """s and m of exp(y) = s + s * m, for y in [EXP_LOW, EXP_HIGH]."""
    shifted = v_fma(y, v_constant(y, "LOG2_E"), v_constant(y, "ROUND_SHIFT"))
    n = v_sub(shifted, v_constant(y, "ROUND_SHIFT"))
    r = v_fnma(n, v_constant(y, "LN2_LOW"), v_fnma(n, v_constant(y, "LN2_HIGH"), y))
    r2 = v_mul(r, r)
    # Even and odd powers apart: half the dependency chain of Horner's scheme.
    even, odd = horner(r2, 0), horner(r2, 1)
    return v_pow2(shifted), v_fma(r2, v_fma(odd, r, even), r)


@inlined
def v_sigmoid(x):
    one = v_number(x, 1)
    y = v_max(v_constant(x, "EXP_LOW"), v_min(v_constant(x, "EXP_HIGH"), v_sub(v_number(x, 0), x)))
    s, m = exp_parts(y)
    return v_div(one, v_add(s, v_fma(s, m, one)))


@inlined
def v_tanh(x):
    one, minus_abs = v_number(x, 1), v_copysign(x, v_number(x, -1))
    y = v_max(v_constant(x, "TANH_LOW"), v_add(minus_abs, minus_abs))
    s, m = exp_parts(y)
    return v_copysign(v_div(v_fma(s, m, v_sub(s, one)), v_fma(s, m, v_add(s, one))), x)


@inlined
def v_relu(x):
    return v_max(v_number(x, 0), x)


@inlined
def activate(kind, x):
    if kind == TANH:
        return v_tanh(x)
    if kind == SIGMOID:
        return v_sigmoid(x)
    if kind == RELU:
        return v_relu(x)
    return x


@spliced
def activation(kind, N, x, y):
    n = 0
    while n + lanes(x) <= N:
        v_store(at(y, n), activate(kind, v_load(at(x, n))))
        n += lanes(x)
    if n < N:
        v_store_n(at(y, n), activate(kind, v_load_n(at(x, n), N - n)), N - n)
