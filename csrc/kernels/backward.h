/* backward.h - one direction of one layer through time backwards, over what record.h kept.
 *
 * One step, from dL/dh and dL/dc after it (definition: layer_backward in lstmkernel/backends/numpy/definition.py):
 *
 *   forward                     backward
 *   h = o tanh(c)               d_c += d_h o (1 - tanh(c)^2)        added to what comes from the next step's c
 *   o = sigmoid(z_o)            d_z_o = (d_h tanh(c)) o (1 - o)
 *   g = tanh(z_g)               d_z_g = (d_c i) (1 - g^2)
 *   i = sigmoid(z_i)            d_z_i = (d_c g) i (1 - i)
 *   f = sigmoid(z_f)            d_z_f = (d_c c_before) f (1 - f)
 *   c = f c_before + i g        d_c_before = d_c f                  the straight road: gated, not times a matrix
 *   z = ... + W_hh h_before     d_h_before = d_z W_hh               the other paths
 *
 * The tape has the gates, so that only tanh(c) is computed again.
 *
 * Steps are taken in chunks. Within a chunk, d_z goes into a buffer in L2. The products that do not depend on the
 * recurrence follow for the whole chunk: d_x = d_z W_ih, and the gradients of the weights, which are sums over all of
 * its rows of d_z and the transposed [x, 1, h_before]. Weights are packed anew in each backward pass, because they
 * change from one to the next. That costs little, because a backward pass has hundreds of rows.
 *
 * A team shares the rows of a chunk or the units of a step (by_units). It always shares the rows of d_x and the tiles of
 * the weights' gradients. The order of every sum is the same for every size of the team.
 *
 * Bounds: FMAs, twice those of forward; a step of few rows streams W_hh from where it is. */
#ifndef LK_BACKWARD_H
#define LK_BACKWARD_H
#include "kernels/backward_weights.h"
#include "kernels/record.h"

/* ---------------------------------------------------------------- before and after all steps */

/* The columns of some vectors. Those past the last one are zero, and stay zero. */
INLINE range columns_of(range vectors, int64_t width)
{
    return (range){vectors.from * LANES, smaller(width, vectors.to * LANES)};
}
INLINE void load_row(real *to, const real *from, int64_t width, int64_t stride)
{
    copy_reals(to, from, width);
    clear_reals(to + width, stride - width);
}
/* Phases: the caller's d_h and d_c come into the workspace, and go back. */
static void load_gradients(const backward_pass *pass)
{
    const lk_gradients *gradients = pass->gradients;
    const int64_t R = pass->R, H = pass->H, h_stride = pass->h_stride, c_stride = pass->c_stride;
    FOR_PARTS (rows, pass->team, pass->tape->B, 0)
        for (int64_t row = rows.from; row < rows.to; row++) {
            load_row(pass->step.d_h + row * h_stride, (const real *)gradients->d_h + row * R, R, h_stride);
            load_row(pass->step.d_c + row * c_stride, (const real *)gradients->d_c + row * H, H, c_stride);
            pass->step.d_h_rows[row] = pass->step.d_h + row * h_stride;
            pass->step.d_hidden_rows[row] = pass->step.d_hidden + row * c_stride;
        }
}
static void store_gradients(const backward_pass *pass)
{
    const int64_t R = pass->R, H = pass->H;
    FOR_PARTS (rows, pass->team, pass->tape->B, 0)
        for (int64_t row = rows.from; row < rows.to; row++) {
            copy_reals((real *)pass->gradients->d_h + row * R, pass->step.d_h + row * pass->h_stride, R);
            copy_reals((real *)pass->gradients->d_c + row * H, pass->step.d_c + row * pass->c_stride, H);
        }
}

/* ---------------------------------------------------------------- a step */

INLINE void fetch(const real *now) { __builtin_prefetch((const char *)now - FETCH_BYTES); }

/* The cell's step backwards for n units, at most one vector. gates and d_z are [4][H], in the order i, f, g, o. *d_c is
 * the gradient of c_t, and becomes that of c_before. Returns o tanh(c). */
