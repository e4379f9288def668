/* gradient_products.h - the two products of a backward pass: d_h = d_z W, and over all rows of a chunk dW = d_z^T x.
 * Both are the sum of sum_up: x[r][k] for several rows r, times one block of four vectors (BLOCK_SIZE), for one k after
 * the other.
 *
 * Bound: FMAs, from a few rows on. Each k takes rows * vectors FMAs, `vectors` loads and `rows` broadcasts. */
#ifndef LK_GRADIENT_PRODUCTS_H
#define LK_GRADIENT_PRODUCTS_H
#include "kernels/team.h"
#include "kernels/tile.h"

/* The sum dW takes this many rows at once. Their d_z in one block stays in L1 while all inputs are read. */
enum { WEIGHT_SLICE = 128 };

/* acc[r][v] += sum over k of x[r][k] * w[k][v], w_step apart; rows and vectors are constants at every call. */
INLINE void sum_up(const int rows, const int vectors, vec acc[][4], const real *const *x, int64_t K, const real *w,
                   int64_t w_step)
{
    for (int64_t k = 0; k < K; k++, w += w_step) {
        vec xk[MOST_TILE_ROWS];
        for (int r = 0; r < rows; r++)
            xk[r] = v_splat(x[r][k]);
        add_products(rows, 1, vectors, acc, xk, w, 0);
    }
}

/* ---------------------------------------------------------------- d_h = d_z W */

/* y[n] = x[n] W or y[n] += x[n] W for rows n. */
typedef struct {
    const real *x; /* rows x_row apart, [K] */
    int64_t x_row, K;
    const real *w;  /* [ceil(outputs / BLOCK_SIZE)][K][BLOCK_SIZE] */
    real *const *y; /* a pointer to each row, [outputs] */
    int64_t outputs;
    int add;
} product_job;

INLINE void product_tile(const int rows, const int vectors, int64_t row, int64_t vector, const product_job *job)
{
    const real *x[MOST_TILE_ROWS], *w = job->w + vector / 4 * job->K * BLOCK_SIZE + vector % 4 * LANES;
    vec acc[MOST_TILE_ROWS][4];
    for (int r = 0; r < rows; r++) {
        x[r] = job->x + (row + r) * job->x_row;
        for (int v = 0; v < vectors; v++)
            acc[r][v] = v_splat(0);
    }
    sum_up(rows, vectors, acc, x, job->K, w, BLOCK_SIZE);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            real *const y = job->y[row + r] + (vector + v) * LANES;
            const int64_t left = job->outputs - (vector + v) * LANES;
            v_store_n(y, job->add ? v_add(v_load_n(y, left), acc[r][v]) : acc[r][v], left);
        }
}

/* `vectors` vectors of outputs, 1..4, of N rows, in tiles of nearly equal size. */
INLINE void product_tiles(const int vectors, int64_t N, int64_t vector, const product_job *job)
{
    for (int64_t tiles = divide_up(N, TILE_ROWS), row = 0, rows; tiles > 0; tiles--, row += rows) {
        rows = divide_up(N - row, tiles);
        WITH_CONSTANT(product_tile, rows, TILE_ROWS, vectors, row, vector, job);
    }
}

/* The product for N rows and these vectors of outputs. */
SEPARATE void product_rows(const product_job *job, int64_t N, range vectors)
{
    for (int64_t vector = vectors.from, count; vector < vectors.to; vector += count) {
        count = smaller(4 - vector % 4, vectors.to - vector);
        WITH_CONSTANT(product_tiles, count, 4, N, vector, job);
    }
}

/* Blocks of columns of w [K][outputs], each with its rows one after the other, for product_rows. */
static void pack_columns(real *to, const real *w, int64_t K, int64_t outputs, range blocks)
{
    to += blocks.from * K * BLOCK_SIZE;
    for (int64_t block = blocks.from; block < blocks.to; block++) {
        const real *from = w + block * BLOCK_SIZE;
        const int64_t n = outputs - block * BLOCK_SIZE;
        for (int64_t k = 0; k < K; k++, from += outputs)
            for (int v = 0; v < 4; v++, to += LANES)
                v_store(to, v * LANES < n ? v_load_n(from + v * LANES, n - v * LANES) : v_splat(0));
    }
}

/* ---------------------------------------------------------------- dW = d_z^T x */

/* d[block][m][BLOCK_SIZE] += sum over k in 0 .. N - 1 of x[m][k] * z[k][block]. */
typedef struct {
    const real *x; /* transposed: inputs x_row apart, [N] */
    int64_t x_row, inputs, N;
    const real *z; /* rows z_row apart, vectors of them */
    int64_t z_row, vectors;
    real *d;
} weight_job;

INLINE void weight_tile(const int rows, const int vectors, int64_t row, int64_t block, int64_t input, int64_t k0,
                        const weight_job *job)
{
    real *const d = job->d + (block * job->inputs + input + row) * BLOCK_SIZE;
    const real *x[MOST_TILE_ROWS];
    vec acc[MOST_TILE_ROWS][4];
    for (int r = 0; r < rows; r++) {
        x[r] = job->x + (input + row + r) * job->x_row + k0;
        for (int v = 0; v < vectors; v++)
            acc[r][v] = v_load(d + r * BLOCK_SIZE + v * LANES);
    }
    sum_up(rows, vectors, acc, x, smaller(WEIGHT_SLICE, job->N - k0), job->z + k0 * job->z_row + block * BLOCK_SIZE,
           job->z_row);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            v_store(d + r * BLOCK_SIZE + v * LANES, acc[r][v]);
}

/* Inputs first .. first + count - 1 of one block of `vectors` vectors, in tiles of nearly equal size. */
INLINE void weight_tiles(const int vectors, int64_t block, int64_t first, int64_t count, int64_t k0,
                         const weight_job *job)
{
    for (int64_t tiles = divide_up(count, TILE_ROWS), row = 0, rows; tiles > 0; tiles--, row += rows) {
        rows = divide_up(count - row, tiles);
        WITH_CONSTANT(weight_tile, rows, TILE_ROWS, vectors, row, block, first, k0, job);
    }
}

SEPARATE void weight_inputs(const weight_job *job, int64_t block, int64_t first, int64_t count)
{
    const int64_t vectors = smaller(4, job->vectors - 4 * block);
    for (int64_t k0 = 0; k0 < job->N; k0 += WEIGHT_SLICE)
        WITH_CONSTANT(weight_tiles, vectors, 4, block, first, count, k0, job);
}

/* A phase of the tiles that cover all inputs of all blocks, one block after the other. */
static void weight_gradient(const weight_job *job, lk_team *team)
{
    const int64_t tiles = divide_up(job->inputs, TILE_ROWS);
    FOR_PARTS (part, team, divide_up(job->vectors, 4) * tiles, 0)
        for (int64_t at = part.from, stop; at < part.to; at = stop) {
            const int64_t block = at / tiles;
            stop = smaller(part.to, (block + 1) * tiles);
            const int64_t first = at % tiles * TILE_ROWS;
            weight_inputs(job, block, first, smaller(job->inputs, (stop - block * tiles) * TILE_ROWS) - first);
        }
}

#endif
