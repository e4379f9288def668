/* one_row.h - the steps of one row of a layer whose sizes are constants, of few blocks, all of them in one tile.
 *
 * What sizes known beforehand are good for: the sum over h is unrolled, c stays in registers from step to step, and the
 * inputs are part of the same tile, so z is never in memory and their product is done while the step before waits for its
 * activations. And where the last block is at most half full, its gates share vectors: 40 units are 2 blocks of 16, and 8
 * whose i and f, and g and o, are a vector each, packed anew for a run of many steps. Sums have the terms and the order of
 * step_tile and small_step_tile.
 *
 * Registers: 4 sums a block (8 where the odd k have their own), c, a weight, an element of h.
 * Only where the weights are in L1. Bound: their vectors at two a cycle, then the chain of the cell; see cell.h. */
#ifndef LK_ONE_ROW_H
#define LK_ONE_ROW_H
#include "kernels/cell.h"
#include "kernels/rows.h"

#ifdef LK_HIDDEN_SIZE

enum {
    ROW_BLOCKS = LK_HIDDEN_SIZE / LANES + (LK_HIDDEN_SIZE % LANES > 0),
    MOST_ROW_BLOCKS = 4,   /* 16 sums, for 16 registers of c_t, o and their like, on AVX-512; AVX2 keeps some on the stack */
    NEAR_BYTES = 40 << 10, /* of weights: L1 has 32 or 48 KiB; from further away one stream comes faster than four */
    INPUT_BYTES = ROW_BLOCKS * QUAD * (int)sizeof(real), /* weights of one input */
    ONE_TILE = ROW_BLOCKS <= MOST_ROW_BLOCKS && LK_HIDDEN_SIZE * (int64_t)INPUT_BYTES <= NEAR_BYTES && LK_PROJ_SIZE == 0,
    INPUTS_HERE = ONE_TILE && (LK_INPUT_SIZE + LK_HIDDEN_SIZE) * (int64_t)INPUT_BYTES <= NEAR_BYTES, /* else a product alone */
    SUMMED_APART = LK_HIDDEN_SIZE <= FEW_UNITS,
    TILE_BLOCKS = ONE_TILE ? ROW_BLOCKS : 1, /* 1: never used, and small */
    LAST_UNITS = LK_HIDDEN_SIZE % LANES,
#ifdef __clang__ /* its shuffles want literals */
    GATES_A_VECTOR = 1,
#else
    GATES_A_VECTOR = LAST_UNITS == 0 ? 1 : LAST_UNITS <= LANES / 4 ? 4 : LAST_UNITS <= LANES / 2 ? 2 : 1, /* of the last block */
#endif
    REST = 4 / GATES_A_VECTOR,      /* its vectors */
    PACKED_REALS = (1 + LK_INPUT_SIZE + LK_HIDDEN_SIZE) * REST * LANES, /* of bias, w_x and w_h; they lie where z of */
    PACKED_STEPS = PACKED_REALS / (ROW_BLOCKS * QUAD) + 1,              /* so many steps would, */
    STEPS_WORTH_PACKING = PACKED_STEPS > 64 ? PACKED_STEPS : 64
};

/* Sums before activation: of whole blocks, and of a last one whose gates share vectors. `shared` is a constant at every
 * call: 1 where there is such a one. */
typedef struct {
    vec whole[TILE_BLOCKS][4], rest[REST];
} row_sums;

#define TILE for (int p = 0; p < TILE_BLOCKS; p++)
#define WHOLE for (int p = 0; p < TILE_BLOCKS - shared; p++) for (int gate = 0; gate < 4; gate++)
#define EACH_REST for (int r = 0; r < (shared ? REST : 0); r++)

/* Weights of a product [block][K][4][LANES] and, of the last block, [K][REST][LANES]. */
typedef struct {
    const real *whole, *rest;
} row_weights;

/* sums += x w of one input k of K. */
INLINE void add_input(const int shared, row_sums *sums, const real *x, row_weights w, int k, int K)
{
    multiply_add(1, TILE_BLOCKS - shared, sums->whole, x + k, 0, w.whole + k * QUAD, K * QUAD);
    EACH_REST sums->rest[r] = v_fma(v_load(w.rest + (k * REST + r) * LANES), v_splat(x[k]), sums->rest[r]);
}

/* sums += the recurrent product. */
INLINE void row_product(const int shared, row_sums *sums, const real *h, row_weights w)
{
    if (!SUMMED_APART) {
        _Pragma("GCC unroll 8")
        for (int k = 0; k < LK_HIDDEN_SIZE; k++)
            add_input(shared, sums, h, w, k, LK_HIDDEN_SIZE);
        return;
    }
    row_sums odd;
    WHOLE odd.whole[p][gate] = v_splat(0);
    EACH_REST odd.rest[r] = v_splat(0);
    _Pragma("GCC unroll 16")
    for (int k = 0; k < LK_HIDDEN_SIZE; k++)
        add_input(shared, k % 2 ? &odd : sums, h, w, k, LK_HIDDEN_SIZE);
    WHOLE sums->whole[p][gate] = v_add(sums->whole[p][gate], odd.whole[p][gate]);
    EACH_REST sums->rest[r] = v_add(sums->rest[r], odd.rest[r]);
}

