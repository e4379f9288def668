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
#ifndef LK_I8
#include "kernels/transposed.h"
#endif

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

#ifndef LK_I8
INLINE void small_step_tile(const int rows, const int blocks, int64_t row, int64_t block, int line, const void *job)
{
    (void)line; /* its weights are always near */
    vec acc[MOST_TILE_ROWS][4];
    small_step_sums(rows, blocks, acc, row, block, job);
    finish_tile(rows, blocks, acc, row, block, job);
}

SEPARATE void small_step(const row_group *group, int64_t active) { sweep_small_step(group, active, small_step_tile); }
#else
INLINE void small_step(const row_group *group, int64_t active) { (void)group, (void)active; }
#endif

SEPARATE void step_row(const row_group *group) { sweep_row_step(group, step_tile); }
SEPARATE void step_rows(const row_group *group, int64_t active) { sweep_rows_step(group, active, step_tile); }

INLINE void step_tiles(const row_group *group, int64_t active)
{
    sweep_step(group, active, small_step, step_row, step_rows);
}

/* ---------------------------------------------------------------- parts of a step */

/* The columns of c, and those of h, of the part at hand. Without a projection they are the same. */
INLINE range units_at_hand(const row_group *group)
{
    return (range){group->units.from * LANES, smaller(group->units.to * LANES, hidden_size(group->layer))};
}
INLINE range outputs_at_hand(const row_group *group)
{
    return (range){group->outputs.from * BLOCK_SIZE, smaller(group->outputs.to * BLOCK_SIZE, proj_size(group->layer))};
}

/* Load the units at hand of the group's states before the first step. With a projection h has other columns, and whoever
 * has the first units loads all of them. */
INLINE void load_states(const row_group *group, int64_t n, const lk_task *task)
{
    const range units = units_at_hand(group), none = {0, 0}, all = {0, proj_size(group->layer)};
    const range outputs = !proj_size(group->layer) ? units : group->units.from == 0 ? all : none;
    for (int64_t r = 0; r < n; r++) {
        real *const h = group->h + r * group->h_stride, *const c = group->c + r * group->c_stride;
        /* Units past H are cleared, too: they are computed, but never read. */
        clear_reals(c + group->units.from * LANES, (group->units.to - group->units.from) * LANES);
        if (group->length[r] > 0 && starts_anew(group, r, 0, task)) {
            clear_reals(h + outputs.from, outputs.to - outputs.from);
        } else {
            copy_columns(h, h_of(group, r, task->read, task), outputs);
            copy_columns(c, c_of(group, r, task->read, task), units);
        }
    }
}

/* After step s: copy h_next to out, and to the caller's states in rows whose last step this was: all but the first `go_on`.
 * Where a row starts anew in the next step, h_next becomes zero. */
INLINE void report_h(const row_group *group, range columns, int64_t s, int64_t active, int64_t go_on,
                     const lk_task *task)
{
    for (int64_t r = 0; r < active; r++) {
        real *const h = group->h_next + r * group->h_stride;
        copy_columns(out_of(group, r, s, task), h, columns);
        if (task->out_begins)
            fetch_columns(out_of(group, r, s + 1, task), columns);
        if (r >= go_on)
            copy_columns(h_of(group, r, task->write, task), h, columns);
        else if (starts_anew(group, r, s + 1, task))
            clear_reals(h + columns.from, columns.to - columns.from);
    }
}
/* The same for c, which has no out. */
INLINE void report_c(const row_group *group, range columns, int64_t s, int64_t active, int64_t go_on,
                     const lk_task *task)
{
    for (int64_t r = task->reset ? 0 : go_on; r < active; r++) {
        real *const c = group->c + r * group->c_stride;
        if (r >= go_on)
            copy_columns(c_of(group, r, task->write, task), c, columns);
        else if (starts_anew(group, r, s + 1, task))
            clear_reals(c + columns.from, columns.to - columns.from);
    }
}

/* ---------------------------------------------------------------- phases */

INLINE int64_t all_units(const row_group *group) { return blocks_of(hidden_size(group->layer)); }

/* Before the first step. Whoever has the first units writes the zeros of out. */
INLINE void begin_rows(const row_group *group, int64_t n, const lk_task *task)
{
    load_states(group, n, task);
    if (group->units.from == 0)
        clear_past_ends(group, n, task);
}

