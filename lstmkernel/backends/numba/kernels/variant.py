"""A step of a layer that is not the plain LSTM: csrc/kernels/variant.h, which states every error.

The recurrent product leaves z in memory. Then one function over vectors makes the cell of it. It asks for every block
what the variant is.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from lstmkernel.backends.contract import VARIANT_ACTIVATIONS
from lstmkernel.backends.numba.jit import inlined, internal, spliced
from lstmkernel.backends.numba.kernels.activation import (
    activate,
    exp_of,
    exp_parts,
    v_constant,
    v_number,
    v_relu,
    v_tanh,
)
from lstmkernel.backends.numba.kernels.float_step import inputs_product, project, step_sums
from lstmkernel.backends.numba.kernels.layer_forward import all_groups
from lstmkernel.backends.numba.kernels.tile import sweep
from lstmkernel.backends.numba.memory import at, lanes
from lstmkernel.backends.numba.structs import Variant, struct_at
from lstmkernel.backends.numba.target import TILE_ROWS
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
    v_splat,
    v_store,
    v_sub,
    v_zero_below,
    vec_in,
)
from lstmkernel.backends.numba.vec.registers import block_size

_KINDS = {name: kind for kind, name in enumerate(VARIANT_ACTIVATIONS)}
AFFINE, SCALED_TANH, HARD_SIGMOID = (_KINDS[name] for name in ("affine", "scaled_tanh", "hard_sigmoid"))
LEAKY_RELU, THRESHOLDED_RELU = _KINDS["leaky_relu"], _KINDS["thresholded_relu"]
ELU, SOFTSIGN, SOFTPLUS = (_KINDS[name] for name in ("elu", "softsign", "softplus"))

#: What Variant.coupled counts.
COUPLED = (None, "forget", "input")
FORGET_COUPLED, INPUT_COUPLED = COUPLED.index("forget"), COUPLED.index("input")

#: Terms of v_log1p's series after the first.
TERMS = {types.float32: 7, types.float64: 16}


@inlined
def clipped(x, most):
    return v_max(v_splat(-most), v_min(v_splat(most), x))


@inlined
def below_zero(x):
    return v_min(v_number(x, 0), x)


@inlined
def v_expm1(x):
    s, m = exp_parts(v_min(v_constant(x, "-EXP_LOW"), v_sub(v_number(x, 0), x)))
    return v_fnma(s, m, v_sub(s, v_number(x, 1)))


@intrinsic
def rest_of_series(typingctx, w2):
    """1/3 + w2 / 5 + w2^2 / 7 + ..., TERMS of them."""
    real = vec_in(w2).real
    one = np.float32(1) if real is types.float32 else np.float64(1)
    terms = [float(one / type(one)(2 * k + 1)) for k in range(1, TERMS[real] + 1)]

    def emit(builder, w2):
        total = [emit_constant(w2[0].type, terms[-1])] * len(w2)
        for term in reversed(terms[:-1]):
            total = [emit_fma(builder, *each, emit_constant(w2[0].type, term)) for each in zip(total, w2, strict=True)]
        return total

    return in_step(emit, w2)


@inlined
def v_log1p(u):
    twice = v_div(v_add(u, u), v_add(u, v_number(u, 2)))
    w2 = v_mul(v_div(twice, v_number(u, 4)), twice)  # exact, as C's times 0.25 is
    return v_fma(v_mul(twice, w2), rest_of_series(w2), twice)


@inlined
def v_softplus(x):
    s, m = exp_parts(v_min(v_constant(x, "-EXP_LOW"), v_copysign(x, v_number(x, 1))))
    total = v_add(v_relu(x), v_log1p(exp_of(s, m)))
    return v_zero_below(total, x, v_constant(x, "EXP_LOW"))


@internal
def apply(f, x):
    alpha, beta, zero, one = v_splat(f.alpha), v_splat(f.beta), v_number(x, 0), v_number(x, 1)
    if f.kind == AFFINE:
        return v_fma(alpha, x, beta)
    if f.kind == SCALED_TANH:
        return v_mul(alpha, v_tanh(v_mul(beta, x)))
    if f.kind == HARD_SIGMOID:
        return v_max(zero, v_min(one, v_fma(alpha, x, beta)))
    if f.kind == LEAKY_RELU:
        return v_fma(alpha, below_zero(x), v_relu(x))
    if f.kind == THRESHOLDED_RELU:
        return v_zero_below(x, x, alpha)
    if f.kind == ELU:
        return v_fma(alpha, v_expm1(below_zero(x)), v_relu(x))
    if f.kind == SOFTSIGN:
        return v_div(x, v_add(one, v_copysign(x, one)))
    if f.kind == SOFTPLUS:
        return v_softplus(x)
    return activate(f.kind, x)


@internal
def gate(v, z, p, c):
    """A gate, from its pre-activation z and, if there are peepholes, the weights p times the cell state."""
    total = v_fma(v_load(p), c, v_load(z)) if v.has_peephole else v_load(z)
    return apply(v.gates, clipped(total, v.gate_clip))


@internal
def variant_cell(v, z, p, c, h):
    """The four moves on a block of units of one row. z and p are [4][LANES], of i, f, g, o."""
    block = lanes(z)
    before = v_load(c)
    one = v_number(before, 1)
    f, i = one, one
    if v.coupled != INPUT_COUPLED:
        i = gate(v, z, p, before)
    if v.coupled != FORGET_COUPLED:
        f = gate(v, at(z, block), at(p, block), before)
    if v.coupled == FORGET_COUPLED:
        f = v_sub(one, i)
    if v.coupled == INPUT_COUPLED:
        i = v_sub(one, f)
    g = apply(v.candidate, clipped(v_load(at(z, 2 * block)), v.gate_clip))
    c_t = clipped(v_fma(f, before, v_mul(i, g)), v.cell_clip)
    o = gate(v, at(z, 3 * block), at(p, 3 * block), c_t)
    v_store(c, c_t)
    v_store(h, v_mul(o, apply(v.output, c_t)))


@inlined
def variant_tile(rows, blocks, row, block, line, job):
    step_sums(rows, blocks, row, block, line, job)


@internal
def variant_cells(job, active, part):
    group, v = job.group, struct_at(Variant, job.layer.variant, job.z)
    for r in range(active):
        for block in range(part[0], part[1]):
            unit = r * group.c_stride + block * lanes(job.z)
            z = at(job.z, r * group.z_stride + block * block_size(job.z))
            p = at(v.peephole, block * block_size(job.z))
            variant_cell(v, z, p, at(job.c, unit), at(job.reported, unit))


@inlined
def variant_tiles(job, active, part, backwards, is_first):
    sweep(TILE_ROWS, active, part, job.layer.output_size, backwards, variant_tile, job)
    variant_cells(job, active, part)


@spliced
def variant_forward(layer, group, B, task, team):
    """layer_forward of a layer with a variant."""
    all_groups(layer, group, B, task, inputs_product, variant_tiles, project, team)
