/* transposed.h - a step of many rows of a layer of few units: the lanes of a vector are rows instead of units.
 *
 * 20 units fill two vectors of 16 to 63%, and the rest is computed in vain; 96 rows fill six whole ones. So the states and the
 * inputs of a group are turned, [H][stride] and [I][stride] instead of [rows][...], a tile is one unit's four gates by up to
 * TILE_ROWS vectors of rows, and weights are what is broadcast: each one straight from the packed [block][K][4][LANES], which
 * is in L1, for units are few. Every sum has the terms and the order that it has in step_tile, so the bits are the same.
 *
 * Bound: vectors * 4 FMAs for each input, against `vectors` loads and 4 broadcasts. */
#ifndef LK_TRANSPOSED_H
#define LK_TRANSPOSED_H
#include "kernels/cell.h"
#include "kernels/rows.h"

/* Four neighbours; a choice of four of a and b, 0..3 of a and 4..7 of b. */
typedef real four __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real))));
#ifdef __clang__
#define CHOOSE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#ifdef LK_F32
typedef int32_t four_places __attribute__((vector_size(16)));
#else
typedef int64_t four_places __attribute__((vector_size(32)));
#endif
#define CHOOSE(a, b, ...) __builtin_shuffle(a, b, (four_places){__VA_ARGS__})
#endif

/* to[j * to_stride][i] = from[i][j], i and j in 0..3. As loops, compilers take twice as long. */
INLINE void turn_square(real *const to[4], const real *const from[4])
{
    const four a = *(const four *)from[0], b = *(const four *)from[1];
    const four c = *(const four *)from[2], d = *(const four *)from[3];
    const four ab_low = CHOOSE(a, b, 0, 4, 1, 5), ab_high = CHOOSE(a, b, 2, 6, 3, 7);
    const four cd_low = CHOOSE(c, d, 0, 4, 1, 5), cd_high = CHOOSE(c, d, 2, 6, 3, 7);
    *(four *)to[0] = CHOOSE(ab_low, cd_low, 0, 1, 4, 5);
    *(four *)to[1] = CHOOSE(ab_low, cd_low, 2, 3, 6, 7);
    *(four *)to[2] = CHOOSE(ab_high, cd_high, 0, 1, 4, 5);
    *(four *)to[3] = CHOOSE(ab_high, cd_high, 2, 3, 6, 7);
}

/* Columns become rows: to[j * to_stride + i] = from[i][j], i in 0..rows-1, j in 0..columns-1. In squares of 4, the last of
 * which lie over those before where 4 does not divide. */
INLINE void turn(real *to, int64_t to_stride, const real *const *from, int64_t rows, int64_t columns)
{
    if (rows < 4 || columns < 4) {
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                to[j * to_stride + i] = from[i][j];
        return;
    }
    for (int64_t row = 0; row < rows; row += 4)
        for (int64_t column = 0; column < columns; column += 4) {
            const int64_t i = smaller(row, rows - 4), j = smaller(column, columns - 4);
            real *const t = to + j * to_stride + i;
            turn_square((real *const[]){t, t + to_stride, t + 2 * to_stride, t + 3 * to_stride},
                        (const real *const[]){from[i] + j, from[i + 1] + j, from[i + 2] + j, from[i + 3] + j});
        }
}

/* The other way: to[i][j] = from[j * from_stride + i]. */
INLINE void turn_back(real *const *to, const real *from, int64_t from_stride, int64_t rows, int64_t columns)
{
    if (rows < 4 || columns < 4) {
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                to[i][j] = from[j * from_stride + i];
        return;
    }
    for (int64_t row = 0; row < rows; row += 4)
        for (int64_t column = 0; column < columns; column += 4) {
            const int64_t i = smaller(row, rows - 4), j = smaller(column, columns - 4);
            const real *const f = from + j * from_stride + i;
            turn_square((real *const[]){to[i] + j, to[i + 1] + j, to[i + 2] + j, to[i + 3] + j},
                        (const real *const[]){f, f + from_stride, f + 2 * from_stride, f + 3 * from_stride});
        }
}

/* A group of rows, turned: element (row, j) at [j * stride + row]. */
typedef struct {
    const lk_layer *layer;
    int64_t stride;
    real *x, *h, *h_next, *c;
} crowd;

