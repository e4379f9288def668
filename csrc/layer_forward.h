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
    MOST_GROUP_ROWS = 64,
    GROUP_STATE_BYTES = 1 << 20, /* keeps the workspace small for wide layers: fewer rows a group */
    CHUNK_BYTES = 1 << 18        /* of z: half the L2 of the smallest CPU in common use */
};

typedef struct {
    const lk_layer *layer;
    int64_t c_stride, h_stride, z_stride;            /* padded widths of a row */
    int64_t rows, steps;                             /* of a group; of a chunk of time */
    int64_t row[MOST_GROUP_ROWS];                    /* each row's place in the batch */
    int64_t length[MOST_GROUP_ROWS];                 /* and its number of steps */
    const real **x;                                  /* one pointer for each row of z */
    real *z, *c, *h, *h_next, *hidden;               /* hidden: o * tanh(c), where a projection makes h of it */
    real *z_now;                                     /* z of the step at hand */
    real *reported;                                  /* where the cell writes: hidden or h_next */
} group;

INLINE int64_t output_size(const lk_layer *layer) { return layer->proj_size ? layer->proj_size : layer->hidden_size; }
INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Sizes of a group and of a chunk; the same for every call with this layer, T and B. */
static void plan_group(group *plan, const lk_layer *layer, int64_t T, int64_t B)
{
    plan->layer = layer;
    plan->c_stride = blocks_of(layer->hidden_size) * LANES;
    plan->h_stride = layer->proj_size ? layer->proj_size : plan->c_stride;
    plan->z_stride = 4 * plan->c_stride;
    const int64_t z_bytes = plan->z_stride * (int64_t)sizeof(real);
    const int64_t most = larger(1, smaller(MOST_GROUP_ROWS, GROUP_STATE_BYTES / z_bytes));
    const int64_t groups = larger(1, (B + most - 1) / most);
    plan->rows = larger(1, (B + groups - 1) / groups);
    plan->steps = larger(1, smaller(T, CHUNK_BYTES / z_bytes / plan->rows));
}

/* The pointers to the rows of x come first, as the strictest in alignment; then z, c, h, h_next and report. */
static int64_t workspace(const lk_layer *layer, int64_t T, int64_t B)
{
    group plan;
    plan_group(&plan, layer, T, B);
    const int64_t z_rows = plan.steps * plan.rows;
    const int64_t reals = z_rows * plan.z_stride + plan.rows * 2 * (plan.c_stride + plan.h_stride);
    return z_rows * (int64_t)sizeof(real *) + reals * (int64_t)sizeof(real);
}

static void lay_out(group *plan, void *work)
{
    const int64_t z_rows = plan->steps * plan->rows;
    plan->x = work;
    plan->z = (real *)(plan->x + z_rows);
    plan->c = plan->z + z_rows * plan->z_stride;
    plan->h = plan->c + plan->rows * plan->c_stride;
    plan->h_next = plan->h + plan->rows * plan->h_stride;
    plan->hidden = plan->h_next + plan->rows * plan->h_stride;
}

INLINE void recurrent_tile(const int rows, const int panels, int64_t row, int64_t block, int64_t from, int64_t to,
                           const void *job)
{
    const group *g = job;
    const int64_t R = output_size(g->layer);
    const real *h[MOST_TILE_ROWS];
    real *z = g->z_now + row * g->z_stride + block * QUAD;
    vec acc[MOST_TILE_ROWS][4];
    for (int r = 0; r < rows; r++) {
        h[r] = g->h + (row + r) * g->h_stride;
        for (int p = 0; p < panels; p++)
            for (int gate = 0; gate < 4; gate++)
                acc[r * panels + p][gate] = v_load(z + r * g->z_stride + p * QUAD + gate * LANES);
    }
    accumulate(rows, panels, acc, h, from, to, (const real *)g->layer->w_h + block * R * QUAD, R * QUAD);
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++) {
            if (to < R) {
                for (int gate = 0; gate < 4; gate++)
                    v_store(z + r * g->z_stride + p * QUAD + gate * LANES, acc[r * panels + p][gate]);
                continue;
            }
            const int64_t unit = (row + r) * g->c_stride + (block + p) * LANES;
            vec h_t;
            v_store(g->c + unit, cell(acc[r * panels + p], v_load(g->c + unit), &h_t));
            v_store(g->reported + unit, h_t);
        }
}

