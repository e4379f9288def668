/* record.h - layer_forward that also keeps everything that backward.h needs. The same tiles compute the same sums, so
 * the results are bit-identical. The gates and c of every step have a place of their own on the tape.
 *
 * The rows of a tape are sorted, longest first, so the rows of a step are the first ones and lie side by side. The
 * threads of a team share rows, and none waits for another; where rows are few or the weights many, they share units
 * (by_units).
 *
 * Bound: as layer_forward.h, plus writing 5 H numbers for each row and step. */
#ifndef LK_RECORD_H
#define LK_RECORD_H
#include "kernels/layer_forward.h"

INLINE int64_t row_steps(const lk_tape *tape, int64_t row) { return tape->lengths ? tape->lengths[row] : tape->T; }

/* How many of the first `most` rows take step s. */
INLINE int64_t rows_at(const lk_tape *tape, int64_t s, int64_t most)
{
    while (most > 0 && row_steps(tape, most - 1) <= s)
        most--;
    return most;
}

/* When a row takes its step s, and where x and h of that time are. */
INLINE int64_t tape_time(const lk_tape *tape, int64_t s, int64_t row)
{
    return time_of(s, row_steps(tape, row), tape->reverse);
}
INLINE const real *tape_x(const lk_tape *tape, int64_t s, int64_t row)
{
    return (const real *)tape->x + tape_time(tape, s, row) * tape->x_step + row * tape->x_row;
}
INLINE real *tape_h(const lk_tape *tape, int64_t s, int64_t row)
{
    return (real *)tape->h + tape_time(tape, s, row) * tape->h_step + row * tape->h_row;
}
/* h that step s begins with. */
INLINE const real *tape_h_before(const lk_tape *tape, int64_t s, int64_t row, int64_t R)
{
    return s == 0 ? (const real *)tape->h_0 + row * R : tape_h(tape, s - 1, row);
}

/* Write i, f, g, o of n units, at most one vector, to gates [4][H]. */
INLINE void keep_gates(gate_quotients q, real *gates, int64_t H, int64_t n)
{
    const vec one = v_splat(1), both = v_div(one, v_mul(q.write, q.candidate_over)); /* 1 / a = b / (a b) */
    v_store_n(gates, v_mul(both, q.candidate_over), n);
    v_store_n(gates + H, v_div(one, q.forget), n);
    v_store_n(gates + 2 * H, v_mul(q.candidate, v_mul(both, q.write)), n);
    v_store_n(gates + 3 * H, v_div(one, q.output), n);
}

INLINE void keep_tile(const int rows, const int blocks, const vec acc[][4], int64_t row, int64_t block,
                      const row_group *group)
{
    const int64_t H = hidden_size(group->layer), c_stride = group->c_stride;
    vec c_t[MOST_TILE_ROWS], output[MOST_TILE_ROWS], h_t[MOST_TILE_ROWS];
    UNROLLED
    for (int i = 0; i < rows * blocks; i++) {
        const int64_t r = row + i / blocks, unit = (block + i % blocks) * LANES, n = H - unit;
        const gate_quotients q = open_gates(acc[i]);
        output[i] = q.output;
        c_t[i] = next_state(q, v_load_n(group->c_before + r * H + unit, n));
        keep_gates(q, group->gates + r * 4 * H + unit, H, n);
        v_store_n(group->c + r * H + unit, c_t[i], n);
    }
    cell_output(rows * blocks, c_t, output, h_t);
    UNROLLED
    for (int i = 0; i < rows * blocks; i++)
        v_store(group->reported + (row + i / blocks) * c_stride + (block + i % blocks) * LANES, h_t[i]);
}

/* Every tile writes to memory of the tape that was not touched before. Its cache lines are prefetched here, and arrive
 * while the sums are computed. */
INLINE void fetch_gates(const int rows, const int blocks, int64_t row, int64_t block, const row_group *group)
{
    const int64_t H = hidden_size(group->layer);
    for (int r = 0; r < rows; r++)
        for (int at = 0; at < 4 * blocks; at++)
            __builtin_prefetch(group->gates + ((row + r) * 4 + at % 4) * H + (block + at / 4) * LANES, 1);
}

