/* record.h - layer_forward that keeps what backward.h needs: the same sums by the same tiles, so the same bits, but every
 * step's gates and c have a place of their own.
 *
 * Rows are sorted (lk_tape), so those of a step are the first ones and lie side by side. Of several threads each has its own
 * rows and never waits or, where rows are few or the weights many, its own units. */
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

INLINE int64_t tape_time(const lk_tape *tape, int64_t s, int64_t row)
{
    return tape->reverse ? row_steps(tape, row) - 1 - s : s;
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

/* This thread's share of n. Of rows all, where each has its own units, and of blocks all, where each has its own rows. */
INLINE block_range shared_out(const lk_team *team, int64_t n)
{
    return (block_range){n * team->rank / team->size, n * (team->rank + 1) / team->size};
}
INLINE block_range own_rows(const lk_team *team, int64_t n)
{
    return team->by_units ? (block_range){0, n} : shared_out(team, n);
}
INLINE block_range own_blocks(const lk_team *team, int64_t n)
{
    return team->by_units ? shared_out(team, n) : (block_range){0, n};
}

/* i, f, g, o of n units, a vector or less, to [4][H]. */
INLINE void keep_gates(gate_quotients q, real *gates, int64_t H, int64_t n)
{
    const vec one = v_splat(1), both = v_div(one, v_mul(q.write, q.candidate_over)); /* 1 / a = b / (a b) */
    v_store_n(gates, v_mul(both, q.candidate_over), n);
    v_store_n(gates + H, v_div(one, q.forget), n);
    v_store_n(gates + 2 * H, v_mul(q.candidate, v_mul(both, q.write)), n);
    v_store_n(gates + 3 * H, v_div(one, q.output), n);
}

INLINE void keep_tile(const int rows, const int panels, const vec acc[][4], int64_t row, int64_t block, const group *g)
{
    const int64_t H = hidden_size(g->layer);
    vec c_t[MOST_TILE_ROWS], output[MOST_TILE_ROWS], h_t[MOST_TILE_ROWS];
    UNROLLED
    for (int i = 0; i < rows * panels; i++) {
        const int64_t r = row + i / panels, unit = (block + i % panels) * LANES, n = H - unit;
        const gate_quotients q = open_gates(acc[i]);
        output[i] = q.output;
        c_t[i] = next_state(q, v_load_n(g->c_before + r * H + unit, n));
        keep_gates(q, g->gates + r * 4 * H + unit, H, n);
        v_store_n(g->c + r * H + unit, c_t[i], n);
    }
    cell_output(rows * panels, c_t, output, h_t);
    UNROLLED
    for (int i = 0; i < rows * panels; i++)
        v_store(g->reported + (row + i / panels) * g->c_stride + (block + i % panels) * LANES, h_t[i]);
}

/* The tape is new memory at every tile: its lines come while the sums are summed up. */
INLINE void fetch_gates(const int rows, const int panels, int64_t row, int64_t block, const group *g)
{
    const int64_t H = hidden_size(g->layer);
    for (int r = 0; r < rows; r++)
        for (int at = 0; at < 4 * panels; at++)
            __builtin_prefetch(g->gates + ((row + r) * 4 + at % 4) * H + (block + at / 4) * LANES, 1);
}

INLINE void record_tile(const int rows, const int panels, int64_t row, int64_t block, int line, const void *job)
{
    vec acc[MOST_TILE_ROWS][4];
    fetch_gates(rows, panels, row, block, job);
    step_sums(rows, panels, acc, row, block, line, job);
    keep_tile(rows, panels, acc, row, block, job);
}
INLINE void small_record_tile(const int rows, const int panels, int64_t row, int64_t block, int line, const void *job)
{
    (void)line;
    vec acc[MOST_TILE_ROWS][4];
    small_step_sums(rows, panels, acc, row, block, job);
    keep_tile(rows, panels, acc, row, block, job);
}

SEPARATE void record_row(const group *g) { sweep_row(g->units, output_size(g->layer), g->backwards, record_tile, g); }
SEPARATE void record_rows(const group *g, int64_t active)
{
    sweep_rows(TILE_ROWS, active, g->units, output_size(g->layer), record_tile, g);
}
SEPARATE void record_small(const group *g, int64_t active)
{
    sweep(larger(1, TILE_ROWS / 2), active, g->units, output_size(g->layer), 0, small_record_tile, g);
}

/* One step of the first `active` rows of g, whose h becomes h_t. */
INLINE void record_step(group *g, int64_t active, const lk_span *a)
{
    g->reported = proj_size(g->layer) ? g->hidden : g->h_next;
    if (hidden_size(g->layer) <= FEW_UNITS)
        record_small(g, active);
    else if (active == 1)
        record_row(g);
    else
        record_rows(g, active);
    g->backwards = !g->backwards;
    meet(a);
    project(g, active, a);
}

/* Rows of z of a chunk of several steps; of one, as many as it has. */
INLINE int64_t record_z_rows(const lk_layer *layer)
{
    return most_z_rows(blocks_of(hidden_size(layer)) * QUAD * (int64_t)sizeof(real));
}

/* h, h_next and hidden of all rows; and z of each thread's chunk. */
INLINE int64_t record_states(const lk_layer *layer, int64_t B)
{
    return whole_lines(B * LANES * (2 * blocks_of(output_size(layer)) + blocks_of(hidden_size(layer))));
}
INLINE int64_t record_reals(const lk_layer *layer, const lk_tape *tape)
{
    const int64_t z_rows = tape->B + larger(1, tape->threads) * record_z_rows(layer);
    return record_states(layer, tape->B) + z_rows * blocks_of(hidden_size(layer)) * QUAD;
}
/* Then each thread's pointers to rows of x. */
INLINE int64_t record_pointers(const lk_layer *layer, const lk_tape *tape)
{
    return larger(tape->B, record_z_rows(layer));
}
static int64_t record_workspace(const lk_layer *layer, const lk_tape *tape)
{
    const int64_t pointers = larger(1, tape->threads) * record_pointers(layer, tape);
    return record_reals(layer, tape) * (int64_t)sizeof(real) + pointers * (int64_t)sizeof(real *);
}

/* Threads that share the units share z, too. */
static void lay_out_record(group *g, const lk_layer *layer, const lk_tape *tape, const lk_team *team, int64_t row, void *work)
{
    const int64_t B = tape->B;
    g->layer = layer;
    g->c_stride = blocks_of(hidden_size(layer)) * LANES;
    g->h_stride = blocks_of(output_size(layer)) * LANES;
    g->z_stride = 4 * g->c_stride;
    g->units = own_blocks(team, blocks_of(hidden_size(layer)));
    g->outputs = own_blocks(team, divide_up(proj_size(layer), QUAD));
    g->backwards = 0;
    g->h = (real *)work + row * g->h_stride;
    g->h_next = g->h + B * g->h_stride;
    g->hidden = (real *)work + 2 * B * g->h_stride + row * g->c_stride;
    const int64_t z_row = row + (team->by_units ? 0 : team->rank) * record_z_rows(layer);
    g->z = (real *)work + record_states(layer, B) + z_row * g->z_stride;
    g->x = (const real **)(void *)((real *)work + record_reals(layer, tape)) + team->rank * record_pointers(layer, tape);
}

/* z of the inputs of this thread's rows at steps s .. stop - 1, `active` of the batch at s. */
static void record_inputs(const group *g, const lk_tape *tape, block_range rows, int64_t s, int64_t stop, int64_t active)
{
    int64_t z_rows = 0;
    for (; s < stop; s++) {
        active = rows_at(tape, s, active);
        for (int64_t row = rows.from; row < smaller(rows.to, active); row++)
            g->x[z_rows++] = tape_x(tape, s, row);
    }
    input_product(g->layer, z_rows, g->x, g->z, g->units);
}

static int layer_record(const lk_layer *layer, const lk_tape *tape, const lk_team *team, void *work)
{
    const int by_units = team->by_units;
    const lk_span a = {.rank = by_units ? team->rank : 0, .size = by_units ? team->size : 1,
                       .barrier = team->barrier, .meet = team->meet};
    const block_range rows = own_rows(team, tape->B);
    group g;
    lay_out_record(&g, layer, tape, team, rows.from, work);
    const block_range outputs = own_outputs(&g);
    int64_t active = rows_at(tape, tape->first, tape->B), mine = smaller(rows.to, active) - rows.from;
    for (int64_t row = 0; row < mine; row++)
        copy_columns(g.h + row * g.h_stride, tape_h_before(tape, tape->first, rows.from + row, output_size(layer)), outputs);
    meet(&a);
    const int64_t H = hidden_size(layer), c_step = tape->B * H;
    g.c_before = (real *)tape->c + rows.from * H;
    g.gates = (real *)tape->gates + rows.from * 4 * H;
    for (int64_t s = tape->first; s < tape->last && mine > 0;) {
        const int64_t stop = smaller(tape->last, s + larger(1, record_z_rows(layer) / mine));
        record_inputs(&g, tape, rows, s, stop, active);
        g.z_now = g.z;
        for (; s < stop; s++) {
            active = rows_at(tape, s, active);
            mine = smaller(rows.to, active) - rows.from;
            if (mine <= 0)
                break;
            g.c = (real *)g.c_before + c_step;
            record_step(&g, mine, &a);
            for (int64_t row = 0; row < mine; row++)
                copy_columns(tape_h(tape, s, rows.from + row), g.h + row * g.h_stride, outputs);
            g.z_now += mine * g.z_stride;
            g.gates += active * 4 * H;
            g.c_before = g.c;
        }
    }
    return LK_OK;
}

#endif
