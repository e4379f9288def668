/* one_row.h - the steps of one row of a layer whose sizes are constants and whose blocks all fit one tile.
 *
 * Known sizes allow three things.
 *   The sum over h is unrolled, and c stays in registers from step to step.
 *   The inputs are part of the same tile. So z is never in memory, and the product of the inputs is computed while the
 *   step before waits for its activations.
 *   Where the last block is at most half full, its gates share vectors. With 16 lanes, 40 units are two blocks and
 *   8 units more: i and f of those share a vector, and g and o another. Their weights are packed anew for that, which
 *   pays in a run of many steps.
 * Sums have the terms and the order of step_sums and small_step_sums.
 *
 * Registers: 4 sums a block (8 where the odd k have their own), c, a weight, an element of h.
 * Bound: two vectors of weights a cycle, because they are in L1; then the chain of the cell, see cell.h. */
#ifndef LK_ONE_ROW_H
#define LK_ONE_ROW_H
#include "kernels/cell.h"
#include "kernels/rows.h"

#ifdef LK_HIDDEN_SIZE

/* Four blocks have 16 sums. AVX-512 has 16 more registers, for c, o and the rest. AVX2 keeps some on the stack. */
enum { MOST_ROW_BLOCKS = 4 };

/* Most bytes of weights for one tile. L1 has 32 or 48 KiB; from L2, one stream is faster than four. */
enum { ONE_TILE_BYTES = 40 << 10 };

/* Packing the weights of the last block pays from so many steps on. */
enum { MIN_PACKED_STEPS = 64 };

/* Whether all blocks are one tile, and whether the inputs are part of it. INPUT_BYTES: the weights of one input. */
enum {
    ALL_BLOCKS = LK_HIDDEN_SIZE / LANES + (LK_HIDDEN_SIZE % LANES > 0),
    INPUT_BYTES = ALL_BLOCKS * BLOCK_SIZE * (int)sizeof(real),
    ONE_TILE =
        ALL_BLOCKS <= MOST_ROW_BLOCKS && LK_PROJ_SIZE == 0 && LK_HIDDEN_SIZE * (int64_t)INPUT_BYTES <= ONE_TILE_BYTES,
    INPUTS_HERE = ONE_TILE && (LK_INPUT_SIZE + LK_HIDDEN_SIZE) * (int64_t)INPUT_BYTES <= ONE_TILE_BYTES,
};

/* Blocks of the tile. Where there is none, the functions below are compiled for 1 and not used. */
enum { ROW_BLOCKS = ONE_TILE ? ALL_BLOCKS : 1 };

/* The four gates of the last block share REST vectors. REST is 1 or 2; it is 4, as in all other blocks, if the last
 * block is more than half full. The packed bias, w_x and w_h of the last block lie where z would be, and need the room
 * of PACKED_STEPS steps of z. */
enum {
    LAST_UNITS = LK_HIDDEN_SIZE % LANES,
    REST = LAST_UNITS == 0           ? 4
           : LAST_UNITS <= LANES / 4 ? 1
           : LAST_UNITS <= LANES / 2 ? 2
                                     : 4,
    PACKED_REALS = (1 + LK_INPUT_SIZE + LK_HIDDEN_SIZE) * REST * LANES,
    PACKED_STEPS = PACKED_REALS / (ROW_BLOCKS * BLOCK_SIZE) + 1,
    STEPS_WORTH_PACKING = PACKED_STEPS > MIN_PACKED_STEPS ? PACKED_STEPS : MIN_PACKED_STEPS,
};

/* Sums before activation: of whole blocks, and of a last one whose gates share vectors. `rest`, a constant at every
 * call, is the number of those vectors: REST, or 0 where no block is treated so. */
typedef struct {
    vec whole[ROW_BLOCKS][4], rest[REST];
} row_sums;

INLINE int whole_blocks(const int rest) { return ROW_BLOCKS - (rest > 0); }

/* Weights of a product: [block][K][4][LANES] and, of the last block, [K][REST][LANES]. */
typedef struct {
    const real *whole, *rest;
} row_weights;

/* sums += x w of one input k of K. */
INLINE void add_input(const int rest, row_sums *sums, const real *x, row_weights w, int k, int K)
{
    multiply_add(1, whole_blocks(rest), sums->whole, x + k, 0, w.whole + k * BLOCK_SIZE, K * BLOCK_SIZE);
    for (int r = 0; r < rest; r++)
        sums->rest[r] = v_fma(v_load(w.rest + (k * REST + r) * LANES), v_splat(x[k]), sums->rest[r]);
}

/* sums += h w. */
INLINE void add_recurrent(const int rest, row_sums *sums, const real *h, row_weights w)
{
#pragma GCC unroll 8
    for (int k = 0; k < LK_HIDDEN_SIZE; k++)
        add_input(rest, sums, h, w, k, LK_HIDDEN_SIZE);
}

/* The same in two sums: for layers of at most FEW_UNITS. */
INLINE void add_recurrent_small(const int rest, row_sums *sums, const real *h, row_weights w)
{
    row_sums odd;
    clear_sums(whole_blocks(rest), odd.whole);
    for (int r = 0; r < rest; r++)
        odd.rest[r] = v_splat(0);
#pragma GCC unroll 16
    for (int k = 0; k < LK_HIDDEN_SIZE; k++)
        add_input(rest, k % 2 ? &odd : sums, h, w, k, LK_HIDDEN_SIZE);
    add_sums(whole_blocks(rest), sums->whole, odd.whole);
    for (int r = 0; r < rest; r++)
        sums->rest[r] = v_add(sums->rest[r], odd.rest[r]);
}

