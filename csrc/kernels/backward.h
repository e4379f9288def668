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
 * A team shares the rows of a step or its units (team.h). It always shares the rows of d_x and the tiles of the
 * weights' gradients. The order of every sum is the same for every size of the team.
 *
 * Bounds: FMAs, twice those of forward; a step of few rows streams W_hh from where it is. */
#ifndef LK_BACKWARD_H
#define LK_BACKWARD_H
#include "kernels/backward_weights.h"
#include "kernels/record.h"

/* ---------------------------------------------------------------- before and after all steps */

/* Load and store this thread's columns of d_h and d_c. Columns past the last one are zero, and stay zero. */
INLINE range columns_of(range vectors, int64_t width)
{
    return (range){vectors.from * LANES, smaller(width, vectors.to * LANES)};
}
INLINE void load_vectors(real *to, const real *from, range vectors, int64_t width)
{
    clear_reals(to + vectors.from * LANES, (vectors.to - vectors.from) * LANES);
    copy_columns(to, from, columns_of(vectors, width));
}
static void load_gradients(const backward_pass *pass)
{
    const int64_t R = pass->R, H = pass->H;
    const range rows = own_rows(pass->team, pass->tape->B);
    for (int64_t row = rows.from; row < rows.to; row++) {
        const real *d_h = (const real *)pass->gradients->d_h + row * R,
                   *d_c = (const real *)pass->gradients->d_c + row * H;
        load_vectors(pass->step.d_h + row * pass->h_stride, d_h, pass->outputs, R);
        load_vectors(pass->step.d_c + row * pass->c_stride, d_c, pass->units, H);
    }
}
static void store_gradients(const backward_pass *pass)
{
    const int64_t R = pass->R, H = pass->H;
    const range rows = own_rows(pass->team, pass->tape->B);
    for (int64_t row = rows.from; row < rows.to; row++) {
        real *const d_h = (real *)pass->gradients->d_h + row * R, *const d_c = (real *)pass->gradients->d_c + row * H;
        copy_columns(d_h, pass->step.d_h + row * pass->h_stride, columns_of(pass->outputs, R));
        copy_columns(d_c, pass->step.d_c + row * pass->c_stride, columns_of(pass->units, H));
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

/* units_backward for this thread's rows and units. chunk_row: the step's first row in the chunk. */
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

/* Compute d_hidden from d_h, the gradient of h after the projection. forward: h = W_hr (o tanh(c)) */
static void project_backward(const backward_pass *pass, range rows, int64_t chunk_row)
{
    const int64_t h_stride = pass->h_stride;
    for (int64_t row = rows.from; row < rows.to; row++)
        copy_columns(pass->chunk.d_h + (chunk_row + row) * h_stride, pass->step.d_h + row * h_stride,
                     columns_of(pass->outputs, pass->R));
    step_barrier(pass->team);
    const product_job d_hidden = {.x = pass->step.d_h + rows.from * h_stride,
                                  .x_row = h_stride,
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

static void step_backward(const backward_pass *pass, int64_t s, int64_t chunk_row)
{
    range rows = own_rows(pass->team, pass->tape->B);
    rows.to = smaller(rows.to, pass->step.active);
    rows.from = smaller(rows.from, rows.to);
    if (pass->gradients->d_out)
        add_d_out(pass, s, rows);
    if (pass->P)
        project_backward(pass, rows, chunk_row);
    cells_backward(pass, s, rows, chunk_row);
    step_barrier(pass->team);
    recurrence_backward(pass, rows, chunk_row);
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

/* Transpose this thread's share of the chunk's inputs x, 1 and h_before. */
static void transpose_inputs(const backward_pass *pass, chunk_steps chunk)
{
    const range fours = share_of(pass->team, divide_up(chunk.rows, 4));
    const int64_t first = 4 * fours.from, count = smaller(chunk.rows, 4 * fours.to) - first;
    const int64_t stride = pass->chunk.transposed_stride;
    if (count <= 0)
        return;
    real *const x = pass->chunk.inputs, *const ones = x + pass->I * stride, *const h_before = ones + stride;
    point_to_rows(pass, chunk, place_of_x);
    transpose_rows(pass, x, first, count, pass->I);
    point_to_rows(pass, chunk, place_of_h_before);
    transpose_rows(pass, h_before, first, count, pass->R);
    for (int64_t k = first; k < first + count; k++)
        ones[k] = 1;
}

/* d_x of this thread's share of the chunk's rows. forward: z = W_ih x + ... */
static void inputs_backward(const backward_pass *pass, chunk_steps chunk)
{
    const range rows = share_of(pass->team, chunk.rows);
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
    const range share = share_of(pass->team, pass->P);
    for (int64_t output = share.from; output < share.to; output++)
        for (int64_t k = 0; k < N; k++)
            pass->chunk.d_h_transposed[output * stride + k] = pass->chunk.d_h[k * pass->h_stride + output];
    team_barrier(pass->team);
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

/* Take the steps before `to`, as many as the chunk has room for. Returns the first of them. */
static int64_t chunk_backward(backward_pass *pass, int64_t to)
{
    const lk_tape *tape = pass->tape;
    chunk_steps chunk = {.from = to, .to = to, .active = pass->step.active};
    while (chunk.from > tape->first) {
        pass->step.active = rows_from(tape, chunk.from - 1, pass->step.active);
        if (chunk.rows + pass->step.active > pass->chunk.most_rows)
            break;
        chunk.from--;
        pass->step.gates -= pass->step.active * 4 * pass->H;
        step_backward(pass, chunk.from, chunk.rows);
        chunk.rows += pass->step.active;
    }
    if (pass->gradients->d_w_ih)
        transpose_inputs(pass, chunk);
    team_barrier(pass->team);
    if (pass->gradients->d_x)
        inputs_backward(pass, chunk);
    if (pass->gradients->d_w_ih) {
        weights_backward(pass, chunk.rows);
        if (pass->P)
            projection_backward(pass, chunk.rows);
    }
    team_barrier(pass->team);
    return chunk.from;
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
    if (pass->team->rank == 0)
        for (int64_t row = 0; row < tape->B; row++) {
            pass->step.d_h_rows[row] = pass->step.d_h + row * pass->h_stride;
            pass->step.d_hidden_rows[row] = pass->step.d_hidden + row * pass->c_stride;
        }
}

static void all_steps_backward(backward_pass *pass)
{
    begin_at_end(pass);
    load_gradients(pass);
    team_barrier(pass->team);
    for (int64_t s = pass->tape->last; s > pass->tape->first;)
        s = chunk_backward(pass, s);
    store_gradients(pass);
}

static int layer_backward(const lk_tape *tape, const lk_gradients *gradients, const lk_team *team, void *work)
{
    backward_pass pass;
    plan_backward(&pass, tape, gradients, team, work);
    pass.units = own_blocks(team, divide_up(pass.H, LANES));
    pass.outputs = own_blocks(team, divide_up(pass.R, LANES));
    if (gradients->stages & LK_LOAD)
        load_weights(&pass);
    if (gradients->stages & LK_STEPS)
        all_steps_backward(&pass);
    if (gradients->stages & LK_STORE)
        store_weights(&pass);
    return LK_OK;
}

#endif
