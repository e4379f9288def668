/* dense.h - y = activation(x W^T + bias): a Dense head or, linear and without bias, the projection of an LSTM. */
#ifndef LK_DENSE_H
#define LK_DENSE_H
#include "kernels/softmax.h"
#include "kernels/tile.h"

typedef struct {
    int64_t in_features, out_features;
    int activation;
    const weight *w;
    const real *bias; /* NULL for none */
    const real *x;
    int64_t x_row;
    real *y;
    int64_t y_row;
} dense_job;

INLINE void dense_tile(const int rows, const int blocks, int64_t row, int64_t block, int line, const void *job_)
{
    const dense_job *job = job_;
    const int64_t K = job->in_features;
    const real *x[MOST_TILE_ROWS];
    vec acc[MOST_TILE_ROWS][4];
    for (int r = 0; r < rows; r++) {
        x[r] = job->x + (row + r) * job->x_row;
        for (int b = 0; b < blocks; b++)
            for (int g = 0; g < 4; g++)
                acc[r * blocks + b][g] =
                    job->bias ? v_load(job->bias + (block + b) * BLOCK_SIZE + g * LANES) : v_splat(0);
    }
    accumulate(rows, blocks, acc, x, K, job->w + block * K * BLOCK_SIZE, line);
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++)
            for (int g = 0; g < 4; g++) {
                const int64_t column = (block + b) * BLOCK_SIZE + g * LANES, left = job->out_features - column;
                if (left > 0)
                    v_store_n(job->y + (row + r) * job->y_row + column,
                              activate(job->activation, acc[r * blocks + b][g]), left);
            }
}

SEPARATE void dense_rows(const dense_job *job, int64_t N, range blocks)
{
    sweep(TILE_ROWS, N, blocks, job->in_features, 0, dense_tile, job);
}

static int dense_forward(const lk_dense *dense, int64_t N, const void *x, int64_t x_row, void *y, int64_t y_row)
{
    const dense_job job = {.in_features = dense->in_features,
                           .out_features = dense->out_features,
                           .activation = dense->activation,
                           .w = dense->w,
                           .bias = dense->bias,
                           .x = x,
                           .x_row = x_row,
                           .y = y,
                           .y_row = y_row};
    dense_rows(&job, N, (range){0, divide_up(dense->out_features, BLOCK_SIZE)});
    if (dense->activation == LK_SOFTMAX) /* which to dense_tile is linear */
        for (int64_t row = 0; row < N; row++)
            softmax(job.y + row * y_row, dense->out_features);
    return LK_OK;
}

#endif
