/* input_product.h - pre-activations of all gates from the inputs of many rows: z = x W_ih^T + bias. */
#ifndef LK_INPUT_PRODUCT_H
#define LK_INPUT_PRODUCT_H
#include "kernels/sizes.h"
#include "kernels/tile.h"

INLINE int64_t blocks_of(int64_t units) { return divide_up(units, LANES); }

/* The four gates of each row and block; rows are row_stride apart. */
INLINE void load_tile(const int rows, const int blocks, vec acc[][4], const real *from, int64_t row_stride)
{
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++)
            for (int g = 0; g < 4; g++)
                acc[r * blocks + b][g] = v_load(from + r * row_stride + b * BLOCK_SIZE + g * LANES);
}

INLINE void store_tile(const int rows, const int blocks, vec acc[][4], real *to, int64_t row_stride)
{
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++)
            for (int g = 0; g < 4; g++)
                v_store(to + r * row_stride + b * BLOCK_SIZE + g * LANES, acc[r * blocks + b][g]);
}

#ifndef LK_I8

typedef struct {
    const lk_layer *layer;
    const real *const *x; /* a pointer to each row, [I] */
    real *z;              /* [N][blocks][4][LANES] */
    int64_t z_row;
} gate_matmul_job;

INLINE void gate_matmul_tile(const int rows, const int blocks, int64_t row, int64_t block, int line, const void *job_)
{
    const gate_matmul_job *job = job_;
    const int64_t I = input_size(job->layer);
    real *z = job->z + row * job->z_row + block * BLOCK_SIZE;
    vec acc[MOST_TILE_ROWS][4];
    load_tile(rows, blocks, acc, (const real *)job->layer->bias + block * BLOCK_SIZE, 0);
    accumulate(rows, blocks, acc, job->x + row, I, (const weight *)job->layer->w_x + block * I * BLOCK_SIZE, line);
    store_tile(rows, blocks, acc, z, job->z_row);
}

/* x: N pointers to rows. z: N whole rows, of which `blocks` are written. */
SEPARATE void input_product(const lk_layer *layer, int64_t N, const real *const *x, real *z, range blocks)
{
    const gate_matmul_job job = {.layer = layer, .x = x, .z = z, .z_row = blocks_of(hidden_size(layer)) * BLOCK_SIZE};
    sweep(TILE_ROWS, N, blocks, input_size(layer), 0, gate_matmul_tile, &job);
}

static int gate_matmul(const lk_layer *layer, int64_t N, const void *x, int64_t x_row, void *z)
{
    enum { ROWS_AT_ONCE = 96 };
    const real *rows[ROWS_AT_ONCE];
    const range all = {0, blocks_of(hidden_size(layer))};
    for (int64_t n0 = 0; n0 < N; n0 += ROWS_AT_ONCE) {
        const int64_t n = smaller(ROWS_AT_ONCE, N - n0);
        for (int64_t r = 0; r < n; r++)
            rows[r] = (const real *)x + (n0 + r) * x_row;
        input_product(layer, n, rows, (real *)z + n0 * all.to * BLOCK_SIZE, all);
    }
    return LK_OK;
}

#endif

#endif
