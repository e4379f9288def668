/* layer_forward.h - one direction of one layer over all time steps and rows.
 *
 * Rows are taken in groups that keep their states in a small workspace and run through all of time together (rows.h). Time
 * is taken in chunks: the input product of a chunk is one matrix product with many rows (all its steps), whose result stays
 * in L2; then the steps follow one by one, each a recurrent product whose tiles finish in registers with the cell update.
 * Threads that share the layer have their own blocks of units, whose weights stay in their own caches, and meet after every
 * step, when h is complete.
 *
 * Bounds: the input product is FMA-bound from a few rows on; a step of a single row streams W_hh from the nearest cache
 * that holds it; a step of a small layer is latency: R dependent FMAs, then sigmoid, tanh and the update. */
#ifndef LK_LAYER_FORWARD_H
#define LK_LAYER_FORWARD_H
#include "kernels/dense.h"
#include "kernels/one_row.h"
#include "kernels/transposed.h"

/* The cell update of a tile: acc are i, f, g, o before activation. */
INLINE void finish_tile(const int rows, const int panels, const vec acc[][4], int64_t row, int64_t block, const group *g)
{
    real *const c = g->c + row * g->c_stride + block * LANES, *const h = g->reported + row * g->c_stride + block * LANES;
    vec c_t[MOST_TILE_ROWS], output[MOST_TILE_ROWS], h_t[MOST_TILE_ROWS];
    UNROLLED
    for (int i = 0; i < rows * panels; i++) {
        const int64_t at = i / panels * g->c_stride + i % panels * LANES;
        c_t[i] = cell_state(acc[i], v_load(c + at), &output[i]);
        v_store(c + at, c_t[i]);
    }
    cell_output(rows * panels, c_t, output, h_t);
    UNROLLED
    for (int i = 0; i < rows * panels; i++)
        v_store(h + i / panels * g->c_stride + i % panels * LANES, h_t[i]);
}

/* The pre-activations of a tile: z of the inputs, and the recurrent product. */
INLINE void step_sums(const int rows, const int panels, vec acc[][4], int64_t row, int64_t block, int line, const group *g)
{
    const int64_t R = output_size(g->layer);
    const real *h[MOST_TILE_ROWS];
    for (int r = 0; r < rows; r++)
        h[r] = g->h + (row + r) * g->h_stride;
    load_quads(rows, panels, acc, g->z_now + row * g->z_stride + block * QUAD, g->z_stride);
    accumulate(rows, panels, acc, h, R, (const real *)g->layer->w_h + block * R * QUAD, line);
}

INLINE void step_tile(const int rows, const int panels, int64_t row, int64_t block, int line, const void *job)
{
    vec acc[MOST_TILE_ROWS][4];
    step_sums(rows, panels, acc, row, block, line, job);
    finish_tile(rows, panels, acc, row, block, job);
}

/* The same for layers of at most FEW_UNITS: the sum over h in two parts, of the even k, which goes on from the inputs' sum, and of
 * the odd k. Half the chain of dependent FMAs, which is much of a small layer's step. */
INLINE void small_step_sums(const int rows, const int panels, vec acc[][4], int64_t row, int64_t block, const group *g)
{
    const int64_t R = output_size(g->layer);
    const real *w = (const real *)g->layer->w_h + block * R * QUAD;
    vec odd[MOST_TILE_ROWS][4];
    load_quads(rows, panels, acc, g->z_now + row * g->z_stride + block * QUAD, g->z_stride);
    for (int i = 0; i < rows * panels; i++)
        for (int gate = 0; gate < 4; gate++)
            odd[i][gate] = v_splat(0);
    const real *h = g->h + row * g->h_stride;
    int64_t k = 0;
    for (; k + 2 <= R; k += 2) {
        multiply_add(rows, panels, acc, h + k, g->h_stride, w + k * QUAD, R * QUAD);
        multiply_add(rows, panels, odd, h + k + 1, g->h_stride, w + (k + 1) * QUAD, R * QUAD);
    }
    if (k < R)
        multiply_add(rows, panels, acc, h + k, g->h_stride, w + k * QUAD, R * QUAD);
    for (int i = 0; i < rows * panels; i++)
        for (int gate = 0; gate < 4; gate++)
            acc[i][gate] = v_add(acc[i][gate], odd[i][gate]);
}

INLINE void small_step_tile(const int rows, const int panels, int64_t row, int64_t block, int line, const void *job)
{
    (void)line; /* its weights are always near */
    vec acc[MOST_TILE_ROWS][4];
    small_step_sums(rows, panels, acc, row, block, job);
    finish_tile(rows, panels, acc, row, block, job);
}

/* The recurrent product and the cell update: functions of their own, because in a larger one the loops of the tiles lose
 * registers to each other. */
SEPARATE void step_row(const group *g) { sweep_row(g->units, output_size(g->layer), g->backwards, step_tile, g); }
SEPARATE void step_rows(const group *g, int64_t active)
{
    sweep_rows(TILE_ROWS, active, g->units, output_size(g->layer), step_tile, g);
}
SEPARATE void small_step(const group *g, int64_t active)
{
    sweep(larger(1, TILE_ROWS / 2), active, g->units, output_size(g->layer), 0, small_step_tile, g);
}

/* Every thread's part of h is there. */
INLINE void meet(const lk_span *a)
{
    if (a->size > 1)
        a->meet(a->barrier, a->size);
}

