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
#ifdef LK_I8
#include "kernels/integer_step.h"
#else
#include "kernels/float_step.h"
#endif

/* A function for all tiles of one kind of step. It writes c and `reported` of the first `active` rows and of the units at
 * hand. */
typedef void tiles_function(const row_group *group, int64_t active);

/* Choose the tiles by the number of rows and units. Each of the three functions is separate (SEPARATE), because in one
 * larger function the loops of the tiles lose registers to each other. */
INLINE void sweep_step(const row_group *group, int64_t active, tiles_function *small_tiles,
                       void (*row_tiles)(const row_group *group), tiles_function *rows_tiles)
{
    if (FEW_ARE_SMALL && hidden_size(group->layer) <= FEW_UNITS)
        small_tiles(group, active);
    else if (active == 1)
        row_tiles(group);
    else
        rows_tiles(group, active);
}
INLINE void sweep_row_step(const row_group *group, tile_function *tile)
{
    sweep_row(group->units, weights_along(output_size(group->layer)), group->backwards, tile, group);
}
INLINE void sweep_rows_step(const row_group *group, int64_t active, tile_function *tile)
{
    sweep_rows(STEP_ROWS, active, group->units, weights_along(output_size(group->layer)), tile, group);
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

#endif
