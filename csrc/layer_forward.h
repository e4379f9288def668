/* layer_forward.h - one direction of one layer over all time steps and rows.
 *
 * Rows are taken in groups that keep their states in a small workspace and run through all of time together. Time is
 * taken in chunks: the input product of a chunk is one matrix product with many rows (all its steps), whose result stays
 * in L2; then the steps follow one by one, each a recurrent product whose tiles finish in registers with the cell
 * update. Rows of unequal length are sorted longest first, so that the active ones are always the first of the group.
 *
 * Bounds: the input product is FMA-bound from a few rows on; a step of a single row streams W_hh from the nearest cache
 * that holds it; a step of a small layer is latency: R dependent FMAs, then sigmoid, tanh and the update. */

enum {
    MOST_GROUP_ROWS = 96,
    GROUP_Z_BYTES = 1 << 20, /* of z for one step: wide layers take fewer rows a group, and the workspace stays small */
    CHUNK_BYTES = 1 << 18,   /* of z for a chunk of several steps: stays in L2 (512 KiB and more on most CPUs), */
    CHUNK_ROWS = 96,         /* unless that were fewer rows than W_ih should be read for, */
    MOST_CHUNK_BYTES = 1 << 21 /* within reason */
};

typedef struct {
    const lk_layer *layer;
    int64_t c_stride, h_stride, z_stride;            /* padded widths of a row */
    int64_t rows, steps;                             /* of a group; of a chunk of time */
    block_range units, outputs;                      /* blocks of the cell; of the projection */
    int turned;                                      /* lanes are rows: many_rows.h */
    int64_t row[MOST_GROUP_ROWS];                    /* each row's place in the batch */
    int64_t length[MOST_GROUP_ROWS];                 /* and its number of steps */
    const real **x;                                  /* one pointer for each row of z */
    real *z, *c, *h, *h_next, *hidden;               /* hidden: o * tanh(c), where a projection makes h of it */
    real *z_now;                                     /* z of the step at hand */
    real *reported;                                  /* where the cell writes: hidden or h_next */
    int backwards;                                   /* every other step */
} group;

INLINE int64_t output_size(const lk_layer *layer) { return layer->proj_size ? layer->proj_size : layer->hidden_size; }

/* Whether a step costs less with lanes over rows: in cycles, of FMAs and of the cell update for whole vectors, and of
 * turning every element of x and h. */
static int worth_turning(const lk_layer *layer, int64_t rows)
{
    const int64_t I = layer->input_size, H = layer->hidden_size, vector = 2 * (I + H) + 46;
    const int64_t as_units = rows * blocks_of(H) * vector;
    const int64_t as_rows = divide_up(rows, LANES) * H * vector + rows * (I + H) * 2 / 3;
    return !layer->proj_size && as_rows < as_units;
}

/* Sizes of a group and of a chunk; the same for every call with this layer, T and B. */
static void plan_group(group *plan, const lk_layer *layer, int64_t T, int64_t B)
{
    plan->layer = layer;
    plan->units = (block_range){0, blocks_of(layer->hidden_size)};
    plan->outputs = (block_range){0, divide_up(layer->proj_size, QUAD)};
    plan->turned = worth_turning(layer, B);
    if (plan->turned) {
        plan->rows = smaller(divide_up(B, LANES), TILE_ROWS) * LANES;
        plan->steps = 1;
        return;
    }
    plan->c_stride = plan->units.to * LANES;
    plan->h_stride = blocks_of(output_size(layer)) * LANES;
    plan->z_stride = 4 * plan->c_stride;
    const int64_t z_bytes = plan->z_stride * (int64_t)sizeof(real);
    const int64_t most = larger(1, smaller(MOST_GROUP_ROWS, GROUP_Z_BYTES / z_bytes));
    const int64_t groups = larger(1, divide_up(B, most));
    plan->rows = larger(1, divide_up(B, groups));
    const int64_t z_rows = larger(CHUNK_BYTES / z_bytes, smaller(CHUNK_ROWS, MOST_CHUNK_BYTES / z_bytes));
    plan->steps = larger(1, smaller(T, z_rows / plan->rows));
}