/* The gates of the last block, each from lane 0 on; what follows its units is computed with, and never read. */
INLINE void part_gates(row_sums *sums)
{
#ifdef __clang__
    (void)sums;
#else
#ifdef LK_F32
    typedef int32_t places __attribute__((vector_size(sizeof(vec))));
#else
    typedef int64_t places __attribute__((vector_size(sizeof(vec))));
#endif
    for (int gate = 0; gate < 4; gate++) {
        places from;
        for (int lane = 0; lane < LANES; lane++)
            from[lane] = (lane + gate % GATES_A_VECTOR * (LANES / GATES_A_VECTOR)) % LANES;
        sums->whole[TILE_BLOCKS - 1][gate] = __builtin_shuffle(sums->rest[gate / GATES_A_VECTOR], from);
    }
#endif
}

/* [K][4][LANES] of the last block becomes [K][REST][LANES]. */
INLINE void pack_rest(real *to, const real *from, int K)
{
    enum { UNITS = LANES / GATES_A_VECTOR };
    for (int i = 0; i < 4 * K; i++)
        copy_reals(to + i * UNITS, from + i * LANES, UNITS);
}

INLINE void run_row(const int shared, row_group *group, int64_t s0, int64_t s1, const lk_task *task)
{
    enum { I = LK_INPUT_SIZE, H = LK_HIDDEN_SIZE, LAST = TILE_BLOCKS - 1 };
    const lk_layer *layer = group->layer;
    const real *bias = layer->bias;
    row_weights w_x = {layer->w_x, NULL}, w_h = {layer->w_h, NULL};
    const real *bias_rest = NULL;
    if (shared) { /* z has no other use here, and room for PACKED_STEPS */
        real *packed = group->z;
        pack_rest(packed, bias + LAST * QUAD, 1);
        pack_rest(packed + REST * LANES, w_x.whole + LAST * I * QUAD, I);
        pack_rest(packed + (1 + I) * REST * LANES, w_h.whole + LAST * H * QUAD, H);
        bias_rest = packed;
        w_x.rest = packed + REST * LANES;
        w_h.rest = packed + (1 + I) * REST * LANES;
    }
    vec c[TILE_BLOCKS];
    TILE c[p] = v_load(group->c + p * LANES);
    for (int64_t s = s0; s < s1; s++) {
        row_sums sums;
        vec output[TILE_BLOCKS], h_t[TILE_BLOCKS];
        const real *x = x_of(group, 0, s, task), *first = INPUTS_HERE ? bias : group->z + (s - s0) * group->z_stride;
        load_quads(1, TILE_BLOCKS - shared, sums.whole, first, 0);
        EACH_REST sums.rest[r] = v_load(bias_rest + r * LANES);
        for (int k = 0; k < (INPUTS_HERE ? I : 0); k++)
            add_input(shared, &sums, x, w_x, k, I);
        row_product(shared, &sums, group->h, w_h);
        if (shared)
            part_gates(&sums);
        TILE c[p] = cell_state(sums.whole[p], c[p], &output[p]);
        cell_output(TILE_BLOCKS, c, output, h_t);
        TILE v_store(group->h + p * LANES, h_t[p]);
        copy_reals(out_of(group, 0, s, task), group->h, H);
    }
    TILE v_store(group->c + p * LANES, c[p]);
}

SEPARATE void run_row_packed(row_group *group, int64_t s0, int64_t s1, const lk_task *task)
{
    run_row(GATES_A_VECTOR > 1, g, s0, s1, task);
}
SEPARATE void run_row_plain(row_group *group, int64_t s0, int64_t s1, const lk_task *task) { run_row(0, g, s0, s1, task); }

/* Steps s0 .. s1 - 1 of a group of n rows, where that is one row that fits; whether it did. */
INLINE int one_row_steps(row_group *group, int64_t s0, int64_t s1, int64_t n, const lk_task *task)
{
    if (!ONE_TILE || n != 1 || task->team.size > 1 || task->reset)
        return 0;
    if (!INPUTS_HERE) {
        input_product(group->layer, choose_inputs(group, s0, s1, 1, task), group->x, group->z, group->units);
        run_row_plain(group, s0, s1, task);
    } else if (GATES_A_VECTOR > 1 && s1 - s0 >= STEPS_WORTH_PACKING) {
        run_row_packed(group, s0, s1, task);
    } else {
        run_row_plain(group, s0, s1, task);
    }
    return 1;
}
#undef TILE
#undef WHOLE
#undef EACH_REST

#else

INLINE int one_row_steps(row_group *group, int64_t s0, int64_t s1, int64_t n, const lk_task *task)
{
    (void)group, (void)s0, (void)s1, (void)n, (void)task;
    return 0;
}

#endif

#endif
