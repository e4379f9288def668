/* record.h - layer_forward that keeps what backward.h needs: the same sums by the same tiles, so the same bits, but z stays
 * where it was summed up, and every step's c has a place of its own.
 *
 * Rows are sorted (lk_tape), so those of a step are the first ones and lie side by side. Of several threads each has its own
 * rows and never waits or, where rows are few or the weights many, its own units. */

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

INLINE void keep_tile(const int rows, const int panels, const vec acc[][4], int64_t row, int64_t block, const group *g)
{
    real *const z = g->z_now + row * g->z_stride + block * QUAD;
    const int64_t first = row * g->c_stride + block * LANES;
    vec c_t[MOST_TILE_ROWS], output[MOST_TILE_ROWS], h_t[MOST_TILE_ROWS];
    UNROLLED
    for (int i = 0; i < rows * panels; i++) {
        const int64_t at = first + i / panels * g->c_stride + i % panels * LANES;
        for (int gate = 0; gate < 4; gate++)
            v_store(z + i / panels * g->z_stride + i % panels * QUAD + gate * LANES, acc[i][gate]);
        c_t[i] = cell_state(acc[i], v_load(g->c_before + at), &output[i]);
        v_store(g->c + at, c_t[i]);
    }
    cell_output(rows * panels, c_t, output, h_t);
    UNROLLED
    for (int i = 0; i < rows * panels; i++)
        v_store(g->reported + first + i / panels * g->c_stride + i % panels * LANES, h_t[i]);
}

INLINE void record_tile(const int rows, const int panels, int64_t row, int64_t block, int line, const void *job)
{
    vec acc[MOST_TILE_ROWS][4];
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

/* Rows of z whose input product is taken at once. */
INLINE int64_t record_z_rows(const lk_layer *layer)
{
    return most_z_rows(blocks_of(hidden_size(layer)) * QUAD * (int64_t)sizeof(real));
}

/* h, h_next and hidden of all rows; then each thread's pointers to rows of x. */
INLINE int64_t record_reals(const lk_layer *layer, int64_t B)
{
    return whole_lines(B * LANES * (2 * blocks_of(output_size(layer)) + blocks_of(hidden_size(layer))));
}
static int64_t record_workspace(const lk_layer *layer, const lk_tape *tape)
{
    const int64_t pointers = larger(tape->B, record_z_rows(layer)) * larger(1, tape->threads);
    return record_reals(layer, tape->B) * (int64_t)sizeof(real) + pointers * (int64_t)sizeof(real *);
}

static void lay_out_record(group *g, const lk_layer *layer, const lk_tape *tape, const lk_team *team, int64_t row, void *work)
{
    g->layer = layer;
    g->c_stride = blocks_of(hidden_size(layer)) * LANES;
    g->h_stride = blocks_of(output_size(layer)) * LANES;
    g->z_stride = 4 * g->c_stride;
    g->units = own_blocks(team, blocks_of(hidden_size(layer)));
    g->outputs = own_blocks(team, divide_up(proj_size(layer), QUAD));
    g->backwards = 0;
    g->h = (real *)work + row * g->h_stride;
    g->h_next = g->h + tape->B * g->h_stride;
    g->hidden = (real *)work + 2 * tape->B * g->h_stride + row * g->c_stride;
    g->x = (const real **)(void *)((real *)work + record_reals(layer, tape->B))
           + team->rank * larger(tape->B, record_z_rows(layer));
}

/* z of the inputs of this thread's rows at steps s .. stop - 1, `active` of the batch at s. */
static void record_inputs(group *g, const lk_tape *tape, block_range rows, int64_t s, int64_t stop, int64_t active, real *z)
{
    int64_t z_rows = 0;
    for (; s < stop; s++) {
        active = rows_at(tape, s, active);
        for (int64_t row = rows.from; row < smaller(rows.to, active); row++)
            g->x[z_rows++] = tape_x(tape, s, row);
    }
    if (z_rows)
        input_product(g->layer, z_rows, g->x, z + rows.from * g->z_stride, g->units);
}

static int layer_record(const lk_layer *layer, const lk_tape *tape, const lk_team *team, void *work)
{
    const int by_units = team->by_units && team->size > 1, alone = by_units || team->size == 1;
    const lk_span a = {.rank = by_units ? team->rank : 0, .size = by_units ? team->size : 1,
                       .barrier = team->barrier, .meet = team->meet};
    const block_range rows = own_rows(team, tape->B);
    group g;
    lay_out_record(&g, layer, tape, team, rows.from, work);
    const block_range outputs = own_outputs(&g);
    int64_t active = rows_at(tape, tape->first, tape->B);
    for (int64_t row = rows.from; row < smaller(rows.to, active); row++)
        copy_columns(g.h + (row - rows.from) * g.h_stride, tape_h_before(tape, tape->first, row, output_size(layer)), outputs);
    meet(&a);
    const int64_t c_size = tape->B * g.c_stride;
    real *z = tape->z;
    for (int64_t s = tape->first; s < tape->last && active > 0;) {
        /* A chunk of several steps where their rows lie side by side in z: where this thread has all of them. */
        const int64_t stop = smaller(tape->last, s + (alone ? larger(1, record_z_rows(layer) / active) : 1));
        record_inputs(&g, tape, rows, s, stop, active, z);
        for (; s < stop; s++) {
            active = rows_at(tape, s, active);
            const int64_t mine = larger(0, smaller(rows.to, active) - rows.from);
            g.z_now = z + rows.from * g.z_stride;
            g.c_before = (real *)tape->c + (s - tape->first) * c_size + rows.from * g.c_stride;
            g.c = (real *)tape->c + (s + 1 - tape->first) * c_size + rows.from * g.c_stride;
            if (mine)
                record_step(&g, mine, &a);
            for (int64_t row = 0; row < mine; row++)
                copy_columns(tape_h(tape, s, rows.from + row), g.h + row * g.h_stride, outputs);
            z += active * g.z_stride;
        }
    }
    return LK_OK;
}
