/* backward.h - one direction of one layer through time backwards, over what record.h kept.
 *
 * One step, from dL/dh and dL/dc after it (definition: layer_backward in lstmkernel/backends/numpy/kernels.py):
 *   d_c += d_h * o * (1 - tanh(c)^2)                      what h says of c, beside what the next step's c says
 *   d_z = (d_c * g) i (1 - i), (d_c * c_before) f (1 - f), (d_c * i) (1 - g^2), (d_h * tanh(c)) o (1 - o)
 *   d_c_before = d_c * f                                  the straight road: gated, not multiplied by a matrix
 *   d_h_before = d_z W_hh                                 the other paths
 * The tape has the gates, so that only tanh(c) is computed again.
 *
 * Steps are taken in chunks. Within one, d_z goes into a buffer in L2; what does not depend on the recurrence follows for the
 * whole chunk: d_x = d_z W_ih, and the gradients of the weights, sums over all of its rows of d_z and [x, 1, h_before], turned.
 * Weights are packed anew in each call, for they change from call to call; a call is some hundred rows or more.
 *
 * Threads share the rows of a step or its units (lk_team), and always the rows of d_x and the tiles of the weights' gradients.
 * What is summed in which order does not depend on how many there are.
 *
 * Bounds: FMAs, twice those of forward; a step of few rows streams W_hh from where it is. */
#ifndef LK_BACKWARD_H
#define LK_BACKWARD_H
#include "kernels/gradient_products.h"
#include "kernels/transposed.h"

enum {
    CHUNK_STEPS_ROWS = 256,     /* of d_z: enough to pay for loading and storing the weights' gradients, */
    CHUNK_LEAST_ROWS = 96,      /* fewer where units are many, */
    CHUNK_D_Z_BYTES = 1 << 21,  /* so that they stay within this */
    FETCH_BYTES = 1 << 12       /* the tape is read from its end on, this far ahead */
};

typedef struct {
    const lk_tape *tape;
    const lk_gradients *of;
    const lk_team *team;
    int64_t I, H, R, P;
    int64_t c_stride, h_stride;           /* padded widths of a row */
    int64_t d_z_stride;                   /* [4][H] and a line more: rows a power of two apart would share few cache sets */
    int64_t most_rows, turned_stride;     /* of a chunk */
    int64_t inputs;                       /* x, 1 and h_before */
    real *w_hh, *w_ih, *w_hr;             /* packed for product_rows */
    real *d_weights, *d_w_hr;             /* [quads][inputs][QUAD], [quads][P][QUAD] */
    real *d_h, *d_c, *d_hidden;           /* of the step at hand, all rows; d_hidden: of o tanh(c), d_h without a projection */
    real *d_z, *turned;                   /* of a chunk */
    real *hidden, *d_h_rows, *d_h_turned; /* likewise, for a projection: o tanh(c), d_h */
    real **rows;                          /* pointers to rows of d_h, of d_hidden; then this thread's */
    real **own_rows;
    block_range units, outputs;           /* this thread's vectors of units; of h */
    const real *gates;                    /* of the step at hand, all rows */
    int64_t active;                       /* rows that take it */
} backward;

/* The next `count` of work; counts only where work is NULL. */
INLINE real *take(char **work, int64_t *bytes, int64_t count)
{
    real *const place = *work ? (real *)(void *)(*work + *bytes) : NULL;
    *bytes += whole_lines(count) * (int64_t)sizeof(real);
    return place;
}

