/* layer_forward.h - one direction of one layer over all time steps and rows.
 *
 * Rows are taken in groups that keep their states in a small workspace and run through all of time together
 * (layout.h). Time is taken in chunks: the input product of a chunk is one matrix product with many rows (all its
 * steps), whose result stays in L2. Then the steps follow one by one (step.h): each is a recurrent product whose
 * tiles finish in registers with the cell. The threads of a team have their own blocks of units, whose weights stay
 * in their own caches, and wait for each other after every step, when h is complete.
 *
 * Bounds: the input product is FMA-bound from a few rows on; step.h has the bounds of a step. */
#ifndef LK_LAYER_FORWARD_H
#define LK_LAYER_FORWARD_H
#include "kernels/one_row.h"
#include "kernels/step.h"
#include "kernels/transposed.h"

/* The cell update of a tile: acc are i, f, g, o before activation. */
INLINE void finish_tile(const int rows, const int blocks, const vec acc[][4], int64_t row, int64_t block,
                        const row_group *group)
{
    const int64_t stride = group->c_stride, first = row * stride + block * LANES;
    real *const c = group->c + first, *const h = group->reported + first;
    vec c_t[MOST_TILE_ROWS], output[MOST_TILE_ROWS], h_t[MOST_TILE_ROWS];
    UNROLLED
    for (int i = 0; i < rows * blocks; i++) {
        const int64_t at = i / blocks * stride + i % blocks * LANES;
        c_t[i] = cell_state(acc[i], v_load(c + at), &output[i]);
        v_store(c + at, c_t[i]);
    }
    cell_output(rows * blocks, c_t, output, h_t);
    UNROLLED
    for (int i = 0; i < rows * blocks; i++)
        v_store(h + i / blocks * stride + i % blocks * LANES, h_t[i]);
}

INLINE void step_tile(const int rows, const int blocks, int64_t row, int64_t block, int line, const void *job)
{
    vec acc[MOST_TILE_ROWS][4];
    step_sums(rows, blocks, acc, row, block, line, job);
    finish_tile(rows, blocks, acc, row, block, job);
}

INLINE void small_step_tile(const int rows, const int blocks, int64_t row, int64_t block, int line, const void *job)
{
    (void)line; /* its weights are always near */
    vec acc[MOST_TILE_ROWS][4];
    small_step_sums(rows, blocks, acc, row, block, job);
    finish_tile(rows, blocks, acc, row, block, job);
}

SEPARATE void step_row(const row_group *group) { sweep_row_step(group, step_tile); }
SEPARATE void step_rows(const row_group *group, int64_t active) { sweep_rows_step(group, active, step_tile); }
SEPARATE void small_step(const row_group *group, int64_t active) { sweep_small_step(group, active, small_step_tile); }

INLINE void step_tiles(const row_group *group, int64_t active)
{
    sweep_step(group, active, small_step, step_row, step_rows);
}

/* The columns of c, and those of h, that this thread loads and stores. */
INLINE range own_units(const row_group *group)
{
    return (range){group->units.from * LANES, smaller(group->units.to * LANES, hidden_size(group->layer))};
}
INLINE range own_outputs(const row_group *group)
{
    if (!proj_size(group->layer))
        return own_units(group);
    return (range){group->outputs.from * BLOCK_SIZE, smaller(group->outputs.to * BLOCK_SIZE, proj_size(group->layer))};
}

/* Load the group's states before the first step. */
INLINE void load_states(row_group *group, int64_t n, const lk_task *task)
{
    const range units = own_units(group), outputs = own_outputs(group);
    for (int64_t r = 0; r < n; r++) {
        copy_columns(group->h + r * group->h_stride, h_of(group, r, task->read, task), outputs);
        real *c = group->c + r * group->c_stride;
        /* Units past H are cleared, too: they are computed, but never read. */
        clear_reals(c + group->units.from * LANES, (group->units.to - group->units.from) * LANES);
        copy_columns(c, c_of(group, r, task->read, task), units);
    }
}

/* Set states to zero before step s, where task->reset says so. Every thread clears its own columns. */
INLINE void reset_states(const row_group *group, int64_t s, int64_t active, const lk_task *task)
{
    const range units = own_units(group), outputs = own_outputs(group);
    int any = 0; /* the same for every thread of the team */
    for (int64_t r = 0; r < active; r++)
        if (starts_anew(group, r, s, task)) {
            any = 1;
            clear_reals(group->h + r * group->h_stride + outputs.from, larger(0, outputs.to - outputs.from));
            clear_reals(group->c + r * group->c_stride + units.from, larger(0, units.to - units.from));
        }
    if (any)
        team_barrier(&task->team);
}

/* Copy h to out, and give the caller the states of rows whose last step this was. Returns how many rows go on. */
INLINE int64_t report(const row_group *group, int64_t s, int64_t active, const lk_task *task)
{
    const range units = own_units(group), outputs = own_outputs(group);
    for (int64_t r = 0; r < active; r++)
        copy_columns(out_of(group, r, s, task), group->h + r * group->h_stride, outputs);
    const int64_t go_on = still_active(group, active, s + 1);
    for (int64_t r = go_on; r < active; r++) {
        copy_columns(h_of(group, r, task->write, task), group->h + r * group->h_stride, outputs);
        copy_columns(c_of(group, r, task->write, task), group->c + r * group->c_stride, units);
    }
    return go_on;
}

/* Run the n rows of the group over all their steps. `tiles` is a constant at every call. */
INLINE void run_group(row_group *group, int64_t n, tiles_function *tiles, const lk_task *task)
{
    load_states(group, n, task);
    int64_t active = still_active(group, n, 0);
    team_barrier(&task->team);
    for (int64_t s0 = 0; active > 0; s0 += group->steps) {
        const int64_t s1 = smaller(s0 + group->steps, group->length[0]);
        if (one_row_steps(group, s0, s1, n, task)) {
            active = report(group, s1 - 1, active, task);
            continue;
        }
        input_product(group->layer, choose_inputs(group, s0, s1, active, task), group->x, group->z, group->units);
        group->z_now = group->z;
        for (int64_t s = s0; s < s1; s++) {
            if (task->reset)
                reset_states(group, s, active, task);
            take_step(group, active, &task->team, tiles);
            group->z_now += active * group->z_stride;
            active = report(group, s, active, task);
        }
    }
}

/* Run all rows, one group after the other. can_transpose: whether lanes may be rows. `tiles` is a constant at every
 * call. */
INLINE int all_groups(const lk_layer *layer, const lk_task *task, int can_transpose, tiles_function *tiles)
{
    row_group group;
    plan_group(&group, layer, task->T, task->B, can_transpose);
    group.units = own_blocks(&task->team, blocks_of(hidden_size(layer)));
    group.outputs = own_blocks(&task->team, divide_up(proj_size(layer), BLOCK_SIZE));
    group.backwards = 0;
    lay_out(&group, task);
    for (int64_t b0 = 0; b0 < task->B; b0 += group.rows) {
        const int64_t n = smaller(group.rows, task->B - b0);
        choose_rows(&group, b0, n, task);
        if (task->team.rank == 0)
            clear_past_ends(&group, n, task);
        if (can_transpose && group.transposed)
            run_transposed_group(&group, n, task);
        else
            run_group(&group, n, tiles, task);
    }
    return LK_OK;
}

static int layer_forward(const lk_layer *layer, const lk_task *task)
{
    return all_groups(layer, task, task->team.size == 1, step_tiles);
}

#endif