/* What the cell reported becomes the next h. */
INLINE void project(group *g, int64_t active, const lk_span *a)
{
    const lk_layer *layer = g->layer;
    if (proj_size(layer)) {
        const dense_job projection = {hidden_size(layer), proj_size(layer), LK_LINEAR, layer->w_r, NULL,
                                      g->hidden, g->c_stride, g->h_next, g->h_stride};
        dense_rows(&projection, active, g->outputs);
        meet(a);
    }
    real *h = g->h;
    g->h = g->h_next;
    g->h_next = h;
}

/* One step of the first `active` rows: h becomes h_t. */
typedef void step_function(group *g, int64_t active, const lk_span *a);

INLINE void recurrent_step(group *g, int64_t active, const lk_span *a)
{
    const lk_layer *layer = g->layer;
    g->reported = proj_size(layer) ? g->hidden : g->h_next;
    if (hidden_size(layer) <= FEW_UNITS)
        small_step(g, active);
    else if (active == 1)
        step_row(g);
    else
        step_rows(g, active);
    g->backwards = !g->backwards;
    meet(a);
    project(g, active, a);
}

/* Columns that this thread brings in and out: of c, and of h. */
INLINE block_range own_units(const group *g)
{
    return (block_range){g->units.from * LANES, smaller(g->units.to * LANES, hidden_size(g->layer))};
}
INLINE block_range own_outputs(const group *g)
{
    if (!proj_size(g->layer))
        return own_units(g);
    return (block_range){g->outputs.from * QUAD, smaller(g->outputs.to * QUAD, proj_size(g->layer))};
}
INLINE void copy_columns(real *to, const real *from, block_range columns)
{
    copy_reals(to + columns.from, from + columns.from, larger(0, columns.to - columns.from));
}

/* The group's states before the first step. */
INLINE void load_states(group *g, int64_t n, const lk_span *a)
{
    const block_range units = own_units(g), outputs = own_outputs(g);
    for (int64_t r = 0; r < n; r++) {
        copy_columns(g->h + r * g->h_stride, h_of(g, r, a->read, a), outputs);
        real *c = g->c + r * g->c_stride;
        clear_reals(c + g->units.from * LANES, (g->units.to - g->units.from) * LANES); /* past H: computed, never read */
        copy_columns(c, c_of(g, r, a->read, a), units);
    }
}

/* Zero states before step s, where that is asked for. Every thread clears its own columns. */
INLINE void reset_states(const group *g, int64_t s, int64_t active, const lk_span *a)
{
    const block_range units = own_units(g), outputs = own_outputs(g);
    int any = 0;
    for (int64_t r = 0; r < active; r++)
        if (starts_anew(g, r, s, a)) {
            any = 1;
            clear_reals(g->h + r * g->h_stride + outputs.from, larger(0, outputs.to - outputs.from));
            clear_reals(g->c + r * g->c_stride + units.from, larger(0, units.to - units.from));
        }
    if (any) /* the same for every thread */
        meet(a);
}

/* h goes to out; rows whose last step this was go to the caller. Returns how many rows go on. */
INLINE int64_t report(const group *g, int64_t s, int64_t active, const lk_span *a)
{
    const block_range units = own_units(g), outputs = own_outputs(g);
    for (int64_t r = 0; r < active; r++)
        copy_columns(out_of(g, r, s, a), g->h + r * g->h_stride, outputs);
    const int64_t go_on = still_active(g, active, s + 1);
    for (int64_t r = go_on; r < active; r++) {
        copy_columns(h_of(g, r, a->write, a), g->h + r * g->h_stride, outputs);
        copy_columns(c_of(g, r, a->write, a), g->c + r * g->c_stride, units);
    }
    return go_on;
}

/* n: rows in the group. `step` is a constant at every call. */
INLINE void run_group(group *g, int64_t n, step_function *step, const lk_span *a)
{
    load_states(g, n, a);
    int64_t active = still_active(g, n, 0);
    meet(a);
    for (int64_t s0 = 0; active > 0; s0 += g->steps) {
        const int64_t s1 = smaller(s0 + g->steps, g->length[0]);
        if (one_row_steps(g, s0, s1, n, a)) {
            active = report(g, s1 - 1, active, a);
            continue;
        }
        input_product(g->layer, choose_inputs(g, s0, s1, active, a), g->x, g->z, g->units);
        g->z_now = g->z;
        for (int64_t s = s0; s < s1; s++) {
            if (a->reset)
                reset_states(g, s, active, a);
            step(g, active, a);
            g->z_now += active * g->z_stride;
            active = report(g, s, active, a);
        }
    }
}

/* can_turn: whether lanes may be rows. */
INLINE int all_groups(const lk_layer *layer, const lk_span *a, int can_turn, step_function *step)
{
    group g;
    plan_group(&g, layer, a->T, a->B, !can_turn);
    g.units = share_of(blocks_of(hidden_size(layer)), a);
    g.outputs = share_of(divide_up(proj_size(layer), QUAD), a);
    g.backwards = 0;
    lay_out(&g, a);
    for (int64_t b0 = 0; b0 < a->B; b0 += g.rows) {
        const int64_t n = smaller(g.rows, a->B - b0);
        choose_rows(&g, b0, n, a);
        if (a->rank == 0)
            clear_past_ends(&g, n, a);
        if (can_turn && g.turned)
            run_turned_group(&g, n, a);
        else
            run_group(&g, n, step, a);
    }
    return LK_OK;
}

static int layer_forward(const lk_layer *layer, const lk_span *a)
{
    return all_groups(layer, a, a->size == 1, recurrent_step);
}

#endif