/* Each gate of the last block gets a vector of its own, from lane 0 on. Lanes past its units are never read. */
INLINE void spread_rest(row_sums *sums)
{
    enum { GATES_A_VECTOR = 4 / REST };
    for (int gate = 0; gate < 4; gate++)
        sums->whole[ROW_BLOCKS - 1][gate] = v_rotate(sums->rest[gate / GATES_A_VECTOR], gate % GATES_A_VECTOR * REST);
}

/* [K][4][LANES] of the last block becomes [K][REST][LANES]. */
INLINE void pack_rest(real *to, const real *from, int K)
{
    enum { UNITS = REST * LANES / 4 };
    for (int i = 0; i < 4 * K; i++)
        copy_reals(to + i * UNITS, from + i * LANES, UNITS);
}

INLINE void run_row(const int rest, row_group *group, int64_t s0, int64_t s1, const lk_task *task)
{
    enum { I = LK_INPUT_SIZE, H = LK_HIDDEN_SIZE, LAST = ROW_BLOCKS - 1 };
    const lk_layer *layer = group->layer;
    const real *bias = layer->bias;
    row_weights w_x = {layer->w_x, NULL}, w_h = {layer->w_h, NULL};
    real *const bias_rest = group->z; /* where there is a rest, z is not used: the inputs are part of the tile */
    if (rest) {
        real *const x_rest = bias_rest + REST * LANES, *const h_rest = x_rest + I * REST * LANES;
        pack_rest(bias_rest, bias + LAST * BLOCK_SIZE, 1);
        pack_rest(x_rest, w_x.whole + LAST * I * BLOCK_SIZE, I);
        pack_rest(h_rest, w_h.whole + LAST * H * BLOCK_SIZE, H);
        w_x.rest = x_rest;
        w_h.rest = h_rest;
    }
    vec c[ROW_BLOCKS];
    for (int block = 0; block < ROW_BLOCKS; block++)
        c[block] = v_load(group->c + block * LANES);
    for (int64_t s = s0; s < s1; s++) {
        row_sums sums;
        vec output[ROW_BLOCKS], h_t[ROW_BLOCKS];
        const real *x = x_of(group, 0, s, task), *first = INPUTS_HERE ? bias : group->z + (s - s0) * group->z_stride;
        load_tile(1, whole_blocks(rest), sums.whole, first, 0);
        for (int r = 0; r < rest; r++)
            sums.rest[r] = v_load(bias_rest + r * LANES);
        for (int k = 0; k < (INPUTS_HERE ? I : 0); k++)
            add_input(rest, &sums, x, w_x, k, I);
        if (LK_HIDDEN_SIZE <= FEW_UNITS)
            add_recurrent_small(rest, &sums, group->h, w_h);
        else
            add_recurrent(rest, &sums, group->h, w_h);
        if (rest)
            spread_rest(&sums);
        for (int block = 0; block < ROW_BLOCKS; block++)
            c[block] = cell_state(sums.whole[block], c[block], &output[block]);
        cell_output(ROW_BLOCKS, c, output, h_t);
        for (int block = 0; block < ROW_BLOCKS; block++)
            v_store(group->h + block * LANES, h_t[block]);
        copy_reals(out_of(group, 0, s, task), group->h, H);
    }
    for (int block = 0; block < ROW_BLOCKS; block++)
        v_store(group->c + block * LANES, c[block]);
}

SEPARATE void run_row_packed(row_group *group, int64_t s0, int64_t s1, const lk_task *task)
{
    run_row(REST < 4 ? REST : 0, group, s0, s1, task);
}
SEPARATE void run_row_plain(row_group *group, int64_t s0, int64_t s1, const lk_task *task)
{
    run_row(0, group, s0, s1, task);
}

/* Give the caller the row's states, if step s1 - 1 was its last one. */
INLINE void report_row(const row_group *group, int64_t s1, const lk_task *task)
{
    if (s1 < group->length[0])
        return;
    copy_reals(h_of(group, 0, task->write, task), group->h, LK_HIDDEN_SIZE);
    copy_reals(c_of(group, 0, task->write, task), group->c, LK_HIDDEN_SIZE);
}

INLINE int can_be_one_row(int64_t n, const lk_task *task)
{
    return ONE_TILE && n == 1 && is_alone(task->team) && !task->reset;
}

/* Take steps s0 .. s1 - 1. */
INLINE void one_row_steps(row_group *group, int64_t s0, int64_t s1, const lk_task *task)
{
    if (!INPUTS_HERE) {
        const range all = {0, ALL_BLOCKS};
        input_product(group->layer, choose_inputs(group, s0, s1, 1, task), group->x, group->z, all);
        run_row_plain(group, s0, s1, task);
    } else if (REST < 4 && s1 - s0 >= STEPS_WORTH_PACKING) {
        run_row_packed(group, s0, s1, task);
    } else {
        run_row_plain(group, s0, s1, task);
    }
    report_row(group, s1, task);
}

#else

INLINE int can_be_one_row(int64_t n, const lk_task *task)
{
    (void)n, (void)task;
    return 0;
}
INLINE void one_row_steps(row_group *group, int64_t s0, int64_t s1, const lk_task *task)
{
    (void)group, (void)s0, (void)s1, (void)task;
}

#endif

#endif