/* z of a chunk, of z_rows rows. Before the first step the states are loaded, too. It is a phase of its own, because a
 * step may write its output over the chunk's inputs. */
INLINE void input_phase(row_group *group, int64_t n, int64_t s0, int64_t z_rows, const lk_task *task)
{
    int begun = 0;
    FOR_PARTS (part, task->team, all_units(group), 0) {
        group->units = part;
        if (s0 == 0)
            begin_rows(group, n, task);
        if (!begun++)
            begin_inputs(group, z_rows);
        inputs_product(group, z_rows);
    }
}

/* Step s of the first `active` rows; `go_on` of them take another one. `tiles` is a constant at every call. */
INLINE void step_phases(row_group *group, int64_t s, int64_t active, int64_t go_on, tiles_function *tiles,
                        const lk_task *task)
{
    const int64_t outputs = divide_up(proj_size(group->layer), BLOCK_SIZE);
    int begun = 0;
    begin_step(group);
    FOR_PARTS (part, task->team, all_units(group), group->backwards) {
        group->units = part;
        if (!begun++)
            begin_states(group, active);
        tiles(group, active);
        if (!outputs)
            report_h(group, units_at_hand(group), s, active, go_on, task);
        report_c(group, units_at_hand(group), s, active, go_on, task);
    }
    begun = 0;
    if (outputs && !is_over(task->team))
        FOR_PARTS (part, task->team, outputs, 0) {
            group->outputs = part;
            if (!begun++)
                begin_projection(group, active);
            project(group, active);
            report_h(group, outputs_at_hand(group), s, active, go_on, task);
        }
    end_step(group);
}

/* ---------------------------------------------------------------- all steps */

/* One thread that takes the group's one row through all of a chunk. Returns 0 if it cannot. */
INLINE int chunk_of_one_row(row_group *group, int64_t s0, int64_t s1, int64_t n, const lk_task *task)
{
    if (!can_be_one_row(n, task))
        return 0;
    if (s0 == 0) {
        group->units = (range){0, all_units(group)};
        begin_rows(group, 1, task);
    }
    one_row_steps(group, s0, s1, task);
    return 1;
}

/* Run the n rows of the group over all their steps. `tiles` is a constant at every call. */
INLINE void run_group(row_group *group, int64_t n, tiles_function *tiles, const lk_task *task)
{
    int64_t active = still_active(group, n, 0);
    if (active == 0)
        FOR_PARTS (one, task->team, 1, 0)
            clear_past_ends(group, n, task);
    for (int64_t s0 = 0; !is_over(task->team) && active > 0; s0 += group->steps) {
        const int64_t s1 = smaller(s0 + group->steps, group->length[0]);
        if (chunk_of_one_row(group, s0, s1, n, task)) {
            active = still_active(group, 1, s1);
            continue;
        }
        input_phase(group, n, s0, choose_inputs(group, s0, s1, active, task), task);
        group->z_now = group->z;
        for (int64_t s = s0; !is_over(task->team) && s < s1; s++) {
            const int64_t go_on = still_active(group, active, s + 1);
            step_phases(group, s, active, go_on, tiles, task);
            group->z_now += active * group->z_stride;
            active = go_on;
        }
    }
}

/* Run all rows, one group after the other. can_transpose: whether lanes may be rows. `tiles` is a constant at every
 * call. */
INLINE int all_groups(const lk_layer *layer, const lk_task *task, int can_transpose, tiles_function *tiles)
{
    row_group group;
    plan_group(&group, layer, task->T, task->B, can_transpose);
    group.backwards = 0;
    lay_out(&group, task);
    for (int64_t b0 = 0; !is_over(task->team) && b0 < task->B; b0 += group.rows) {
        const int64_t n = smaller(group.rows, task->B - b0);
        choose_rows(&group, b0, n, task);
#ifndef LK_I8
        if (can_transpose && group.transposed)
            run_transposed_group(&group, n, task);
        else
#endif
            run_group(&group, n, tiles, task);
    }
    return LK_OK;
}

/* Transposed, a step broadcasts one weight at a time. Narrow weights are widened, or multiplied, a vector at a time. */
static int layer_forward(const lk_layer *layer, const lk_task *task)
{
    return all_groups(layer, task, NARROW_WEIGHTS ? 0 : is_alone(task->team), step_tiles);
}

#endif