/* sums[v][g] += sum over k of x[k][v] * the unit's weights w[k][g]; every `skip`-th k of K. */
INLINE void accumulate_unit(const int vectors, vec sums[][4], const real *x, int64_t stride, int64_t K, int skip,
                            const real *w)
{
    for (int64_t k = 0; k < K; k += skip, x += skip * stride, w += skip * QUAD) {
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

INLINE void unit_tile(const int vectors, int64_t unit, const crowd *g)
{
    const lk_layer *layer = g->layer;
    const int64_t I = input_size(layer), H = hidden_size(layer), block = unit / LANES, lane = unit % LANES;
    const real *bias = (const real *)layer->bias + block * QUAD + lane;
    const real *w_h = (const real *)layer->w_h + block * H * QUAD + lane;
    vec sums[MOST_TILE_ROWS][4];
    for (int v = 0; v < vectors; v++)
        for (int gate = 0; gate < 4; gate++)
            sums[v][gate] = v_splat(bias[gate * LANES]);
    accumulate_unit(vectors, sums, g->x, g->stride, I, 1, (const real *)layer->w_x + block * I * QUAD + lane);
    if (H <= FEW_UNITS) { /* the odd k have a sum of their own, as in small_step_tile */
        vec odd[MOST_TILE_ROWS][4];
        for (int v = 0; v < vectors; v++)
            for (int gate = 0; gate < 4; gate++)
                odd[v][gate] = v_splat(0);
        accumulate_unit(vectors, sums, g->h, g->stride, H, 2, w_h);
        accumulate_unit(vectors, odd, g->h + g->stride, g->stride, H - 1, 2, w_h + QUAD);
        for (int v = 0; v < vectors; v++)
            for (int gate = 0; gate < 4; gate++)
                sums[v][gate] = v_add(sums[v][gate], odd[v][gate]);
    } else {
        accumulate_unit(vectors, sums, g->h, g->stride, H, 1, w_h);
    }
    real *const c = g->c + unit * g->stride, *const h = g->h_next + unit * g->stride;
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
SEPARATE void crowd_step(crowd *g, int64_t vectors)
{
    for (int64_t unit = 0; unit < hidden_size(g->layer); unit++)
        switch (vectors) {
        case 1: unit_tile(1, unit, g); break;
        case 2: if (TILE_ROWS >= 2) unit_tile(2, unit, g); break;
        case 3: if (TILE_ROWS >= 3) unit_tile(3, unit, g); break;
        case 4: if (TILE_ROWS >= 4) unit_tile(4, unit, g); break;
        case 5: if (TILE_ROWS >= 5) unit_tile(5, unit, g); break;
        case 6: if (TILE_ROWS >= 6) unit_tile(6, unit, g); break;
        }
    real *h = g->h;
    g->h = g->h_next;
    g->h_next = h;
}

/* A row's h and c, of which the group has a column each. */
INLINE void take_column(real *to, const real *column, int64_t stride, int64_t H)
{
    for (int64_t unit = 0; unit < H; unit++)
        to[unit] = column[unit * stride];
}

INLINE void clear_column(real *column, int64_t stride, int64_t H)
{
    for (int64_t unit = 0; unit < H; unit++)
        column[unit * stride] = 0;
}

/* n rows over all their steps; never shared by threads. */
static void run_transposed_group(row_group *group, int64_t n, const lk_task *task)
{
    const int64_t I = input_size(group->layer), H = hidden_size(group->layer), stride = group->rows;
    real *const x = group->z, *const h = x + I * stride;
    crowd g = {group->layer, stride, x, h, h + H * stride, h + 2 * H * stride};
    clear_reals(x, (I + 3 * H) * stride); /* lanes without a row: computed, never read */
    const real **rows = group->x;
    for (int64_t r = 0; r < n; r++)
        rows[r] = h_of(group, r, task->read, task);
    turn(g.h, stride, rows, n, H);
    for (int64_t r = 0; r < n; r++)
        rows[r] = c_of(group, r, task->read, task);
    turn(g.c, stride, rows, n, H);
    int64_t active = still_active(group, n, 0);
    for (int64_t s = 0; active > 0; s++) {
        choose_inputs(group, s, s + 1, active, task);
        turn(g.x, stride, rows, active, I);
        for (int64_t r = 0; r < active; r++)
            if (starts_anew(group, r, s, task)) {
                clear_column(g.h + r, stride, H);
                clear_column(g.c + r, stride, H);
            }
        crowd_step(&g, divide_up(active, LANES));
        real *out[MOST_GROUP_ROWS];
        for (int64_t r = 0; r < active; r++)
            out[r] = out_of(group, r, s, task);
        turn_back(out, g.h, stride, active, H);
        for (; active > 0 && group->length[active - 1] == s + 1; active--) {
            take_column(h_of(group, active - 1, task->write, task), g.h + active - 1, stride, H);
            take_column(c_of(group, active - 1, task->write, task), g.c + active - 1, stride, H);
        }
    }
}

#endif