/* One step of the first `active` rows: h becomes h_t. */
static void recurrent_step(group *g, int64_t active)
{
    const lk_layer *layer = g->layer;
    g->reported = layer->proj_size ? g->hidden : g->h_next;
    sweep(active, blocks_of(layer->hidden_size), output_size(layer), SLICE, recurrent_tile, g);
    if (layer->proj_size) {
        const dense_job projection = {layer->hidden_size, layer->proj_size, LK_LINEAR, layer->w_r, NULL,
                                      g->hidden, g->c_stride, g->h_next, g->h_stride};
        dense_rows(&projection, active);
    }
    real *h = g->h;
    g->h = g->h_next;
    g->h_next = h;
}

/* Rows b0 .. b0 + n - 1 of the batch enter the group, longest first (insertion sort: few rows, stable). */
static void choose_rows(group *g, int64_t b0, int64_t n, int64_t T, const int64_t *lengths)
{
    for (int64_t r = 0; r < n; r++) {
        const int64_t length = lengths ? lengths[b0 + r] : T;
        int64_t place = r;
        for (; place > 0 && g->length[place - 1] < length; place--) {
            g->length[place] = g->length[place - 1];
            g->row[place] = g->row[place - 1];
        }
        g->length[place] = length;
        g->row[place] = b0 + r;
    }
}

static int layer_forward(const lk_layer *layer, int64_t T, int64_t B, const void *x_, int64_t x_step, int64_t x_row,
                         const int64_t *lengths, int reverse, void *h_, void *c_, void *out_, int64_t out_step,
                         int64_t out_row, void *work)
{
    const real *x = x_;
    real *h = h_, *c = c_, *out = out_;
    const int64_t H = layer->hidden_size, R = output_size(layer);
    group g;
    plan_group(&g, layer, T, B);
    lay_out(&g, work);

    for (int64_t b0 = 0; b0 < B; b0 += g.rows) {
        const int64_t n = smaller(g.rows, B - b0);
        choose_rows(&g, b0, n, T, lengths);
        for (int64_t r = 0; r < n; r++) {
            memcpy(g.h + r * g.h_stride, h + g.row[r] * R, (size_t)R * sizeof(real));
            memset(g.c + r * g.c_stride, 0, (size_t)g.c_stride * sizeof(real)); /* units past H stay finite */
            memcpy(g.c + r * g.c_stride, c + g.row[r] * H, (size_t)H * sizeof(real));
            for (int64_t t = g.length[r]; t < T; t++)
                memset(out + t * out_step + g.row[r] * out_row, 0, (size_t)R * sizeof(real));
        }
        int64_t active = n;
        while (active > 0 && g.length[active - 1] == 0)
            active--;
        for (int64_t s0 = 0; active > 0; s0 += g.steps) {
            const int64_t s1 = smaller(s0 + g.steps, g.length[0]);
            /* The input product of the chunk: every step's active rows, one after the other. */
            int64_t z_rows = 0, still = active;
            for (int64_t s = s0; s < s1; s++) {
                while (g.length[still - 1] <= s)
                    still--;
                for (int64_t r = 0; r < still; r++) {
                    const int64_t t = reverse ? g.length[r] - 1 - s : s;
                    g.x[z_rows++] = x + t * x_step + g.row[r] * x_row;
                }
            }
            input_product(layer, z_rows, g.x, g.z);
            g.z_now = g.z;
            for (int64_t s = s0; s < s1; s++) {
                recurrent_step(&g, active);
                g.z_now += active * g.z_stride;
                for (int64_t r = 0; r < active; r++) {
                    const int64_t t = reverse ? g.length[r] - 1 - s : s;
                    memcpy(out + t * out_step + g.row[r] * out_row, g.h + r * g.h_stride, (size_t)R * sizeof(real));
                }
                for (; active > 0 && g.length[active - 1] == s + 1; active--) { /* this row's last step */
                    const int64_t r = active - 1;
                    memcpy(h + g.row[r] * R, g.h + r * g.h_stride, (size_t)R * sizeof(real));
                    memcpy(c + g.row[r] * H, g.c + r * g.c_stride, (size_t)H * sizeof(real));
                }
            }
        }
    }
    return LK_OK;
}