INLINE vec cell_backward(const real *gates, int64_t H, int64_t n, vec c_before, vec c_t, vec d_h, real *d_c, real *d_z)
{
    enum { I, F, G, O };
    const vec i = v_load_n(gates + I * H, n), f = v_load_n(gates + F * H, n);
    const vec g = v_load_n(gates + G * H, n), o = v_load_n(gates + O * H, n), one = v_splat(1);
    /* forward: h = o tanh(c) */
    const vec tanh_c = v_tanh(c_t), hidden = v_mul(o, tanh_c);
    const vec dc = v_fma(v_mul(d_h, o), v_fnma(tanh_c, tanh_c, one), v_load(d_c));
    /* forward: c = f c_before + i g, and i, f, o are sigmoid(z), g is tanh(z) */
    v_store_n(d_z + I * H, v_mul(v_mul(dc, g), v_mul(i, v_sub(one, i))), n);
    v_store_n(d_z + F * H, v_mul(v_mul(dc, c_before), v_mul(f, v_sub(one, f))), n);
    v_store_n(d_z + G * H, v_mul(v_mul(dc, i), v_fnma(g, g, one)), n);
    v_store_n(d_z + O * H, v_mul(v_mul(d_h, hidden), v_sub(one, o)), n);
    v_store(d_c, v_mul(dc, f));
    return hidden;
}

/* cell_backward for n units of one row, from `unit` on. step: counted from the tape's first step. chunk_row: the row's
 * place in the chunk. */
INLINE void units_backward(const backward_pass *pass, int64_t step, int64_t row, int64_t chunk_row, int64_t unit,
                           int64_t n)
{
    const int64_t H = pass->H, B = pass->tape->B;
    const real *d_h = pass->step.d_hidden + row * (pass->P ? pass->c_stride : pass->h_stride) + unit;
    const real *c_before = (const real *)pass->tape->c + (step * B + row) * H + unit, *c_t = c_before + B * H;
    const real *gates = pass->step.gates + row * 4 * H + unit;
    real *const d_c = pass->step.d_c + row * pass->c_stride + unit;
    real *const d_z = pass->chunk.d_z + chunk_row * pass->d_z_stride + unit;
    for (int gate = 0; gate < 4; gate++)
        fetch(gates + gate * H);
    fetch(c_before);
    const vec hidden = cell_backward(gates, H, n, v_load_n(c_before, n), v_load_n(c_t, n), v_load(d_h), d_c, d_z);
    if (pass->P)
        v_store(pass->chunk.hidden + chunk_row * pass->c_stride + unit, hidden);
}

/* units_backward for these rows and the units at hand. chunk_row: the step's first row in the chunk. */
SEPARATE void cells_backward(const backward_pass *pass, int64_t s, range rows, int64_t chunk_row)
{
    const int64_t step = s - pass->tape->first, stop = smaller(pass->H, pass->units.to * LANES);
    for (int64_t row = rows.to - 1; row >= rows.from; row--) {
        int64_t unit = pass->units.from * LANES;
        for (; unit + LANES <= stop; unit += LANES)
            units_backward(pass, step, row, chunk_row + row, unit, LANES);
        if (unit < stop)
            units_backward(pass, step, row, chunk_row + row, unit, stop - unit);
    }
}

/* Add d_out to d_h: the loss depends on h_t also directly, because h_t is an output. */
static void add_d_out(const backward_pass *pass, int64_t s, range rows)
{
    const lk_gradients *gradients = pass->gradients;
    const range columns = columns_of(pass->outputs, pass->R);
    for (int64_t row = rows.to - 1; row >= rows.from; row--) {
        const int64_t place = tape_time(pass->tape, s, row) * gradients->d_out_step + row * gradients->d_out_row;
        const real *d_out = (const real *)gradients->d_out + place;
        real *const d_h = pass->step.d_h + row * pass->h_stride;
        for (int64_t i = columns.from; i < columns.to; i += LANES) {
            fetch(d_out + i);
            v_store(d_h + i, v_add(v_load(d_h + i), v_load_n(d_out + i, columns.to - i)));
        }
    }
}