/* Sizes and places; returns the bytes of work. */
static int64_t plan_backward(backward *b, const lk_tape *tape, const lk_gradients *of, const lk_team *team, char *work)
{
    const int64_t I = of->input_size, H = of->hidden_size, P = of->proj_size, R = P ? P : H, B = tape->B;
    const int threads = (int)larger(1, tape->threads);
    b->tape = tape, b->of = of, b->team = team;
    b->I = I, b->H = H, b->R = R, b->P = P;
    b->c_stride = divide_up(H, LANES) * LANES, b->h_stride = divide_up(R, LANES) * LANES;
    b->d_z_stride = whole_lines(4 * H) + LINE;
    b->most_rows = smaller(CHUNK_STEPS_ROWS, larger(CHUNK_LEAST_ROWS, CHUNK_D_Z_BYTES / (4 * H * (int64_t)sizeof(real))));
    b->most_rows = larger(B, smaller(b->most_rows, B * (tape->last - tape->first)));
    b->turned_stride = whole_lines(b->most_rows) + LINE;
    b->inputs = I + 1 + R;
    int64_t bytes = 0;
    b->w_hh = take(&work, &bytes, divide_up(R, QUAD) * 4 * H * QUAD);
    b->w_ih = take(&work, &bytes, of->d_x ? divide_up(I, QUAD) * 4 * H * QUAD : 0);
    b->w_hr = take(&work, &bytes, divide_up(H, QUAD) * P * QUAD);
    b->d_weights = take(&work, &bytes, of->d_w_ih ? divide_up(4 * H, QUAD) * b->inputs * QUAD : 0);
    b->d_w_hr = take(&work, &bytes, of->d_w_ih ? divide_up(H, QUAD) * P * QUAD : 0);
    b->d_h = take(&work, &bytes, B * b->h_stride);
    b->d_c = take(&work, &bytes, B * b->c_stride);
    b->d_hidden = P ? take(&work, &bytes, B * b->c_stride) : b->d_h;
    b->d_z = take(&work, &bytes, b->most_rows * b->d_z_stride);
    b->turned = take(&work, &bytes, of->d_w_ih ? b->inputs * b->turned_stride : 0);
    b->hidden = take(&work, &bytes, P ? b->most_rows * b->c_stride : 0);
    b->d_h_rows = take(&work, &bytes, P ? b->most_rows * b->h_stride : 0);
    b->d_h_turned = take(&work, &bytes, P ? P * b->turned_stride : 0);
    const int64_t most = larger(b->most_rows, LANES);
    b->rows = work ? (real **)(void *)(work + bytes) : NULL;
    b->own_rows = work ? b->rows + 2 * B + most * team->rank : NULL;
    return bytes + (2 * B + most * threads) * (int64_t)sizeof(real *);
}

static int64_t backward_workspace(const lk_tape *tape, const lk_gradients *of)
{
    backward b;
    const lk_team alone = {.size = 1};
    return plan_backward(&b, tape, of, &alone, NULL);
}

/* All threads' parts are there. */
INLINE void meet_all(const lk_team *team)
{
    if (team->size > 1)
        team->meet(team->barrier, team->size);
}
INLINE void meet_in_step(const lk_team *team)
{
    if (team->by_units)
        meet_all(team);
}

/* ---------------------------------------------------------------- before and after all steps */

/* This thread's share of w [K][outputs]. */
static void pack_share(const backward *b, real *to, const void *w, int64_t K, int64_t outputs)
{
    pack_columns(to, w, K, outputs, shared_out(b->team, divide_up(outputs, QUAD)));
}

static void prepare_weights(const backward *b)
{
    pack_share(b, b->w_hh, b->of->w_hh, 4 * b->H, b->R);
    if (b->of->d_x)
        pack_share(b, b->w_ih, b->of->w_ih, 4 * b->H, b->I);
    if (b->P)
        pack_share(b, b->w_hr, b->of->w_hr, b->P, b->H);
}

/* What is found is added to what the caller's arrays have, so that a pass in several calls has one order of sums: they come in,
 * and go out again. d: [QUAD] for each input, of which this is one vector; from and to n rows of w, `first` and after. */
INLINE void load_turned(real *d, int64_t inputs, void *w, int64_t first, int64_t n, const backward *b)
{
    for (int64_t row = 0; row < n; row++)
        b->own_rows[row] = (real *)w + (first + row) * inputs;
    turn(d, QUAD, (const real *const *)b->own_rows, n, inputs);
}
INLINE void store_turned(real *d, int64_t inputs, void *w, int64_t first, int64_t n, const backward *b)
{
    for (int64_t row = 0; row < n; row++)
        b->own_rows[row] = (real *)w + (first + row) * inputs;
    turn_back(b->own_rows, d, QUAD, n, inputs);
}

