/* gradient_products.h - the two products of a backward pass: with the weights the other way round, d_h = d_z W, and over all rows of a
 * chunk, dW = d_z^T x. Both are sums over rows of "quads" of four vectors, one input of each of several rows at a time.
 *
 * Bound: FMAs, from a few rows on; rows * vectors of them for each k against `vectors` loads and `rows` broadcasts. */
#ifndef LK_GRADIENT_PRODUCTS_H
#define LK_GRADIENT_PRODUCTS_H
#include "kernels/record.h"

enum {
    WEIGHT_SLICE = 128 /* k of dW at once: a block's d_z of so many stays in L1 while all inputs pass by */
};

/* acc[r][v] += sum over k of x[r][k] * w[k][v], w_step apart; rows and vectors are constants at every call. */
INLINE void sum_up(const int rows, const int vectors, vec acc[][4], const real *const *x, int64_t K, const real *w,
                   int64_t w_step)
{
    for (int64_t k = 0; k < K; k++, w += w_step) {
        vec xk[MOST_TILE_ROWS];
        for (int r = 0; r < rows; r++)
            xk[r] = v_splat(x[r][k]);
        for (int v = 0; v < vectors; v++) {
            const vec wk = v_load(w + v * LANES);
            for (int r = 0; r < rows; r++)
                acc[r][v] = v_fma(wk, xk[r], acc[r][v]);
        }
    }
}

/* Call tile(rows, vectors, ...) for N rows in tiles of at most TILE_ROWS, evenly; `vectors` in 1..4. */
#define ROW_TILES(tile, vectors, N, ...)                                                                      \
    for (int64_t tiles_ = divide_up(N, TILE_ROWS), row_ = 0, rows_; tiles_ > 0; tiles_--, row_ += rows_) {    \
        rows_ = divide_up((N) - row_, tiles_);                                                                \
        switch (rows_) {                                                                                      \
        case 1: tile(1, vectors, row_, __VA_ARGS__); break;                                                   \
        case 2: if (TILE_ROWS >= 2) tile(2, vectors, row_, __VA_ARGS__); break;                               \
        case 3: if (TILE_ROWS >= 3) tile(3, vectors, row_, __VA_ARGS__); break;                               \
        case 4: if (TILE_ROWS >= 4) tile(4, vectors, row_, __VA_ARGS__); break;                               \
        case 5: if (TILE_ROWS >= 5) tile(5, vectors, row_, __VA_ARGS__); break;                               \
        case 6: if (TILE_ROWS >= 6) tile(6, vectors, row_, __VA_ARGS__); break;                               \
        }                                                                                                     \
    }

/* ---------------------------------------------------------------- the other way round */

/* y[n] = x[n] W or y[n] += x[n] W for rows n. */
typedef struct {
    const real *x; /* rows x_row apart, [K] */
    int64_t x_row, K;
    const real *w; /* [ceil(outputs / QUAD)][K][QUAD] */
    real *const *y; /* a pointer to each row, [outputs] */
    int64_t outputs;
    int add;
} product;

INLINE void product_tile(const int rows, const int vectors, int64_t row, int64_t vector, const product *p)
{
    const real *x[MOST_TILE_ROWS], *w = p->w + vector / 4 * p->K * QUAD + vector % 4 * LANES;
    vec acc[MOST_TILE_ROWS][4];
    for (int r = 0; r < rows; r++) {
        x[r] = p->x + (row + r) * p->x_row;
        for (int v = 0; v < vectors; v++)
            acc[r][v] = v_splat(0);
    }
    sum_up(rows, vectors, acc, x, p->K, w, QUAD);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            real *const y = p->y[row + r] + (vector + v) * LANES;
            const int64_t left = p->outputs - (vector + v) * LANES;
            v_store_n(y, p->add ? v_add(v_load_n(y, left), acc[r][v]) : acc[r][v], left);
        }
}