INLINE void record_tile(const int rows, const int blocks, int64_t row, int64_t block, int line, const void *job)
{
    vec acc[MOST_TILE_ROWS][4];
    fetch_gates(rows, blocks, row, block, job);
    step_sums(rows, blocks, acc, row, block, line, job);
    keep_tile(rows, blocks, acc, row, block, job);
}

INLINE void small_record_tile(const int rows, const int blocks, int64_t row, int64_t block, int line, const void *job)
{
    (void)line; /* its weights are always near */
    vec acc[MOST_TILE_ROWS][4];
    small_step_sums(rows, blocks, acc, row, block, job);
    keep_tile(rows, blocks, acc, row, block, job);
}

SEPARATE void record_row(const row_group *group) { sweep_row_step(group, record_tile); }
SEPARATE void record_rows(const row_group *group, int64_t active) { sweep_rows_step(group, active, record_tile); }
SEPARATE void record_small(const row_group *group, int64_t active)
{
    sweep_small_step(group, active, small_record_tile);
}

INLINE void record_tiles(const row_group *group, int64_t active)
{
    sweep_step(group, active, record_small, record_row, record_rows);
}

/* ---------------------------------------------------------------- the workspace */

/* It holds, in this order: h, h_next and hidden of all rows; z of all rows and of a chunk for each thread; each
 * thread's pointers to rows of x. */

/* Rows of z of a chunk of several steps. A chunk of one step has as many rows as that step. */
INLINE int64_t record_z_rows(const lk_layer *layer)
{
    return most_z_rows(blocks_of(hidden_size(layer)) * BLOCK_SIZE * (int64_t)sizeof(real));
}
INLINE int64_t record_states(const lk_layer *layer, int64_t B)
{
    return whole_lines(B * LANES * (2 * blocks_of(output_size(layer)) + blocks_of(hidden_size(layer))));
}
INLINE int64_t record_reals(const lk_layer *layer, const lk_tape *tape)
{
    const int64_t z_rows = tape->B + larger(1, tape->threads) * (record_z_rows(layer) + 1);
    return record_states(layer, tape->B) + z_rows * blocks_of(hidden_size(layer)) * BLOCK_SIZE;
}
INLINE int64_t record_pointers(const lk_layer *layer, const lk_tape *tape)
{
    return larger(tape->B, record_z_rows(layer));
}
static int64_t record_workspace(const lk_layer *layer, const lk_tape *tape)
{
    const int64_t pointers = larger(1, tape->threads) * record_pointers(layer, tape);
    return record_reals(layer, tape) * (int64_t)sizeof(real) + pointers * (int64_t)sizeof(real *);
}

/* A group of rows, from `row` on, with z from z_row on. Threads that share the units share z, too. */
static void lay_out_record(row_group *group, const lk_layer *layer, const lk_tape *tape, int rank, int64_t row,
                           int64_t z_row, void *work)
{
    const int64_t B = tape->B, H = hidden_size(layer);
    set_strides(group, layer);
    group->backwards = 0;
    group->h = (real *)work + row * group->h_stride;
    group->h_next = group->h + B * group->h_stride;
    group->hidden = (real *)work + 2 * B * group->h_stride + row * group->c_stride;
    group->z = (real *)work + record_states(layer, B) + z_row * group->z_stride;
    real *const pointers = (real *)work + record_reals(layer, tape);
    group->x = (const real **)(void *)pointers + rank * record_pointers(layer, tape);
    group->c_before = (real *)tape->c + row * H;
    group->gates = (real *)tape->gates + row * 4 * H;
}

/* ---------------------------------------------------------------- all steps of some rows */

/* Point to x of the rows at steps s .. stop - 1. `active` rows of the batch take step s. Returns how many. */
static int64_t point_to_inputs(const row_group *group, const lk_tape *tape, range rows, int64_t s, int64_t stop,
                               int64_t active)
{
    int64_t z_rows = 0;
    for (; s < stop; s++) {
        active = rows_at(tape, s, active);
        for (int64_t row = rows.from; row < smaller(rows.to, active); row++)
            group->x[z_rows++] = tape_x(tape, s, row);
    }
    return z_rows;
}