/* move(d, inputs, w, first, n, b) for this thread's vectors of d_weights. */
INLINE void move_weights(const backward *b, void (*move)(real *, int64_t, void *, int64_t, int64_t, const backward *))
{
    const block_range vectors = shared_out(b->team, divide_up(4 * b->H, LANES));
    for (int64_t vector = vectors.from; vector < vectors.to; vector++) {
        const int64_t first = vector * LANES, n = smaller(LANES, 4 * b->H - first);
        real *const d = b->d_weights + vector / 4 * b->inputs * QUAD + vector % 4 * LANES;
        move(d, b->I, b->of->d_w_ih, first, n, b);
        move(d + b->I * QUAD, 1, b->of->d_bias, first, n, b);
        move(d + (b->I + 1) * QUAD, b->R, b->of->d_w_hh, first, n, b);
    }
}

static void load_weights(const backward *b)
{
    move_weights(b, load_turned);
    if (b->P)
        pack_share(b, b->d_w_hr, b->of->d_w_hr, b->P, b->H);
}
static void store_weights(const backward *b)
{
    move_weights(b, store_turned);
    const block_range quads = shared_out(b->team, b->P ? divide_up(b->H, QUAD) : 0);
    for (int64_t quad = quads.from; quad < quads.to; quad++)
        for (int64_t p = 0; p < b->P; p++)
            copy_reals((real *)b->of->d_w_hr + p * b->H + quad * QUAD, b->d_w_hr + (quad * b->P + p) * QUAD,
                       smaller(QUAD, b->H - quad * QUAD));
}

/* This thread's columns of d_h and d_c: in, and out again. Columns past the last are zero, and stay so. */
INLINE block_range columns_of(block_range vectors, int64_t width)
{
    return (block_range){vectors.from * LANES, smaller(width, vectors.to * LANES)};
}
static void load_gradients(const backward *b)
{
    const block_range rows = own_rows(b->team, b->tape->B);
    for (int64_t row = rows.from; row < rows.to; row++) {
        real *const d_h = b->d_h + row * b->h_stride, *const d_c = b->d_c + row * b->c_stride;
        clear_reals(d_h + b->outputs.from * LANES, (b->outputs.to - b->outputs.from) * LANES);
        clear_reals(d_c + b->units.from * LANES, (b->units.to - b->units.from) * LANES);
        copy_columns(d_h, (const real *)b->of->d_h + row * b->R, columns_of(b->outputs, b->R));
        copy_columns(d_c, (const real *)b->of->d_c + row * b->H, columns_of(b->units, b->H));
    }
}
static void store_gradients(const backward *b)
{
    const block_range rows = own_rows(b->team, b->tape->B);
    for (int64_t row = rows.from; row < rows.to; row++) {
        copy_columns((real *)b->of->d_h + row * b->R, b->d_h + row * b->h_stride, columns_of(b->outputs, b->R));
        copy_columns((real *)b->of->d_c + row * b->H, b->d_c + row * b->c_stride, columns_of(b->units, b->H));
    }
}

/* ---------------------------------------------------------------- a step */

INLINE void fetch(const real *now) { __builtin_prefetch((const char *)now - FETCH_BYTES); }

/* The cell of n units, a vector of them or less. gates: i, f, g, o, [4][H]; *d_c: of c_t, becomes that of c_before; d_z: [4][H].
 * Returns o tanh(c). */
INLINE vec cell_backward(const real *gates, int64_t H, int64_t n, vec c_before, vec c_t, vec d_h, real *d_c, real *d_z)
{
    enum { I, F, G, O };
    const vec i = v_load_n(gates + I * H, n), f = v_load_n(gates + F * H, n);
    const vec g = v_load_n(gates + G * H, n), o = v_load_n(gates + O * H, n);
    const vec one = v_splat(1), reported = v_tanh(c_t), hidden = v_mul(o, reported);
    const vec dc = v_fma(v_mul(d_h, o), v_fnma(reported, reported, one), v_load(d_c));
    v_store_n(d_z + I * H, v_mul(v_mul(dc, g), v_mul(i, v_sub(one, i))), n);
    v_store_n(d_z + F * H, v_mul(v_mul(dc, c_before), v_mul(f, v_sub(one, f))), n);
    v_store_n(d_z + G * H, v_mul(v_mul(dc, i), v_fnma(g, g, one)), n);
    v_store_n(d_z + O * H, v_mul(v_mul(d_h, hidden), v_sub(one, o)), n);
    v_store(d_c, v_mul(dc, f));
    return hidden;
}