/* For a projection, d_h of every step of a chunk is kept. */
static void keep_d_h(const backward_pass *pass, range rows, int64_t chunk_row)
{
    const int64_t h_stride = pass->h_stride;
    for (int64_t row = rows.from; row < rows.to; row++)
        copy_columns(pass->chunk.d_h + (chunk_row + row) * h_stride, pass->step.d_h + row * h_stride,
                     columns_of(pass->outputs, pass->R));
}

/* Compute d_hidden from d_h, the gradient of h after the projection. forward: h = W_hr (o tanh(c)) */
static void project_backward(const backward_pass *pass, range rows)
{
    const product_job d_hidden = {.x = pass->step.d_h + rows.from * pass->h_stride,
                                  .x_row = pass->h_stride,
                                  .K = pass->P,
                                  .w = pass->packed.w_hr,
                                  .y = pass->step.d_hidden_rows + rows.from,
                                  .outputs = pass->c_stride};
    product_rows(&d_hidden, rows.to - rows.from, pass->units);
}

/* forward: z = ... + W_hh h_before */
static void recurrence_backward(const backward_pass *pass, range rows, int64_t chunk_row)
{
    const product_job d_h = {.x = pass->chunk.d_z + (chunk_row + rows.from) * pass->d_z_stride,
                             .x_row = pass->d_z_stride,
                             .K = 4 * pass->H,
                             .w = pass->packed.w_hh,
                             .y = pass->step.d_h_rows + rows.from,
                             .outputs = pass->h_stride};
    product_rows(&d_h, rows.to - rows.from, pass->outputs);
}

/* Step s of these rows: a phase of units, and one of outputs. With a projection another one of outputs comes first,
 * because d_hidden needs all of d_h. */
static void step_phases_backward(backward_pass *pass, lk_team *team, int64_t s, range rows, int64_t chunk_row)
{
    const int64_t units = divide_up(pass->H, LANES), outputs = divide_up(pass->R, LANES);
    const int d_out = pass->gradients->d_out != NULL;
    if (pass->P)
        FOR_PARTS (part, team, outputs, 0) {
            pass->outputs = part;
            if (d_out)
                add_d_out(pass, s, rows);
            keep_d_h(pass, rows, chunk_row);
        }
    FOR_PARTS (part, team, units, 0) {
        pass->units = part;
        pass->outputs = pass->units;
        if (pass->P)
            project_backward(pass, rows);
        else if (d_out)
            add_d_out(pass, s, rows);
        cells_backward(pass, s, rows, chunk_row);
    }
    FOR_PARTS (part, team, outputs, 0) {
        pass->outputs = part;
        recurrence_backward(pass, rows, chunk_row);
    }
}

/* ---------------------------------------------------------------- a chunk of steps */

/* How many rows take step s: the first `least` do, and maybe more. */
INLINE int64_t rows_from(const lk_tape *tape, int64_t s, int64_t least)
{
    while (least < tape->B && row_steps(tape, least) > s)
        least++;
    return least;
}

/* Steps to - 1 .. from, in that order. `active` rows take the first of them. `rows` is the number of rows in all steps
 * together. */
typedef struct {
    int64_t from, to, active, rows;
} chunk_steps;

/* The place in the caller's arrays of x, h before the step, or d_x, for one row and step. */
typedef const real *place_function(const backward_pass *pass, int64_t s, int64_t row);
INLINE const real *place_of_x(const backward_pass *pass, int64_t s, int64_t row) { return tape_x(pass->tape, s, row); }
INLINE const real *place_of_h_before(const backward_pass *pass, int64_t s, int64_t row)
{
    return tape_h_before(pass->tape, s, row, pass->R);
}
INLINE const real *place_of_d_x(const backward_pass *pass, int64_t s, int64_t row)
{
    const lk_gradients *gradients = pass->gradients;
    return (real *)gradients->d_x + tape_time(pass->tape, s, row) * gradients->d_x_step + row * gradients->d_x_row;
}

