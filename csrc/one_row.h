/* one_row.h - the steps of one row of a layer whose sizes are constants, of few blocks, all of them in one tile.
 *
 * What sizes known beforehand are good for: the sum over h is unrolled, c stays in registers from step to step, and few
 * inputs are part of the same tile, so z is never in memory and their product is done while the step before waits for its
 * activations. Sums have the terms and the order of step_tile and small_step_tile.
 *
 * Registers: 4 sums a block (8 where the odd k have their own), c, a weight, an element of h.
 * Bound: 4 blocks (I + H) FMAs at two a cycle, then the chain of the cell; see cell_update.h. */

enum {
    ROW_BLOCKS = LK_HIDDEN_SIZE / LANES + (LK_HIDDEN_SIZE % LANES > 0),
    MOST_ROW_BLOCKS = 4,   /* 16 sums, for 16 registers of c_t, o and their like, on AVX-512; AVX2 keeps some on the stack */
    INPUTS_IN_THE_TILE = 8, /* more come from a product of their own, which needs their weights once a chunk */
    SUMMED_APART = LK_HIDDEN_SIZE <= FEW_UNITS,
    TILE_BLOCKS = ROW_BLOCKS <= MOST_ROW_BLOCKS ? ROW_BLOCKS : 1 /* 1: never used, and small */
};

#define TILE for (int p = 0; p < TILE_BLOCKS; p++)
#define GATES TILE for (int gate = 0; gate < 4; gate++)

/* acc += the recurrent product. */
INLINE void row_product(vec acc[][4], const real *h, const real *w)
{
    enum { R = LK_HIDDEN_SIZE };
    vec odd[TILE_BLOCKS][4];
    if (!SUMMED_APART) {
        _Pragma("GCC unroll 8")
        for (int k = 0; k < R; k++)
            multiply_add(1, TILE_BLOCKS, acc, h + k, 0, w + k * QUAD, R * QUAD);
        return;
    }
    GATES odd[p][gate] = v_splat(0);
    _Pragma("GCC unroll 16")
    for (int k = 0; k < R; k++)
        multiply_add(1, TILE_BLOCKS, k % 2 ? odd : acc, h + k, 0, w + k * QUAD, R * QUAD);
    GATES acc[p][gate] = v_add(acc[p][gate], odd[p][gate]);
}

/* One step: acc are the gates before the recurrent product; c and h are updated. */
INLINE void row_step(vec acc[][4], vec *c, real *h, const real *w_h)
{
    vec output[TILE_BLOCKS], h_t[TILE_BLOCKS];
    row_product(acc, h, w_h);
    TILE c[p] = cell_state(acc[p], c[p], &output[p]);
    cell_output(TILE_BLOCKS, c, output, h_t);
    TILE v_store(h + p * LANES, h_t[p]);
}

SEPARATE void run_row(group *g, int64_t s0, int64_t s1, const lk_span *a)
{
    const lk_layer *layer = g->layer;
    const int inputs_here = LK_INPUT_SIZE <= INPUTS_IN_THE_TILE;
    if (!inputs_here)
        input_product(layer, choose_inputs(g, s0, s1, 1, a), g->x, g->z, g->units);
    vec c[TILE_BLOCKS];
    TILE c[p] = v_load(g->c + p * LANES);
    for (int64_t s = s0; s < s1; s++) {
        vec acc[TILE_BLOCKS][4];
        load_quads(1, TILE_BLOCKS, acc, inputs_here ? (const real *)layer->bias : g->z + (s - s0) * g->z_stride, 0);
        const real *x = x_of(g, 0, s, a);
        if (inputs_here)
            for (int k = 0; k < LK_INPUT_SIZE; k++)
                multiply_add(1, TILE_BLOCKS, acc, x + k, 0, (const real *)layer->w_x + k * QUAD, LK_INPUT_SIZE * QUAD);
        row_step(acc, c, g->h, layer->w_h);
        copy_reals(out_of(g, 0, s, a), g->h, LK_HIDDEN_SIZE);
    }
    TILE v_store(g->c + p * LANES, c[p]);
}

/* Steps s0 .. s1 - 1 of a group of n rows, where that is one row that fits; whether it did. */
INLINE int one_row_steps(group *g, int64_t s0, int64_t s1, int64_t n, const lk_span *a)
{
    if (ROW_BLOCKS > MOST_ROW_BLOCKS || LK_PROJ_SIZE > 0 || n != 1 || a->size > 1)
        return 0;
    run_row(g, s0, s1, a);
    return 1;
}
#undef TILE
#undef GATES