/* Of n units from `unit` on, of one row of the step at hand. chunk_row: its place in the chunk. */
INLINE void units_backward(const backward *b, int64_t step, int64_t row, int64_t chunk_row, int64_t unit, int64_t n)
{
    const int64_t H = b->H;
    const real *d_h = b->d_hidden + row * (b->P ? b->c_stride : b->h_stride) + unit;
    const real *c_before = (const real *)b->tape->c + (step * b->tape->B + row) * H + unit, *c_t = c_before + b->tape->B * H;
    const real *gates = b->gates + row * 4 * H + unit;
    for (int gate = 0; gate < 4; gate++)
        fetch(gates + gate * H);
    fetch(c_before);
    const vec hidden = cell_backward(gates, H, n, v_load_n(c_before, n), v_load_n(c_t, n), v_load(d_h),
                                     b->d_c + row * b->c_stride + unit, b->d_z + chunk_row * b->d_z_stride + unit);
    if (b->P)
        v_store(b->hidden + chunk_row * b->c_stride + unit, hidden);
}

/* Of this thread's rows and units. chunk_row: the step's first row in the chunk. */
SEPARATE void cells_backward(const backward *b, int64_t s, block_range rows, int64_t chunk_row)
{
    const int64_t stop = smaller(b->H, b->units.to * LANES);
    for (int64_t row = rows.to - 1; row >= rows.from; row--) {
        int64_t unit = b->units.from * LANES;
        for (; unit + LANES <= stop; unit += LANES)
            units_backward(b, s - b->tape->first, row, chunk_row + row, unit, LANES);
        if (unit < stop)
            units_backward(b, s - b->tape->first, row, chunk_row + row, unit, stop - unit);
    }
}

/* d_h gets what the loss says of h_t itself. */
static void add_d_out(const backward *b, int64_t s, block_range rows)
{
    const block_range columns = columns_of(b->outputs, b->R);
    for (int64_t row = rows.to - 1; row >= rows.from; row--) {
        const int64_t time = tape_time(b->tape, s, row);
        const real *d_out = (const real *)b->of->d_out + time * b->of->d_out_step + row * b->of->d_out_row;
        real *const d_h = b->d_h + row * b->h_stride;
        for (int64_t i = columns.from; i < columns.to; i += LANES) {
            fetch(d_out + i);
            v_store(d_h + i, v_add(v_load(d_h + i), v_load_n(d_out + i, columns.to - i)));
        }
    }
}

/* d_h, of h after the projection, becomes d_hidden. */
static void project_backward(const backward *b, block_range rows, int64_t chunk_row)
{
    for (int64_t row = rows.from; row < rows.to; row++)
        copy_columns(b->d_h_rows + (chunk_row + row) * b->h_stride, b->d_h + row * b->h_stride, columns_of(b->outputs, b->R));
    meet_in_step(b->team);
    const product p = {b->d_h + rows.from * b->h_stride, b->h_stride, b->P, b->w_hr,
                       b->rows + b->tape->B + rows.from, b->c_stride, 0};
    product_rows(&p, rows.to - rows.from, b->units);
}

static void step_backward(const backward *b, int64_t s, int64_t chunk_row)
{
    block_range rows = own_rows(b->team, b->tape->B);
    rows.to = smaller(rows.to, b->active);
    rows.from = smaller(rows.from, rows.to);
    if (b->of->d_out)
        add_d_out(b, s, rows);
    if (b->P)
        project_backward(b, rows, chunk_row);
    cells_backward(b, s, rows, chunk_row);
    meet_in_step(b->team);
    const product p = {b->d_z + (chunk_row + rows.from) * b->d_z_stride, b->d_z_stride, 4 * b->H, b->w_hh,
                       b->rows + rows.from, b->h_stride, 0};
    product_rows(&p, rows.to - rows.from, b->outputs);
}

/* ---------------------------------------------------------------- a chunk of steps */

/* Rows of steps s1 - 1 .. s0 have a place each in the chunk, in that order. This thread's share of the inputs, turned. */
static void turn_inputs(const backward *b, int64_t s0, int64_t s1, int64_t active, int64_t N)
{
    const block_range share = shared_out(b->team, divide_up(N, 4));
    const int64_t first = 4 * share.from, count = smaller(N, 4 * share.to) - first;
    if (count <= 0)
        return;
    const real **rows = (const real **)b->own_rows;
    for (int part = 0; part < 2; part++) {
        int64_t n = 0, now = active;
        for (int64_t s = s1 - 1; s >= s0; s--) {
            while (now < b->tape->B && row_steps(b->tape, now) > s)
                now++;
            for (int64_t row = 0; row < now; row++)
                rows[n++] = part ? tape_h_before(b->tape, s, row, b->R) : tape_x(b->tape, s, row);
        }
        turn(b->turned + (part ? b->I + 1 : 0) * b->turned_stride + first, b->turned_stride, rows + first, count,
             part ? b->R : b->I);
    }
    for (int64_t k = first; k < first + count; k++)
        b->turned[b->I * b->turned_stride + k] = 1;
}