/* Make a pointer to the place of every row of the chunk, in the order of the chunk. */
INLINE void point_to_rows(const backward_pass *pass, chunk_steps chunk, place_function *place)
{
    int64_t n = 0, active = chunk.active;
    for (int64_t s = chunk.to - 1; s >= chunk.from; s--) {
        active = rows_from(pass->tape, s, active);
        for (int64_t row = 0; row < active; row++)
            pass->pointers[n++] = (real *)place(pass, s, row);
    }
}

/* Transpose `count` rows: those to which this thread's pointers point, from pointer `first` on. */
SEPARATE void transpose_rows(const backward_pass *pass, real *to, int64_t first, int64_t count, int64_t columns)
{
    transpose(to + first, pass->chunk.transposed_stride, (const real *const *)pass->pointers + first, count, columns);
}

/* Transpose x, 1 and h_before of some fours of the chunk's rows. */
static void transpose_inputs(const backward_pass *pass, chunk_steps chunk, range fours)
{
    const int64_t first = 4 * fours.from, count = smaller(chunk.rows, 4 * fours.to) - first;
    const int64_t stride = pass->chunk.transposed_stride;
    real *const x = pass->chunk.inputs, *const ones = x + pass->I * stride, *const h_before = ones + stride;
    point_to_rows(pass, chunk, place_of_x);
    transpose_rows(pass, x, first, count, pass->I);
    point_to_rows(pass, chunk, place_of_h_before);
    transpose_rows(pass, h_before, first, count, pass->R);
    for (int64_t k = first; k < first + count; k++)
        ones[k] = 1;
}

/* d_x of some of the chunk's rows. forward: z = W_ih x + ... */
static void inputs_backward(const backward_pass *pass, chunk_steps chunk, range rows)
{
    point_to_rows(pass, chunk, place_of_d_x);
    const product_job d_x = {.x = pass->chunk.d_z + rows.from * pass->d_z_stride,
                             .x_row = pass->d_z_stride,
                             .K = 4 * pass->H,
                             .w = pass->packed.w_ih,
                             .y = pass->pointers + rows.from,
                             .outputs = pass->I,
                             .add = pass->gradients->d_x_add};
    product_rows(&d_x, rows.to - rows.from, (range){0, divide_up(pass->I, LANES)});
}

/* forward: z = W_ih x + bias + W_hh h_before */
static void weights_backward(const backward_pass *pass, int64_t N)
{
    const weight_job gates = {.x = pass->chunk.inputs,
                              .x_row = pass->chunk.transposed_stride,
                              .inputs = pass->sums.inputs,
                              .N = N,
                              .z = pass->chunk.d_z,
                              .z_row = pass->d_z_stride,
                              .vectors = divide_up(4 * pass->H, LANES),
                              .d = pass->sums.gates};
    weight_gradient(&gates, pass->team);
}

/* forward: h = W_hr (o tanh(c)) */
static void projection_backward(const backward_pass *pass, int64_t N)
{
    const int64_t stride = pass->chunk.transposed_stride;
    FOR_PARTS (part, pass->team, pass->P, 0)
        for (int64_t output = part.from; output < part.to; output++)
            for (int64_t k = 0; k < N; k++)
                pass->chunk.d_h_transposed[output * stride + k] = pass->chunk.d_h[k * pass->h_stride + output];
    const weight_job w_hr = {.x = pass->chunk.d_h_transposed,
                             .x_row = stride,
                             .inputs = pass->P,
                             .N = N,
                             .z = pass->chunk.hidden,
                             .z_row = pass->c_stride,
                             .vectors = pass->c_stride / LANES,
                             .d = pass->sums.w_hr};
    weight_gradient(&w_hr, pass->team);
}

/* The steps before `to`, as many as the chunk has room for. */
static chunk_steps next_chunk(const backward_pass *pass, int64_t to)
{
    const lk_tape *tape = pass->tape;
    chunk_steps chunk = {.from = to, .to = to, .active = pass->step.active};
    for (int64_t active = chunk.active; chunk.from > tape->first; chunk.from--, chunk.rows += active) {
        active = rows_from(tape, chunk.from - 1, active);
        if (chunk.rows + active > pass->chunk.most_rows)
            break;
    }
    return chunk;
}