/* h_next of n rows goes to the tape, after step s. */
INLINE void keep_h(const row_group *group, const lk_tape *tape, range columns, int64_t s, int64_t row, int64_t n)
{
    for (int64_t r = 0; r < n; r++)
        copy_columns(tape_h(tape, s, row + r), group->h_next + r * group->h_stride, columns);
}

/* Step s of n rows, from `row` on. */
INLINE void record_phases(row_group *group, const lk_tape *tape, int64_t s, int64_t row, int64_t n, lk_team *team)
{
    const int64_t outputs = divide_up(proj_size(group->layer), BLOCK_SIZE);
    begin_step(group);
    FOR_PARTS (part, team, all_units(group), group->backwards) {
        group->units = part;
        record_tiles(group, n);
        if (!outputs)
            keep_h(group, tape, units_at_hand(group), s, row, n);
    }
    if (outputs && !is_over(team))
        FOR_PARTS (part, team, outputs, 0) {
            group->outputs = part;
            project(group, n);
            keep_h(group, tape, outputs_at_hand(group), s, row, n);
        }
    end_step(group);
}

/* Load h of the rows before the first step. */
static void load_first_states(const row_group *group, const lk_tape *tape, range rows)
{
    const int64_t R = output_size(group->layer);
    for (int64_t row = rows.from; row < rows.to; row++)
        copy_reals(group->h + (row - rows.from) * group->h_stride, tape_h_before(tape, tape->first, row, R), R);
}

/* Take steps s .. stop - 1 of the rows, after z of their inputs. `active` rows of the batch take step s. */
INLINE void record_chunk(row_group *group, const lk_tape *tape, range rows, int64_t s, int64_t stop, int64_t active,
                         lk_team *team)
{
    const int64_t H = hidden_size(group->layer);
    for (group->z_now = group->z; !is_over(team) && s < stop; s++) {
        active = rows_at(tape, s, active);
        const int64_t n = smaller(rows.to, active) - rows.from;
        if (n <= 0)
            return;
        group->c = (real *)group->c_before + tape->B * H;
        record_phases(group, tape, s, rows.from, n, team);
        group->z_now += n * group->z_stride;
        group->gates += active * 4 * H;
        group->c_before = group->c;
    }
}

/* All steps of the rows, by one thread or by threads that share the units. */
static void record_rows_of_tape(const lk_layer *layer, const lk_tape *tape, range rows, int64_t z_row, lk_team *team,
                                void *work)
{
    row_group group;
    lay_out_record(&group, layer, tape, team->rank, rows.from, z_row, work);
    int64_t active = rows_at(tape, tape->first, tape->B);
    FOR_PARTS (all, team, 1, 0)
        load_first_states(&group, tape, (range){rows.from, smaller(rows.to, active)});
    for (int64_t s = tape->first, stop; !is_over(team) && s < tape->last; s = stop) {
        active = rows_at(tape, s, active);
        const int64_t n = smaller(rows.to, active) - rows.from;
        if (n <= 0)
            break;
        stop = smaller(tape->last, s + larger(1, record_z_rows(layer) / n));
        const int64_t z_rows = point_to_inputs(&group, tape, rows, s, stop, active);
        FOR_PARTS (part, team, all_units(&group), 0)
            input_product(layer, z_rows, group.x, group.z, part);
        if (is_over(team))
            return;
        record_chunk(&group, tape, rows, s, stop, active, team);
    }
}

static int layer_record(const lk_layer *layer, const lk_tape *tape, int by_units, lk_team *team, void *work)
{
    if (by_units) {
        record_rows_of_tape(layer, tape, (range){0, tape->B}, 0, team, work);
        return LK_OK;
    }
    lk_team alone = {.size = 1, .rank = team->rank};
    const int64_t z_row = team->rank * (record_z_rows(layer) + divide_up(tape->B, team->size));
    FOR_PARTS (rows, team, tape->B, 0)
        record_rows_of_tape(layer, tape, rows, z_row, &alone, work);
    return LK_OK;
}

#endif
