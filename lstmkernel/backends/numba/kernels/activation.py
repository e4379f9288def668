"""sigmoid and tanh: the same branch-free sequence of operations as csrc/kernels/activation.h, which explains it.

y = n ln 2 + r, |r| <= ln 2 / 2; exp(y) = 2^n exp(r); exp(r) - 1 = m = r + r^2 q(r). With s = 2^n:
    sigmoid(x) = 1 / (s + (s m + 1)),              y = -x
    tanh(x) = +-(s m + (s - 1)) / (s m + (s + 1)), y = -2|x|
In the code v = -y, u = -r and m = -(exp(r) - 1).

Every function here takes a vector or a tuple of vectors. It does each operation for all vectors of the tuple before the
next one, because the operations on one vector alone each wait for the one before.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from lstmkernel.backends.contract import ACTIVATIONS
from lstmkernel.backends.numba.jit import inlined, spliced
from lstmkernel.backends.numba.memory import at, lanes
from lstmkernel.backends.numba.vec.operations import (
    emit_constant,
    emit_fma,
    in_step,
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
    vec_in,
)
from lstmkernel.backends.numba.vec.tail import v_load_n, v_store_n

LINEAR, TANH, SIGMOID, RELU = range(len(ACTIVATIONS))

#: They have the names of csrc/kernels/activation.h. They are hexadecimal: decimal floats would be rounded twice.
CONSTANTS = {
    types.float32: {
        "LOG2_E": "0x1.715476p+0",
        "LN2_HIGH": "0x1.62e4p-1",
        "LN2_LOW": "0x1.7f7d1cp-20",
        "ROUND_SHIFT": "0x1.8000fep+23",  # 1.5 * 2^23 + 127; v_pow2 takes it
        "EXP_LOW": "-0x1.5cp+6",  # -87 and 88: 2^n stays a normal number between
        "EXP_HIGH": "0x1.6p+6",
        "TANH_ENOUGH": "0x1.4p+4",  # 20: tanh(x) rounds to 1 where 2x is more
    },
    types.float64: {
        "LOG2_E": "0x1.71547652b82fep+0",
        "LN2_HIGH": "0x1.62e42feep-1",
        "LN2_LOW": "0x1.a39ef35793c76p-33",
        "ROUND_SHIFT": "0x1.80000000003ffp+52",  # 1.5 * 2^52 + 1023
        "EXP_LOW": "-0x1.62p+9",  # -708 and 709
        "EXP_HIGH": "0x1.628p+9",
        "TANH_ENOUGH": "0x1.4p+5",  # 40
    },
}

#: The polynomial q, lowest power first.
Q = {
    types.float32: (*("0x1.fffffep-2", "0x1.5554aap-3", "0x1.55579ep-5", "0x1.122c64p-7", "0x1.6aaf44p-10"),),
    types.float64: (
        *("0x1.0000000000000p-1", "0x1.5555555555559p-3", "0x1.555555555553ep-5", "0x1.111111110f6c1p-7"),
        *("0x1.6c16c16c1f11ep-10", "0x1.a01a01afdece4p-13", "0x1.a01a017b9f818p-16", "0x1.71ddf860e0b78p-19"),
        *("0x1.27e536663c584p-22", "0x1.af5eace0c8a9dp-26", "0x1.1ee8540de02a3p-29"),
    ),
}


@intrinsic(prefer_literal=True)
def v_number(typingctx, like, number):
    """A literal int in every lane of a vector of like's type."""
    vec = vec_in(like)

    def codegen(context, builder, signature, args):
        return emit_constant(context.get_value_type(vec), float(number.literal_value))

    return vec(like, number), codegen


@intrinsic(prefer_literal=True)
def v_constant(typingctx, like, name):
    """The constant of that name, for like's dtype, in every lane. "-NAME" is its negative."""
    vec, sign = vec_in(like), -1 if name.literal_value.startswith("-") else 1
    number = sign * float.fromhex(CONSTANTS[vec.real][name.literal_value.removeprefix("-")])

    def codegen(context, builder, signature, args):
        return emit_constant(context.get_value_type(vec), number)

    return vec(like, name), codegen


@intrinsic
def minus_q(typingctx, u, u2):
    """-(Q[0] - Q[1] u + Q[2] u^2 - ...).

    Horner's scheme in u^2, over pairs of coefficients. Its chain of operations is half as long as with u.
    """
    q = [float.fromhex(coefficient) for coefficient in Q[vec_in(u).real]]

    def emit(builder, u, u2):
        vector = u[0].type
        total = None
        for k in reversed(range(0, len(q), 2)):
            pair = [emit_constant(vector, -q[k])] * len(u)
            if k + 1 < len(q):
                odd = emit_constant(vector, q[k + 1])
                pair = [emit_fma(builder, odd, *each) for each in zip(u, pair, strict=True)]
            total = [emit_fma(builder, *each) for each in zip(total, u2, pair, strict=True)] if total else pair
        return total

    return in_step(emit, u, u2)


@intrinsic
def keep_rest(typingctx, v):
    """KEEP_REST of v's dtype."""
    number = vec_in(v).real is types.float64
    return types.boolean(v), lambda context, builder, signature, args: context.get_constant(types.boolean, number)


@inlined
def m_of(n, high):
    """m, where u is high + n LN2_LOW. In float64, what u loses by rounding is added, because tanh needs it."""
    if keep_rest(n):
        low = v_mul(n, v_constant(n, "LN2_LOW"))
        u = v_add(high, low)
        u2 = v_mul(u, u)
        return v_add(u, v_fma(u2, minus_q(u, u2), v_add(v_sub(high, u), low)))
    u = v_fma(n, v_constant(n, "LN2_LOW"), high)
    u2 = v_mul(u, u)
    return v_fma(u2, minus_q(u, u2), u)


@inlined
def exp_parts(v):
    """s and m of exp(-v) = s - s m, for -v in [EXP_LOW, EXP_HIGH]."""
    shifted = v_fnma(v, v_constant(v, "LOG2_E"), v_constant(v, "ROUND_SHIFT"))
    n = v_sub(shifted, v_constant(v, "ROUND_SHIFT"))
    return v_pow2(shifted), m_of(n, v_fma(n, v_constant(v, "LN2_HIGH"), v))


@inlined
def exp_of(s, m):
    """exp(-v) from its parts."""
    return v_mul(s, v_sub(v_number(s, 1), m))


@inlined
def sigmoid_argument(x):
    return v_max(v_constant(x, "-EXP_HIGH"), v_min(v_constant(x, "-EXP_LOW"), x))


@inlined
def sigmoid_denominator(s, m):
    """sigmoid(x) = 1 / denominator, of the parts of exp(-v)."""
    return v_add(s, v_fnma(s, m, v_number(s, 1)))


@inlined
def tanh_argument(x):
    magnitude = v_copysign(x, v_number(x, 1))
    return v_min(v_constant(x, "TANH_ENOUGH"), v_add(magnitude, magnitude))


@inlined
def tanh_numerator(s, m, x):
    """tanh(x) = numerator / denominator, of the parts of exp(-v)."""
    return v_copysign(v_fnma(s, m, v_sub(s, v_number(s, 1))), x)


@inlined
def tanh_denominator(s, m):
    return v_fnma(s, m, v_add(s, v_number(s, 1)))


@inlined
def v_sigmoid(x):
    s, m = exp_parts(sigmoid_argument(x))
    return v_div(v_number(x, 1), sigmoid_denominator(s, m))


@inlined
def v_tanh(x):
    s, m = exp_parts(tanh_argument(x))
    return v_div(tanh_numerator(s, m, x), tanh_denominator(s, m))


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
