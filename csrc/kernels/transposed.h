/* transposed.h - a step of many rows of a layer of few units: the lanes of a vector are rows instead of units.
 *
 * 20 units use 63% of two vectors of 16 lanes, while 96 rows use all of six vectors. So the inputs and states of a row
 * group are transposed: [I][stride] and [H][stride] instead of [rows][...]. A tile is the four gates of one unit by up
 * to TILE_ROWS vectors of rows. The weights are broadcast, each from its place in the packed [block][K][4][LANES].
 * Units are few, so the weights are in L1. Every sum has the terms and the order of step_sums or, in layers of at most
 * FEW_UNITS, of small_step_sums, so it has the same bits.
 *
 * Bound: vectors * 4 FMAs for each input, against `vectors` loads and 4 broadcasts. */
#ifndef LK_TRANSPOSED_H
#define LK_TRANSPOSED_H
#include "kernels/cell.h"
#include "kernels/rows.h"
#include "kernels/transpose.h"

/* Element j of row r is at [j * stride + r]. */
typedef struct {
    const lk_layer *layer;
    int64_t stride;
    real *x, *h, *h_next, *c;
} transposed_group;

/* sums[v][g] += sum over every `skip`-th k < K of x[k][v] * w[k][g], where w are the weights of one unit. */
INLINE void accumulate_unit(const int vectors, vec sums[][4], const real *x, int64_t stride, int64_t K, int skip,
                            const real *w)
{
    for (int64_t k = 0; k < K; k += skip, x += skip * stride, w += skip * BLOCK_SIZE) {
        vec xk[MOST_TILE_ROWS];
        for (int v = 0; v < vectors; v++)
            xk[v] = v_load(x + v * LANES);
        for (int g = 0; g < 4; g++) {
            const vec wk = v_splat(w[g * LANES]);
            for (int v = 0; v < vectors; v++)
                sums[v][g] = v_fma(wk, xk[v], sums[v][g]);
        }
    }
}

/* One step of one unit in `vectors` vectors of rows. */
INLINE void unit_tile(const int vectors, int64_t unit, const transposed_group *group)
{
    const lk_layer *layer = group->layer;
    const int64_t I = input_size(layer), H = hidden_size(layer), block = unit / LANES, lane = unit % LANES;
    const real *bias = (const real *)layer->bias + block * BLOCK_SIZE + lane;
    const real *w_h = (const real *)layer->w_h + block * H * BLOCK_SIZE + lane;
    vec sums[MOST_TILE_ROWS][4];
    for (int v = 0; v < vectors; v++)
        for (int gate = 0; gate < 4; gate++)
            sums[v][gate] = v_splat(bias[gate * LANES]);
    accumulate_unit(vectors, sums, group->x, group->stride, I, 1,
                    (const real *)layer->w_x + block * I * BLOCK_SIZE + lane);
    if (H <= FEW_UNITS) { /* the odd k have a sum of their own, as in small_step_sums */
        vec odd[MOST_TILE_ROWS][4];
        clear_sums(vectors, odd);
        accumulate_unit(vectors, sums, group->h, group->stride, H, 2, w_h);
        accumulate_unit(vectors, odd, group->h + group->stride, group->stride, H - 1, 2, w_h + BLOCK_SIZE);
        add_sums(vectors, sums, odd);
    } else {
        accumulate_unit(vectors, sums, group->h, group->stride, H, 1, w_h);
    }
    real *const c = group->c + unit * group->stride, *const h = group->h_next + unit * group->stride;
    vec c_t[MOST_TILE_ROWS], output[MOST_TILE_ROWS], h_t[MOST_TILE_ROWS];
    UNROLLED
    for (int v = 0; v < vectors; v++) {
        c_t[v] = cell_state(sums[v], v_load(c + v * LANES), &output[v]);
        v_store(c + v * LANES, c_t[v]);
    }
    cell_output(vectors, c_t, output, h_t);
    UNROLLED
    for (int v = 0; v < vectors; v++)
        v_store(h + v * LANES, h_t[v]);
}

/* One step of the first `vectors` vectors of rows: h becomes h_t. */
SEPARATE void transposed_step(transposed_group *group, int64_t vectors)
{
    for (int64_t unit = 0; unit < hidden_size(group->layer); unit++)
        WITH_CONSTANT(unit_tile, vectors, TILE_ROWS, unit, group);
    real *h = group->h;
    group->h = group->h_next;
    group->h_next = h;
}

/* h or c of one row is a column here. */
INLINE void copy_column(real *to, const real *column, int64_t stride, int64_t H)
{
    for (int64_t unit = 0; unit < H; unit++)
        to[unit] = column[unit * stride];
}

INLINE void clear_column(real *column, int64_t stride, int64_t H)
{
    for (int64_t unit = 0; unit < H; unit++)
        column[unit * stride] = 0;
}

/* Place the arrays of n rows in the workspace, and fill them with the states before the first step. */
static transposed_group begin_transposed(row_group *group, int64_t n, const lk_task *task)
{
    const int64_t I = input_size(group->layer), H = hidden_size(group->layer), stride = group->rows;
    real *const x = group->z, *const h = x + I * stride;
    const transposed_group t = {group->layer, stride, x, h, h + H * stride, h + 2 * H * stride};
    clear_reals(x, (I + 3 * H) * stride); /* lanes without a row are computed, and never read */
    for (int64_t r = 0; r < n; r++)
        group->x[r] = h_of(group, r, task->read, task);
    transpose(t.h, stride, group->x, n, H);
    for (int64_t r = 0; r < n; r++)
        group->x[r] = c_of(group, r, task->read, task);
    transpose(t.c, stride, group->x, n, H);
    return t;
}

/* n rows over all their steps. Threads never share them. */
static void run_transposed_group(row_group *group, int64_t n, const lk_task *task)
{
    clear_past_ends(group, n, task);
    transposed_group t = begin_transposed(group, n, task);
    const int64_t I = input_size(group->layer), H = hidden_size(group->layer), stride = t.stride;
    int64_t active = still_active(group, n, 0);
    for (int64_t s = 0; active > 0; s++) {
        choose_inputs(group, s, s + 1, active, task);
        transpose(t.x, stride, group->x, active, I);
        for (int64_t r = 0; r < active; r++)
            if (starts_anew(group, r, s, task)) {
                clear_column(t.h + r, stride, H);
                clear_column(t.c + r, stride, H);
            }
        transposed_step(&t, divide_up(active, LANES));
        real *out[MOST_GROUP_ROWS];
        for (int64_t r = 0; r < active; r++)
            out[r] = out_of(group, r, s, task);
        transpose_back(out, t.h, stride, active, H);
        for (; active > 0 && group->length[active - 1] == s + 1; active--) {
            copy_column(h_of(group, active - 1, task->write, task), t.h + active - 1, stride, H);
            copy_column(c_of(group, active - 1, task->write, task), t.c + active - 1, stride, H);
        }
    }
}

#endif
