/* float_step.h - the products of a layer whose weights are numbers: of its inputs, of h, and of the projection.
 * integer_step.h has the same for 8-bit weights. */
#ifndef LK_FLOAT_STEP_H
#define LK_FLOAT_STEP_H
#include "kernels/dense.h"
#include "kernels/rows.h"

/* Most rows of a tile of a step, and whether layers of at most FEW_UNITS have tiles of their own. */
enum { STEP_ROWS = TILE_ROWS, FEW_ARE_SMALL = 1 };

/* How many times LANES * 4 weights lie along K inputs. */
INLINE int64_t weights_along(int64_t K) { return K; }

/* Nothing is to be done before the products of a phase: those of the inputs, of h, of the projection. */
INLINE void begin_inputs(row_group *group, int64_t z_rows) { (void)group, (void)z_rows; }
INLINE void begin_states(row_group *group, int64_t active) { (void)group, (void)active; }
INLINE void begin_projection(row_group *group, int64_t active) { (void)group, (void)active; }

/* z of z_rows rows, for the units at hand. */
INLINE void inputs_product(const row_group *group, int64_t z_rows)
{
    input_product(group->layer, z_rows, group->x, group->z, group->units);
}

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

INLINE void sweep_small_step(const row_group *group, int64_t active, tile_function *tile)
{
    sweep(SMALL_TILE_ROWS, active, group->units, output_size(group->layer), 0, tile, group);
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
