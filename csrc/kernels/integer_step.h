/* integer_step.h - the products of a layer with 8-bit weights: of its inputs, of h, and of the projection. They take the
 * place of those in input_product.h and step.h.
 *
 * Each thread of a team makes integers of all rows for itself, because every unit needs all of them. It does so when it
 * has got its first part of a phase: until that part is done, nobody writes h. */
#ifndef LK_INTEGER_STEP_H
#define LK_INTEGER_STEP_H
#include "kernels/quantized.h"
#include "kernels/rows.h"

/* Most rows of a tile of a step. Layers of few units are as all others. */
enum { STEP_ROWS = DOT_ROWS, FEW_ARE_SMALL = 0 };

/* How many times LANES * 4 words lie along K inputs. */
INLINE int64_t weights_along(int64_t K) { return groups_of(K); }

/* Integers of rows of `width` numbers; see quantize_row. */
SEPARATE void quantize_rows(row_group *group, const real *from, int64_t stride, int64_t width, int64_t rows,
                            int bounded)
{
    group->integers.K = width;
    for (int64_t r = 0; r < rows; r++)
        quantize_row(&group->integers, r, from + r * stride, bounded);
}
SEPARATE void begin_inputs(row_group *group, int64_t z_rows)
{
    group->integers.K = input_size(group->layer);
    for (int64_t r = 0; r < z_rows; r++)
        quantize_row(&group->integers, r, group->x[r], 0);
}
INLINE void begin_states(row_group *group, int64_t active)
{
    const lk_layer *layer = group->layer;
    quantize_rows(group, group->h, group->h_stride, output_size(layer), active, !proj_size(layer));
}
INLINE void begin_projection(row_group *group, int64_t active)
{
    quantize_rows(group, group->hidden, group->c_stride, hidden_size(group->layer), active, 1);
}

INLINE void integer_input_tile(const int rows, const int blocks, int64_t row, int64_t block, int line, const void *job)
{
    const row_group *group = job;
    const lk_layer *layer = group->layer;
    const lk_scales *scales = layer->scales;
    real *z = group->z + row * group->z_stride + block * BLOCK_SIZE;
    vec acc[MOST_TILE_ROWS][4];
    load_tile(rows, blocks, acc, (const real *)layer->bias + block * BLOCK_SIZE, 0);
    accumulate_integers(rows, blocks, acc, &group->integers, row,
                        from_block(layer->w_x, scales->x, scales->x_offset, block, input_size(layer)), line);
    store_tile(rows, blocks, acc, z, group->z_stride);
}

/* z of z_rows rows, for the units at hand. */
SEPARATE void inputs_product(const row_group *group, int64_t z_rows)
{
    sweep(DOT_ROWS, z_rows, group->units, groups_of(input_size(group->layer)), 0, integer_input_tile, group);
}

/* z of the inputs plus the recurrent product. */
INLINE real *step_sums(const int rows, const int blocks, vec acc[][4], int64_t row, int64_t block, int line,
                       const row_group *group)
{
    const lk_layer *layer = group->layer;
    const lk_scales *scales = layer->scales;
    real *const z = group->z_now + row * group->z_stride + block * BLOCK_SIZE;
    load_tile(rows, blocks, acc, z, group->z_stride);
    accumulate_integers(rows, blocks, acc, &group->integers, row,
                        from_block(layer->w_h, scales->h, scales->h_offset, block, output_size(layer)), line);
    return z;
}

INLINE void integer_projection_tile(const int rows, const int blocks, int64_t row, int64_t block, int line,
                                    const void *job)
{
    const row_group *group = job;
    const lk_layer *layer = group->layer;
    const lk_scales *scales = layer->scales;
    vec acc[MOST_TILE_ROWS][4];
    clear_sums(rows * blocks, acc);
    accumulate_integers(rows, blocks, acc, &group->integers, row,
                        from_block(layer->w_r, scales->r, scales->r_offset, block, hidden_size(layer)), line);
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++)
            for (int g = 0; g < 4; g++) {
                const int64_t column = (block + b) * BLOCK_SIZE + g * LANES, left = proj_size(layer) - column;
                if (left > 0)
                    v_store_n(group->h_next + (row + r) * group->h_stride + column, acc[r * blocks + b][g], left);
            }
}

/* h_next from `hidden`, for the outputs at hand. */
SEPARATE void project(const row_group *group, int64_t active)
{
    sweep(DOT_ROWS, active, group->outputs, groups_of(hidden_size(group->layer)), 0, integer_projection_tile, group);
}

#endif