/* See lay_out. */
static int64_t workspace(const lk_layer *layer, int64_t T, int64_t B)
{
    group plan;
    plan_group(&plan, layer, T, B);
    const int64_t z_rows = plan.steps * plan.rows;
    const int64_t reals = plan.turned ? plan.rows * (layer->input_size + 3 * layer->hidden_size)
                                      : z_rows * plan.z_stride + plan.rows * 2 * (plan.c_stride + plan.h_stride);
    return z_rows * (int64_t)sizeof(real *) + reals * (int64_t)sizeof(real);
}

/* z, c, h, h_next, hidden, each of whole vectors, and so the pointers to the rows of x after them are aligned too. */
static void lay_out(group *plan, void *work)
{
    const int64_t z_rows = plan->steps * plan->rows;
    plan->z = work;
    plan->c = plan->z + z_rows * plan->z_stride;
    plan->h = plan->c + plan->rows * plan->c_stride;
    plan->h_next = plan->h + plan->rows * plan->h_stride;
    plan->hidden = plan->h_next + plan->rows * plan->h_stride;
    plan->x = (const real **)(void *)(plan->hidden + plan->rows * plan->c_stride);
}

INLINE void finish_tile(const int rows, const int panels, const vec acc[][4], int64_t row, int64_t block, const group *g)
{
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++) {
            const int64_t unit = (row + r) * g->c_stride + (block + p) * LANES;
            vec h_t;
            v_store(g->c + unit, cell(acc[r * panels + p], v_load(g->c + unit), &h_t));
            v_store(g->reported + unit, h_t);
        }
}

INLINE void step_tile(const int rows, const int panels, int64_t row, int64_t block, int line, const void *job)
{
    const group *g = job;
    const int64_t R = output_size(g->layer);
    const real *h[MOST_TILE_ROWS];
    vec acc[MOST_TILE_ROWS][4];
    for (int r = 0; r < rows; r++)
        h[r] = g->h + (row + r) * g->h_stride;
    load_quads(rows, panels, acc, g->z_now + row * g->z_stride + block * QUAD, g->z_stride);
    accumulate(rows, panels, acc, h, R, (const real *)g->layer->w_h + block * R * QUAD, line);
    finish_tile(rows, panels, acc, row, block, g);
}

/* The same for layers of at most FEW_UNITS: the sum over h in two parts, of the even k, which goes on from the inputs' sum, and of
 * the odd k. Half the chain of dependent FMAs, which is much of a small layer's step. */
INLINE void small_step_tile(const int rows, const int panels, int64_t row, int64_t block, int line, const void *job)
{
    (void)line; /* its weights are always near */
    const group *g = job;
    const int64_t R = output_size(g->layer);
    const real *w = (const real *)g->layer->w_h + block * R * QUAD;
    vec acc[MOST_TILE_ROWS][4], odd[MOST_TILE_ROWS][4];
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
    finish_tile(rows, panels, acc, row, block, g);
}

/* The recurrent product and the cell update: functions of their own, because in a larger one the loops of the tiles lose
 * registers to each other. */
SEPARATE void step_row(const group *g) { sweep_row(g->units, g->backwards, step_tile, g); }
SEPARATE void step_rows(const group *g, int64_t active)
{
    sweep_rows(TILE_ROWS, active, g->units, output_size(g->layer), step_tile, g);
}
SEPARATE void small_step(const group *g, int64_t active)
{
    sweep(larger(1, TILE_ROWS / 2), active, g->units, output_size(g->layer), 0, small_step_tile, g);
}