/* All steps of the chunk, for some rows of the batch. */
static void chunk_steps_backward(backward_pass *pass, lk_team *team, chunk_steps chunk, range rows)
{
    for (int64_t s = chunk.to - 1, chunk_row = 0; !is_over(team) && s >= chunk.from; s--) {
        pass->step.active = rows_from(pass->tape, s, pass->step.active);
        pass->step.gates -= pass->step.active * 4 * pass->H;
        const int64_t stop = smaller(rows.to, pass->step.active);
        if (rows.from < stop)
            step_phases_backward(pass, team, s, (range){rows.from, stop}, chunk_row);
        chunk_row += pass->step.active;
    }
}

/* A phase of rows: each thread takes all steps of the chunk for its own. */
static void rows_phase_backward(backward_pass *pass, chunk_steps chunk)
{
    lk_team alone = {.size = 1};
    const int64_t active = pass->step.active;
    const real *const gates = pass->step.gates;
    FOR_PARTS (rows, pass->team, pass->tape->B, 0) {
        pass->step.active = active;
        pass->step.gates = gates;
        chunk_steps_backward(pass, &alone, chunk, rows);
    }
    pass->step.active = active;
    pass->step.gates = gates;
    if (!is_over(pass->team)) /* the chunk is done; move on to its end */
        chunk_steps_backward(pass, &alone, chunk, (range){0, 0});
}

/* Phases of all rows of the chunk, after its steps. */
static void sums_backward(backward_pass *pass, chunk_steps chunk)
{
    lk_team *team = pass->team;
    const int weights = pass->gradients->d_w_ih != NULL;
    if (pass->gradients->d_x)
        FOR_PARTS (rows, team, chunk.rows, 0)
            inputs_backward(pass, chunk, rows);
    if (is_over(team) || !weights)
        return;
    FOR_PARTS (fours, team, divide_up(chunk.rows, 4), 0)
        transpose_inputs(pass, chunk, fours);
    weights_backward(pass, chunk.rows);
    if (pass->P)
        projection_backward(pass, chunk.rows);
}

/* ---------------------------------------------------------------- all steps */

/* Let pass->step begin behind the last step of the tape. */
static void begin_at_end(backward_pass *pass)
{
    const lk_tape *tape = pass->tape;
    int64_t rows = 0, active = tape->B;
    for (int64_t s = tape->first; s < tape->last; s++)
        rows += active = rows_at(tape, s, active);
    pass->step.gates = (const real *)tape->gates + rows * 4 * pass->H;
    pass->step.active = active;
}

static void all_steps_backward(backward_pass *pass)
{
    begin_at_end(pass);
    load_gradients(pass);
    for (int64_t s = pass->tape->last; !is_over(pass->team) && s > pass->tape->first;) {
        const chunk_steps chunk = next_chunk(pass, s);
        if (pass->by_units)
            chunk_steps_backward(pass, pass->team, chunk, (range){0, pass->tape->B});
        else
            rows_phase_backward(pass, chunk);
        if (is_over(pass->team))
            return;
        sums_backward(pass, chunk);
        s = chunk.from;
    }
    if (!is_over(pass->team))
        store_gradients(pass);
}

static int layer_backward(const lk_tape *tape, const lk_gradients *gradients, int by_units, lk_team *team, void *work)
{
    const lk_tape own_tape = *tape; /* the caller's may be gone where the job is over for this thread */
    const lk_gradients own = *gradients;
    backward_pass pass;
    plan_backward(&pass, &own_tape, &own, by_units, team, work);
    if (own.stages & LK_LOAD)
        load_weights(&pass);
    if (own.stages & LK_STEPS && !is_over(team))
        all_steps_backward(&pass);
    if (own.stages & LK_STORE && !is_over(team))
        store_weights(&pass);
    return LK_OK;
}

#endif
