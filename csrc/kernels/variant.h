/* variant.h - a step of a layer that is not the plain LSTM: peepholes, clipping, coupled gates, other activations.
 *
 * The recurrent product leaves z in memory. Then one function computes the cell from z, vector by vector. It looks up
 * for every block of units what the variant is. Sums have the order of step_sums, however few the units; a peephole
 * comes last: z = fma(p, c, z). Without a bound, it clips at infinity. The formulas are in docs/lstm.md.
 *
 * Bounds: those of the plain step; in narrow layers the cell, which is one chain of operations for each block. */
#ifndef LK_VARIANT_H
#define LK_VARIANT_H
#include "kernels/layer_forward.h"

INLINE vec clipped(vec x, double most) { return v_max(v_splat((real)-most), v_min(v_splat((real)most), x)); }
INLINE vec below_zero(vec x) { return v_min(v_splat(0), x); }

/* exp(x) - 1 for x <= 0, within 2 ulp. */
INLINE vec v_expm1(vec x)
{
    vec s, m, v = v_min(v_splat(-EXP_LOW), v_sub(v_splat(0), x));
    exp_parts(1, &v, &s, &m);
    return v_fnma(s, m, v_sub(s, v_splat(1)));
}

/* log(1 + u) for u in 0..1 is 2 artanh(w) = 2 w (1 + w^2 / 3 + w^4 / 5 + ...) with w = u / (2 + u), which is at most
 * 1/3. The code computes 2 w and not w, because w could be less than the smallest normal number where u is not. TERMS
 * is the number of terms after the first one. The terms that are left off are below 2^-29 or 2^-58 of the sum. */
INLINE vec v_log1p(vec u)
{
    enum { TERMS = sizeof(real) == 4 ? 7 : 16 };
    const vec twice = v_div(v_add(u, u), v_add(u, v_splat(2))), w2 = v_mul(v_mul(v_splat((real)0.25), twice), twice);
    vec sum = v_splat((real)1 / (2 * TERMS + 1));
    for (int k = TERMS - 1; k >= 1; k--)
        sum = v_fma(sum, w2, v_splat((real)1 / (2 * k + 1)));
    return v_fma(v_mul(twice, w2), sum, twice);
}

/* log(1 + exp(x)) = max(0, x) + log(1 + exp(-|x|)), within 4 ulp; zero where x < EXP_LOW. */
INLINE vec v_softplus(vec x)
{
    vec s, m, v = v_min(v_splat(-EXP_LOW), v_copysign(x, v_splat(1)));
    exp_parts(1, &v, &s, &m);
    const vec sum = v_add(v_relu(x), v_log1p(exp_of(s, m)));
    return v_zero_below(sum, x, v_splat(EXP_LOW));
}

/* The activations of lstmkernel.h on one vector. Each keeps a NaN. affine, relu, leaky_relu and thresholded_relu
 * round once at most, hard_sigmoid once before it is clipped; softsign within 2 ulp; elu and scaled_tanh as their
 * formulas round on top of v_expm1 and v_tanh. */
SEPARATE vec apply(const lk_function *f, vec x)
{
    const vec alpha = v_splat((real)f->alpha), beta = v_splat((real)f->beta), zero = v_splat(0), one = v_splat(1);
    switch (f->activation) {
    case LK_AFFINE: return v_fma(alpha, x, beta);
    case LK_SCALED_TANH: return v_mul(alpha, v_tanh(v_mul(beta, x)));
    case LK_HARD_SIGMOID: return v_max(zero, v_min(one, v_fma(alpha, x, beta)));
    case LK_LEAKY_RELU: return v_fma(alpha, below_zero(x), v_relu(x));
    case LK_THRESHOLDED_RELU: return v_zero_below(x, x, alpha);
    case LK_ELU: return v_fma(alpha, v_expm1(below_zero(x)), v_relu(x));
    case LK_SOFTSIGN: return v_div(x, v_add(one, v_copysign(x, one)));
    case LK_SOFTPLUS: return v_softplus(x);
    default: return activate((int)f->activation, x);
    }
}

/* One gate from its pre-activation and from c, the cell state that its peephole sees. at: the gate's place, I, F or O,
 * in z and peephole. */
INLINE vec gate(const lk_variant *variant, const real *z, const real *peephole, int at, vec c)
{
    const vec sum = peephole ? v_fma(v_load(peephole + at), c, v_load(z + at)) : v_load(z + at);
    return apply(&variant->gates, clipped(sum, variant->gate_clip));
}

/* The four moves on a block of units of one row: z and peephole are [4][LANES], of i, f, g, o; peephole may be NULL. */
INLINE void variant_cell(const lk_variant *variant, const real *z, const real *peephole, real *c, real *h)
{
    enum { I = 0, F = LANES, G = 2 * LANES, O = 3 * LANES };
    const vec before = v_load(c), one = v_splat(1);
    vec f = one, i = one;
    if (variant->coupled != LK_INPUT_COUPLED)
        i = gate(variant, z, peephole, I, before);
    if (variant->coupled != LK_FORGET_COUPLED)
        f = gate(variant, z, peephole, F, before);
    if (variant->coupled == LK_FORGET_COUPLED)
        f = v_sub(one, i);
    if (variant->coupled == LK_INPUT_COUPLED)
        i = v_sub(one, f);
    const vec g = apply(&variant->candidate, clipped(v_load(z + G), variant->gate_clip));
    const vec c_t = clipped(v_fma(f, before, v_mul(i, g)), variant->cell_clip);
    const vec o = gate(variant, z, peephole, O, c_t);
    v_store(c, c_t);
    v_store(h, v_mul(o, apply(&variant->output, c_t)));
}

/* Add the recurrent product to z of a tile, in memory. variant_cells computes the cell from it afterwards. */
INLINE void variant_tile(const int rows, const int blocks, int64_t row, int64_t block, int line, const void *job)
{
    const row_group *group = job;
    vec acc[MOST_TILE_ROWS][4];
    real *const z = step_sums(rows, blocks, acc, row, block, line, group);
    store_tile(rows, blocks, acc, z, group->z_stride);
}

/* variant_cell for this thread's blocks of every active row. */
SEPARATE void variant_cells(const row_group *group, int64_t active)
{
    const lk_variant *variant = group->layer->variant;
    for (int64_t r = 0; r < active; r++)
        for (int64_t block = group->units.from; block < group->units.to; block++) {
            const int64_t unit = r * group->c_stride + block * LANES;
            const real *peephole = variant->peephole ? (const real *)variant->peephole + block * BLOCK_SIZE : NULL;
            const real *z = group->z_now + r * group->z_stride + block * BLOCK_SIZE;
            variant_cell(variant, z, peephole, group->c + unit, group->reported + unit);
        }
}

SEPARATE void variant_tiles(const row_group *group, int64_t active)
{
    sweep(TILE_ROWS, active, group->units, output_size(group->layer), group->backwards, variant_tile, group);
    variant_cells(group, active);
}

static int variant_forward(const lk_layer *layer, const lk_task *task)
{
    return all_groups(layer, task, 0, variant_tiles);
}

#endif