/* One step of the first `active` rows: h becomes h_t. */
INLINE void recurrent_step(group *g, int64_t active)
{
    const lk_layer *layer = g->layer;
    g->reported = layer->proj_size ? g->hidden : g->h_next;
    if (layer->hidden_size <= FEW_UNITS)
        small_step(g, active);
    else if (active == 1)
        step_row(g);
    else
        step_rows(g, active);
    g->backwards = !g->backwards;
    if (layer->proj_size) {
        const dense_job projection = {layer->hidden_size, layer->proj_size, LK_LINEAR, layer->w_r, NULL,
                                      g->hidden, g->c_stride, g->h_next, g->h_stride};
        dense_rows(&projection, active, g->outputs);
    }
    real *h = g->h;
    g->h = g->h_next;
    g->h_next = h;
}

/* The caller's arrays, and which steps to take. */
typedef struct {
    int64_t T;
    const real *x;
    int64_t x_step, x_row;
    const int64_t *lengths; /* or NULL */
    int reverse;
    int64_t first, last;
    real *h, *c, *out;
    int64_t out_step, out_row;
} call;

/* Rows b0 .. b0 + n - 1 of the batch enter the group, longest first (insertion sort: few rows, stable). */
static void choose_rows(group *g, int64_t b0, int64_t n, const call *a)
{
    for (int64_t r = 0; r < n; r++) {
        const int64_t length = a->lengths ? a->lengths[b0 + r] : a->T;
        int64_t place = r;
        for (; place > 0 && g->length[place - 1] < length; place--) {
            g->length[place] = g->length[place - 1];
            g->row[place] = g->row[place - 1];
        }
        g->length[place] = length;
        g->row[place] = b0 + r;
    }
}

INLINE void copy_reals(real *to, const real *from, int64_t n) { memcpy(to, from, (size_t)n * sizeof(real)); }
INLINE void clear_reals(real *to, int64_t n) { memset(to, 0, (size_t)n * sizeof(real)); }

/* The group's states before the first step. */
static void load_states(group *g, int64_t n, const call *a)
{
    const int64_t H = g->layer->hidden_size, R = output_size(g->layer);
    for (int64_t r = 0; r < n; r++) {
        copy_reals(g->h + r * g->h_stride, a->h + g->row[r] * R, R);
        clear_reals(g->c + r * g->c_stride, g->c_stride); /* units past H, too: they are computed, never read */
        copy_reals(g->c + r * g->c_stride, a->c + g->row[r] * H, H);
    }
}

/* Zeros in out where a row has no steps: with the first of the steps, so that it is done once. */
static void clear_past_ends(const group *g, int64_t n, const call *a)
{
    for (int64_t r = 0; a->first == 0 && r < n; r++)
        for (int64_t t = g->length[r]; t < a->T; t++)
            clear_reals(a->out + t * a->out_step + g->row[r] * a->out_row, output_size(g->layer));
}

/* When row r of the group takes its step s, and the step behind its last one. */
INLINE int64_t time_of(const group *g, int64_t r, int64_t s, const call *a)
{
    return a->reverse ? g->length[r] - 1 - s : s;
}
INLINE int64_t end_of(const group *g, int64_t r, const call *a) { return smaller(g->length[r], a->last); }

/* Pointers to the active rows of x at steps s0 .. s1 - 1, one step after the other. Returns how many. */
static int64_t choose_inputs(group *g, int64_t s0, int64_t s1, int64_t active, const call *a)
{
    int64_t z_rows = 0;
    for (int64_t s = s0; s < s1; s++) {
        while (g->length[active - 1] <= s)
            active--;
        for (int64_t r = 0; r < active; r++)
            g->x[z_rows++] = a->x + time_of(g, r, s, a) * a->x_step + g->row[r] * a->x_row;
    }
    return z_rows;
}

