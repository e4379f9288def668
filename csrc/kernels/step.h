/* step.h - one step of a row group, for every kind of layer: layer_forward.h, record.h and variant.h.
 *
 *   1 tiles     a phase of blocks of units: z of the inputs plus the recurrent product, then the cell. Each kind has its
 *               own tiles
 *   2 project   in a layer with a projection, a phase of blocks of outputs: h = W_hr (o * tanh(c))
 *
 * Then h_next becomes h.
 *
 * Bounds: a step of several rows is FMA-bound; a step of one row streams W_hh from the nearest cache that holds it;
 * a step of a small layer waits for a chain of dependent operations: the FMAs over h, then sigmoid, tanh and the
 * update. */
#ifndef LK_STEP_H
#define LK_STEP_H
#include "kernels/cell.h"
#include "kernels/dense.h"
#include "kernels/rows.h"

/* Tiles of a layer of at most FEW_UNITS have two sums for each pre-activation. */
enum { SMALL_TILE_ROWS = TILE_ROWS < 2 ? 1 : TILE_ROWS / 2 };

/* The pre-activations of a tile: z of the inputs plus the recurrent product. Returns the place of z of the inputs. */
INLINE real *step_sums(const int rows, const int blocks, vec acc[][4], int64_t row, int64_t block, int line,
                       const row_group *group)
{
    const int64_t R = output_size(group->layer);
    real *const z = group->z_now + row * group->z_stride + block * BLOCK_SIZE;
    const real *h[MOST_TILE_ROWS];
    for (int r = 0; r < rows; r++)
        h[r] = group->h + (row + r) * group->h_stride;
    load_tile(rows, blocks, acc, z, group->z_stride);
    accumulate(rows, blocks, acc, h, R, (const weight *)group->layer->w_h + block * R * BLOCK_SIZE, line);
    return z;
}

/* The same for layers of at most FEW_UNITS. The sum over h has two parts: that of the even k goes on from the inputs'
 * sum, that of the odd k begins with zero. So the chain of dependent FMAs, which takes much of a small layer's step, is
 * half as long. */
INLINE void small_step_sums(const int rows, const int blocks, vec acc[][4], int64_t row, int64_t block,
                            const row_group *group)
{
    const int64_t R = output_size(group->layer);
    const weight *w = (const weight *)group->layer->w_h + block * R * BLOCK_SIZE;
    vec odd[MOST_TILE_ROWS][4];
    load_tile(rows, blocks, acc, group->z_now + row * group->z_stride + block * BLOCK_SIZE, group->z_stride);
    clear_sums(rows * blocks, odd);
    const real *h = group->h + row * group->h_stride;
    int64_t k = 0;
    for (; k + 2 <= R; k += 2) {
        multiply_add(rows, blocks, acc, h + k, group->h_stride, w + k * BLOCK_SIZE, R * BLOCK_SIZE);
        multiply_add(rows, blocks, odd, h + k + 1, group->h_stride, w + (k + 1) * BLOCK_SIZE, R * BLOCK_SIZE);
    }
    if (k < R)
        multiply_add(rows, blocks, acc, h + k, group->h_stride, w + k * BLOCK_SIZE, R * BLOCK_SIZE);
    add_sums(rows * blocks, acc, odd);
}

/* A function for all tiles of one kind of step. It writes c and `reported` of the first `active` rows and of the units at
 * hand. */
typedef void tiles_function(const row_group *group, int64_t active);

/* Choose the tiles by the number of rows and units. Each of the three functions is separate (SEPARATE), because in one
 * larger function the loops of the tiles lose registers to each other. */
INLINE void sweep_step(const row_group *group, int64_t active, tiles_function *small_tiles,
                       void (*row_tiles)(const row_group *group), tiles_function *rows_tiles)
{
    if (hidden_size(group->layer) <= FEW_UNITS)
        small_tiles(group, active);
    else if (active == 1)
        row_tiles(group);
    else
        rows_tiles(group, active);
}
INLINE void sweep_small_step(const row_group *group, int64_t active, tile_function *tile)
{
    sweep(SMALL_TILE_ROWS, active, group->units, output_size(group->layer), 0, tile, group);
}
INLINE void sweep_row_step(const row_group *group, tile_function *tile)
{
    sweep_row(group->units, output_size(group->layer), group->backwards, tile, group);
}
INLINE void sweep_rows_step(const row_group *group, int64_t active, tile_function *tile)
{
    sweep_rows(TILE_ROWS, active, group->units, output_size(group->layer), tile, group);
}

/* Before a step: where the cell writes o * tanh(c). */
INLINE void begin_step(row_group *group) { group->reported = proj_size(group->layer) ? group->hidden : group->h_next; }

/* After a step: h_next becomes h. */
INLINE void end_step(row_group *group)
{
    real *h = group->h;
    group->h = group->h_next;
    group->h_next = h;
    group->backwards = !group->backwards;
}

/* h_next from `hidden`, for the outputs at hand. */
INLINE void project(const row_group *group, int64_t active)
{
    const lk_layer *layer = group->layer;
    const dense_job projection = {.in_features = hidden_size(layer),
                                  .out_features = proj_size(layer),
                                  .activation = LK_LINEAR,
                                  .w = layer->w_r,
                                  .x = group->hidden,
                                  .x_row = group->c_stride,
                                  .y = group->h_next,
                                  .y_row = group->h_stride};
    dense_rows(&projection, active, group->outputs);
}

#endif