/* d_x of this thread's share of the chunk's rows. */
static void inputs_backward(const backward *b, int64_t s0, int64_t s1, int64_t active, int64_t N)
{
    const block_range share = shared_out(b->team, N);
    int64_t n = 0;
    for (int64_t s = s1 - 1; s >= s0; s--) {
        while (active < b->tape->B && row_steps(b->tape, active) > s)
            active++;
        for (int64_t row = 0; row < active; row++)
            b->own_rows[n++] = (real *)b->of->d_x + tape_time(b->tape, s, row) * b->of->d_x_step + row * b->of->d_x_row;
    }
    const product p = {b->d_z + share.from * b->d_z_stride, b->d_z_stride, 4 * b->H, b->w_ih,
                       b->own_rows + share.from, b->I, b->of->d_x_add};
    product_rows(&p, share.to - share.from, (block_range){0, divide_up(b->I, LANES)});
}

static void weights_backward(const backward *b, int64_t N)
{
    const weight_product gates = {b->turned, b->turned_stride, b->inputs, N, b->d_z, b->d_z_stride, divide_up(4 * b->H, LANES),
                                  b->d_weights};
    weight_gradient(&gates, b->team);
    if (!b->P)
        return;
    const block_range share = shared_out(b->team, b->P);
    for (int64_t p = share.from; p < share.to; p++)
        for (int64_t k = 0; k < N; k++)
            b->d_h_turned[p * b->turned_stride + k] = b->d_h_rows[k * b->h_stride + p];
    meet_all(b->team);
    const weight_product projection = {b->d_h_turned, b->turned_stride, b->P, N, b->hidden, b->c_stride, b->c_stride / LANES,
                                       b->d_w_hr};
    weight_gradient(&projection, b->team);
}

/* Steps before s1, as many as have a place; returns the first of them. */
static int64_t chunk_backward(backward *b, int64_t s1)
{
    const int64_t active = b->active;
    int64_t s = s1, N = 0;
    while (s > b->tape->first) {
        while (b->active < b->tape->B && row_steps(b->tape, b->active) > s - 1)
            b->active++;
        if (N + b->active > b->most_rows)
            break;
        s--;
        b->gates -= b->active * 4 * b->H;
        step_backward(b, s, N);
        N += b->active;
    }
    if (b->of->d_w_ih)
        turn_inputs(b, s, s1, active, N);
    meet_all(b->team);
    if (b->of->d_x)
        inputs_backward(b, s, s1, active, N);
    if (b->of->d_w_ih)
        weights_backward(b, N);
    meet_all(b->team);
    return s;
}

static int layer_backward(const lk_tape *tape, const lk_gradients *gradients, const lk_team *team, void *work)
{
    backward b;
    plan_backward(&b, tape, gradients, team, work);
    b.units = own_blocks(team, divide_up(b.H, LANES));
    b.outputs = own_blocks(team, divide_up(b.R, LANES));
    if (team->rank == 0)
        for (int64_t row = 0; row < tape->B; row++) {
            b.rows[row] = b.d_h + row * b.h_stride;
            b.rows[tape->B + row] = b.d_hidden + row * b.c_stride;
        }
    prepare_weights(&b);
    if (gradients->d_w_ih)
        load_weights(&b);
    load_gradients(&b);
    int64_t rows = 0, active = tape->B;
    for (int64_t s = tape->first; s < tape->last; s++)
        rows += active = rows_at(tape, s, active);
    b.gates = (const real *)tape->gates + rows * 4 * b.H;
    b.active = active;
    meet_all(team);
    for (int64_t s = tape->last; s > tape->first;)
        s = chunk_backward(&b, s);
    store_gradients(&b);
    if (gradients->d_w_ih)
        store_weights(&b);
    return LK_OK;
}

#endif