/* h goes to out; rows whose last step this was go to the caller. Returns how many rows go on. */
static int64_t report(const group *g, int64_t s, int64_t active, const call *a)
{
    const int64_t H = g->layer->hidden_size, R = output_size(g->layer);
    for (int64_t r = 0; r < active; r++)
        copy_reals(a->out + time_of(g, r, s, a) * a->out_step + g->row[r] * a->out_row, g->h + r * g->h_stride, R);
    while (active > 0 && end_of(g, active - 1, a) == s + 1) {
        active--;
        copy_reals(a->h + g->row[active] * R, g->h + active * g->h_stride, R);
        copy_reals(a->c + g->row[active] * H, g->c + active * g->c_stride, H);
    }
    return active;
}

static void run_group(group *g, int64_t active, const call *a)
{
    while (active > 0 && end_of(g, active - 1, a) <= a->first)
        active--;
    for (int64_t s0 = a->first; active > 0; s0 += g->steps) {
        const int64_t s1 = smaller(s0 + g->steps, end_of(g, 0, a));
        input_product(g->layer, choose_inputs(g, s0, s1, active, a), g->x, g->z, g->units);
        g->z_now = g->z;
        for (int64_t s = s0; s < s1; s++) {
            recurrent_step(g, active);
            g->z_now += active * g->z_stride;
            active = report(g, s, active, a);
        }
    }
}

/* A group with lanes over rows. */
static void run_turned_group(group *g, int64_t active, const call *a, real *work)
{
    const int64_t I = g->layer->input_size, H = g->layer->hidden_size, n = active, stride = g->rows;
    crowd turned = {g->layer, stride, work, work + I * stride, work + (I + H) * stride, work + (I + 2 * H) * stride};
    clear_reals(work, (I + 3 * H) * stride); /* lanes without a row: they are computed, never read */
    g->x = (const real **)(void *)(work + (I + 3 * H) * stride);
    real **out = (real **)(void *)g->x; /* the same room, in turns */
    for (int64_t r = 0; r < n; r++)
        g->x[r] = a->h + g->row[r] * H;
    turn(turned.h, stride, g->x, n, H);
    for (int64_t r = 0; r < n; r++)
        g->x[r] = a->c + g->row[r] * H;
    turn(turned.c, stride, g->x, n, H);
    while (active > 0 && end_of(g, active - 1, a) <= a->first)
        active--;
    for (int64_t s = a->first; active > 0; s++) {
        choose_inputs(g, s, s + 1, active, a);
        turn(turned.x, stride, g->x, active, I);
        crowd_step(&turned, divide_up(active, LANES));
        for (int64_t r = 0; r < active; r++)
            out[r] = a->out + time_of(g, r, s, a) * a->out_step + g->row[r] * a->out_row;
        turn_back(out, turned.h, stride, active, H);
        while (active > 0 && end_of(g, active - 1, a) == s + 1) {
            active--;
            for (int64_t unit = 0; unit < H; unit++) {
                a->h[g->row[active] * H + unit] = turned.h[unit * stride + active];
                a->c[g->row[active] * H + unit] = turned.c[unit * stride + active];
            }
        }
    }
}

static int layer_forward(const lk_layer *layer, int64_t T, int64_t B, const void *x, int64_t x_step, int64_t x_row,
                         const int64_t *lengths, int reverse, int64_t first, int64_t last, void *h, void *c, void *out,
                         int64_t out_step, int64_t out_row, void *work)
{
    const call a = {T, x, x_step, x_row, lengths, reverse, first, last, h, c, out, out_step, out_row};
    group g;
    g.backwards = 0;
    plan_group(&g, layer, last - first, B);
    if (!g.turned)
        lay_out(&g, work);
    for (int64_t b0 = 0; b0 < B; b0 += g.rows) {
        const int64_t n = smaller(g.rows, B - b0);
        choose_rows(&g, b0, n, &a);
        clear_past_ends(&g, n, &a);
        if (g.turned) {
            run_turned_group(&g, n, &a, work);
            continue;
        }
        load_states(&g, n, &a);
        run_group(&g, n, &a);
    }
    return LK_OK;
}
