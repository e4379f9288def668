/* cell.h - the four moves of the cell, from pre-activations in registers. */
#ifndef LK_CELL_H
#define LK_CELL_H
#include "kernels/activation.h"
#include "kernels/tile.h"

/* The gates as quotients: i = 1 / write, f = 1 / forget, g = candidate / candidate_over, o = 1 / output. */
typedef struct {
    vec write, forget, candidate, candidate_over, output;
} gate_quotients;

/* The gates of one block of units of one row. z: i, f, g, o before activation. */
INLINE gate_quotients open_gates(const vec z[4])
{
    enum { I, F, G, O };
    const vec v[4] = {sigmoid_argument(z[I]), sigmoid_argument(z[F]), tanh_argument(z[G]), sigmoid_argument(z[O])};
    vec s[4], m[4];
    exp_parts(4, v, s, m);
    return (gate_quotients){.write = sigmoid_denominator(s[I], m[I]),
                            .forget = sigmoid_denominator(s[F], m[F]),
                            .candidate = tanh_numerator(s[G], m[G], z[G]),
                            .candidate_over = tanh_denominator(s[G], m[G]),
                            .output = sigmoid_denominator(s[O], m[O])};
}

/* A product of two activations is one division: i * g here, o * tanh(c_t) below. Where the product of the denominators
 * overflows, the quotient is 0, and 0 is correctly rounded. */
INLINE vec next_state(gate_quotients q, vec c)
{
    /* 1 forget: what stays of the cell state, f * c */
    const vec kept = v_div(c, q.forget);
    /* 2 input: what to write, i * g */
    const vec written = v_div(q.candidate, v_mul(q.write, q.candidate_over));
    /* 3 update: additive */
    return v_add(kept, written);
}

/* Moves 1 to 3, from z. Returns c_t; sets *output for cell_output. */
INLINE vec cell_state(const vec z[4], vec c, vec *output)
{
    const gate_quotients q = open_gates(z);
    *output = q.output;
    return next_state(q, c);
}

/* Move 4, output: what to report, h = o * tanh(c_t), for all n vectors of a tile at once. One vector alone would be a
 * chain of some 60 cycles, and a core does not look far enough ahead to fill these with the work of other tiles. */
INLINE void cell_output(const int n, const vec *c_t, const vec *output, vec *h)
{
    vec v[MOST_AT_ONCE], s[MOST_AT_ONCE], m[MOST_AT_ONCE];
    for (int i = 0; i < n; i++)
        v[i] = tanh_argument(c_t[i]);
    exp_parts(n, v, s, m);
    for (int i = 0; i < n; i++)
        h[i] = v_div(tanh_numerator(s[i], m[i], c_t[i]), v_mul(output[i], tanh_denominator(s[i], m[i])));
}

/* The place of the next blocks in the arrays of cell_update, which hold one row after the other. */
typedef struct {
    const real *z;
    real *c, *h;
    int64_t unit; /* in its row */
} cells;

/* Update the next n blocks, of one row or of several. */
INLINE void update_cells(const int n, int64_t H, cells *at)
{
    vec c_t[MOST_AT_ONCE], output[MOST_AT_ONCE], h_t[MOST_AT_ONCE];
    int64_t units[MOST_AT_ONCE];
    for (int i = 0; i < n; i++, at->z += BLOCK_SIZE) {
        const real *z = at->z;
        const vec gates[4] = {v_load(z), v_load(z + LANES), v_load(z + 2 * LANES), v_load(z + 3 * LANES)};
        units[i] = smaller(LANES, H - at->unit);
        c_t[i] = cell_state(gates, v_load_n(at->c, units[i]), &output[i]);
        v_store_n(at->c, c_t[i], units[i]);
        at->c += units[i];
        at->unit = at->unit + units[i] < H ? at->unit + units[i] : 0;
    }
    cell_output(n, c_t, output, h_t);
    for (int i = 0; i < n; at->h += units[i++])
        v_store_n(at->h, h_t[i], units[i]);
}

static int cell_update(int64_t N, int64_t H, const void *z, void *c, void *h)
{
    enum { AT_ONCE = 4 };
    cells at = {z, c, h, 0};
    int64_t blocks = N * divide_up(H, LANES);
    for (; blocks >= AT_ONCE; blocks -= AT_ONCE)
        update_cells(AT_ONCE, H, &at);
    for (; blocks > 0; blocks--)
        update_cells(1, H, &at);
    return LK_OK;
}

#endif