/* Of N rows, those vectors of outputs. */
SEPARATE void product_rows(const product *p, int64_t N, block_range vectors)
{
    for (int64_t vector = vectors.from, count; vector < vectors.to; vector += count) {
        count = smaller(4 - vector % 4, vectors.to - vector);
        switch (count) {
        case 1: ROW_TILES(product_tile, 1, N, vector, p) break;
        case 2: ROW_TILES(product_tile, 2, N, vector, p) break;
        case 3: ROW_TILES(product_tile, 3, N, vector, p) break;
        case 4: ROW_TILES(product_tile, 4, N, vector, p) break;
        }
    }
}

/* Quads of columns of w [K][outputs], each with its rows one after the other, for product_rows. */
static void pack_columns(real *to, const real *w, int64_t K, int64_t outputs, block_range quads)
{
    to += quads.from * K * QUAD;
    for (int64_t quad = quads.from; quad < quads.to; quad++) {
        const real *from = w + quad * QUAD;
        const int64_t n = outputs - quad * QUAD;
        for (int64_t k = 0; k < K; k++, from += outputs)
            for (int v = 0; v < 4; v++, to += LANES)
                v_store(to, v * LANES < n ? v_load_n(from + v * LANES, n - v * LANES) : v_splat(0));
    }
}

/* ---------------------------------------------------------------- over all rows */

/* d[quad][m][QUAD] += sum over k in 0 .. N - 1 of x[m][k] * z[k][quad]. */
typedef struct {
    const real *x; /* turned: inputs x_row apart, [N] */
    int64_t x_row, inputs, N;
    const real *z; /* rows z_row apart, vectors of them */
    int64_t z_row, vectors;
    real *d;
} weight_product;

INLINE void weight_tile(const int rows, const int vectors, int64_t row, int64_t quad, int64_t input, int64_t k0,
                        const weight_product *p)
{
    real *const d = p->d + (quad * p->inputs + input + row) * QUAD;
    const real *x[MOST_TILE_ROWS];
    vec acc[MOST_TILE_ROWS][4];
    for (int r = 0; r < rows; r++) {
        x[r] = p->x + (input + row + r) * p->x_row + k0;
        for (int v = 0; v < vectors; v++)
            acc[r][v] = v_load(d + r * QUAD + v * LANES);
    }
    sum_up(rows, vectors, acc, x, smaller(WEIGHT_SLICE, p->N - k0), p->z + k0 * p->z_row + quad * QUAD, p->z_row);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            v_store(d + r * QUAD + v * LANES, acc[r][v]);
}

/* Inputs first .. first + count - 1 of one quad. */
SEPARATE void weight_inputs(const weight_product *p, int64_t quad, int64_t first, int64_t count)
{
    for (int64_t k0 = 0; k0 < p->N; k0 += WEIGHT_SLICE)
        switch (smaller(4, p->vectors - 4 * quad)) {
        case 1: ROW_TILES(weight_tile, 1, count, quad, first, k0, p) break;
        case 2: ROW_TILES(weight_tile, 2, count, quad, first, k0, p) break;
        case 3: ROW_TILES(weight_tile, 3, count, quad, first, k0, p) break;
        case 4: ROW_TILES(weight_tile, 4, count, quad, first, k0, p) break;
        }
}

/* A thread's share, in whole tiles: of all inputs of all quads, one quad after the other. */
static void weight_gradient(const weight_product *p, const lk_team *team)
{
    const int64_t tiles = divide_up(p->inputs, TILE_ROWS);
    const block_range share = shared_out(team, divide_up(p->vectors, 4) * tiles);
    for (int64_t at = share.from, stop; at < share.to; at = stop) {
        const int64_t quad = at / tiles;
        stop = smaller(share.to, (quad + 1) * tiles);
        const int64_t first = at % tiles * TILE_ROWS;
        weight_inputs(p, quad, first, smaller(p->inputs, (stop - quad * tiles) * TILE_ROWS) - first);
    }
}

#endif
