/* forward.c - all layers of an LSTM over a sequence, on one thread or several.
 *
 * One direction: time goes up through all layers a stretch at a time, so that what one layer hands to the next is in cache;
 * every layer reads its input from out, where the layer below left it, and writes over it. Two directions: each needs all of
 * time below it, so layers alternate between out and `between`.
 *
 * Several threads share the work in one of two ways, and neither changes an order of summation:
 *   lanes  a lane is one layer and direction of some rows; the next stretch of a lane is a job for any thread once the layer
 *          below has done it. Directions run side by side, layers follow each other like a wave, rows are independent.
 *   team   one layer after the other, each thread with its own units, who meet after every step: for a few rows of one layer,
 *          which give no lanes, and where one direction's weights are more than an L2 holds. */
#include <stddef.h>
#include "run/dispatch.h"
#include "run/float_control.h"

enum {
    MOST_LANES = 256,
    HANDOVER_BYTES = 1 << 20, /* of a stretch: stays in L2 and L3 on its way up */
    STRETCH_STEPS = 32,       /* at least, for states are taken in and out at its ends; and so many stretches for lanes */
    STRETCH_ROWS = 96,        /* rows times steps, for the input product, */
    LEAST_STRETCHES = 12,     /* unless that leaves too few for lanes */
    ROWS_A_LANE = 6,          /* at least; */
    MANY_ROWS = 64,           /* and in sixteens where they are many, for lanes of vectors may be rows */
    LEAST_NS = 12000,         /* of work in a call, from where on a second thread pays; */
    TEAM_NS = 30000,          /* the same for a team, */
    TEAM_ROWS = 8,            /* and at most so many rows, unless they share SHARED_BYTES: more make lanes */
    TEAM_STEP_NS = 1000,      /* and of work in a step; */
    SHARED_BYTES = 1 << 20    /* of all W_hh: more than one L2 holds, so that a team, each with its own half, beats lanes */
};

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static int64_t output_size(const lk_call *call)
{
    const lk_layer *layer = call->layers;
    return layer->proj_size ? layer->proj_size : layer->hidden_size;
}

/* The caller's addresses. */
typedef struct {
    const lk_call *call;
    const char *x;
    const int64_t *lengths;
    const uint8_t *reset;
    char *h, *c, *out, *between, *work;
    const int64_t *read, *write; /* of lk_span: of the first stretch; the others go on from what that wrote */
} arrays;

/* Some rows and times of one layer and direction. `direction` 1 runs backwards, from the end of the sequence, and where the
 * call is in reverse so does 0. */
typedef struct {
    int64_t layer, direction, row, rows, first, last;
} part;

static void run_part(const arrays *a, part p, int rank, int size, lk_barrier *barrier, char *work)
{
    const lk_call *call = a->call;
    const int64_t D = call->directions, R = output_size(call), H = call->layers->hidden_size;
    const int64_t index = p.layer * D + p.direction, itemsize = call->kernels->itemsize;
    const int backwards = p.direction || call->reverse;
    const int64_t first = backwards ? call->T - p.last : p.first;
    const int64_t above_layers = call->num_layers - 1 - p.layer;
    const int to_out = D == 1 || above_layers % 2 == 0, from_out = D == 1 || above_layers % 2 == 1;
    const int64_t between_row = D * R, between_step = call->B * between_row;
    lk_span span = {.T = p.last - p.first, .B = p.rows, .from = first, .reverse = backwards,
                    .work = work, .rank = rank, .size = size, .barrier = barrier, .meet = lk_meet};
    span.x_step = p.layer == 0 ? call->x_step : from_out ? call->out_step : between_step;
    span.x_row = p.layer == 0 ? call->x_row : from_out ? call->out_row : between_row;
    span.out_step = to_out ? call->out_step : between_step;
    span.out_row = to_out ? call->out_row : between_row;
    const char *x = p.layer == 0 ? a->x : from_out ? a->out : a->between;
    char *out = to_out ? a->out : a->between;
    span.x = x + (first * span.x_step + p.row * span.x_row) * itemsize;
    span.out = out + (first * span.out_step + p.row * span.out_row + p.direction * R) * itemsize;
    const int64_t states = index * call->state_rows + (a->read ? 0 : p.row);
    span.h = a->h + states * R * itemsize;
    span.c = a->c + states * H * itemsize;
    span.read = !a->read ? NULL : (p.first == 0 ? a->read : a->write) + p.row;
    span.write = a->write ? a->write + p.row : NULL;
    span.lengths = a->lengths ? a->lengths + p.row : NULL;
    span.reset = a->reset ? a->reset + (p.direction * call->T + first) * call->B + p.row : NULL;
    span.reset_step = call->B;
    const lk_layer *layer = &call->layers[index];
    const lk_kernels *kernels = layer->specialised ? layer->specialised : call->kernels;
    (layer->variant ? kernels->variant_forward : kernels->layer_forward)(layer, &span);
}

/* ---------------------------------------------------------------- one thread */

static void run_alone(const arrays *a)
{
    const lk_call *call = a->call;
    if (call->directions == 2) {
        for (int64_t layer = 0; layer < call->num_layers; layer++)
            for (int64_t direction = 0; direction < 2; direction++)
                run_part(a, (part){layer, direction, 0, call->B, call->first, call->last}, 0, 1, NULL, a->work);
        return;
    }
    const int64_t row_bytes = output_size(call) * call->kernels->itemsize;
    int64_t rows = call->B, steps = call->T;
    if (call->num_layers > 1) {
        rows = larger(STRETCH_ROWS, HANDOVER_BYTES / (STRETCH_STEPS * row_bytes) / STRETCH_ROWS * STRETCH_ROWS);
        rows = smaller(rows, call->B);
        steps = larger(1, HANDOVER_BYTES / larger(1, rows * row_bytes)); /* there may be no rows */
    }
    for (int64_t row = 0; row < call->B; row += rows)
        for (int64_t first = 0; first < call->T; first += steps)
            for (int64_t layer = 0; layer < call->num_layers; layer++)
                run_part(a, (part){layer, 0, row, smaller(rows, call->B - row), first, smaller(first + steps, call->T)},
                         0, 1, NULL, a->work);
}

/* ---------------------------------------------------------------- lanes */

typedef struct {
    arrays a;
    int64_t groups, rows, steps, stretches;
    int64_t lanes;           /* in the order [layer][group][direction] */
    int64_t work_size;       /* of a thread */
    atomic_flag taking;      /* held while a thread looks for a job */
    int taken[MOST_LANES];   /* 1 while a thread has a job of this lane */
    atomic_int done[MOST_LANES]; /* stretches */
} lane_job;

/* Whether the layer below has done the lane's next stretch: with two directions, all of time in both. */
static int ready(lane_job *job, int64_t lane)
{
    const int64_t D = job->a.call->directions, in_layer = job->groups * D;
    const int done = atomic_load_explicit(&job->done[lane], memory_order_relaxed);
    if (job->taken[lane] || done == job->stretches)
        return 0;
    for (int64_t below = lane / D * D - in_layer; lane >= in_layer && below < lane / D * D - in_layer + D; below++)
        if (atomic_load_explicit(&job->done[below], memory_order_acquire) <= done)
            return 0;
    return 1;
}

/* A lane with a job, or -1. The highest one, so that all get on; but where each thread can have its own, the one that it had
 * last, whose weights are in its cache. */
static int64_t take_lane(lane_job *job, int64_t last, int size, int *finished)
{
    while (atomic_flag_test_and_set_explicit(&job->taking, memory_order_acquire))
        lk_relax(0);
    int64_t found = job->lanes <= size && last >= 0 && ready(job, last) ? last : -1;
    *finished = 1;
    for (int64_t lane = job->lanes - 1; lane >= 0; lane--) {
        if (found < 0 && ready(job, lane))
            found = lane;
        if (atomic_load_explicit(&job->done[lane], memory_order_relaxed) < job->stretches)
            *finished = 0;
    }
    if (found >= 0)
        job->taken[found] = 1;
    atomic_flag_clear_explicit(&job->taking, memory_order_release);
    return found;
}

static void give_back(lane_job *job, int64_t lane)
{
    while (atomic_flag_test_and_set_explicit(&job->taking, memory_order_acquire))
        lk_relax(0);
    job->taken[lane] = 0;
    atomic_fetch_add_explicit(&job->done[lane], 1, memory_order_release);
    atomic_flag_clear_explicit(&job->taking, memory_order_release);
}

static void run_lanes(void *job_, int rank, int size)
{
    lane_job *job = job_;
    const lk_call *call = job->a.call;
    const int64_t D = call->directions;
    int finished = 0;
    int64_t lane = -1;
    for (int turn = 0; !finished; turn++) {
        lane = take_lane(job, lane, size, &finished);
        if (lane < 0) {
            lk_relax(turn);
            continue;
        }
        const int64_t group = lane / D % job->groups, stretch = atomic_load_explicit(&job->done[lane], memory_order_relaxed);
        const int64_t row = group * job->rows, first = call->first + stretch * job->steps;
        run_part(&job->a, (part){lane / (D * job->groups), lane % D, row, smaller(job->rows, call->B - row), first,
                                 smaller(first + job->steps, call->last)},
                 0, 1, NULL, job->a.work + rank * job->work_size);
        give_back(job, lane);
    }
}

/* ---------------------------------------------------------------- a team */

typedef struct {
    arrays a;
    lk_barrier barrier;
} team_job;

static void run_team(void *job_, int rank, int size)
{
    team_job *job = job_;
    const lk_call *call = job->a.call;
    for (int64_t layer = 0; layer < call->num_layers; layer++) {
        run_part(&job->a, (part){layer, 0, 0, call->B, 0, call->T}, rank, size, &job->barrier, job->a.work);
        if (size > 1)
            lk_meet(&job->barrier, size);
    }
}

/* ---------------------------------------------------------------- the choice */

/* Nanoseconds of a step of all rows through one layer and direction, roughly: FMAs at 100 GFLOP/s in float, and one row as
 * slow as two, because it waits for weights. */
static int64_t step_ns(const lk_call *call, const lk_layer *layer)
{
    return larger(call->B, 2) * 8 * layer->hidden_size * (layer->input_size + output_size(call)) / 100
           * call->kernels->itemsize / (int64_t)sizeof(float);
}

/* Of one layer and direction. */
static int64_t w_h_bytes(const lk_call *call)
{
    return 4 * call->layers->hidden_size * output_size(call) * call->kernels->itemsize;
}

/* Steps of a stretch where layers follow each other: enough for the input product, and few enough that the wave is short. */
static int64_t stretch_of(int64_t steps, int64_t rows)
{
    const int64_t enough = larger(divide_up(steps, STRETCH_STEPS), divide_up(STRETCH_ROWS, rows));
    return smaller(enough, divide_up(steps, LEAST_STRETCHES));
}

/* Divide rows and time into lanes; whether that gives at least two at a time. Rows are divided even where layers alone would
 * do, for layers are seldom of equal work. */
static int plan_lanes(lane_job *job, const lk_call *call, int64_t steps)
{
    const int64_t D = call->directions, waves = D == 1 && steps > 1 ? call->num_layers : 1;
    job->groups = larger(1, smaller(divide_up(call->threads, D), call->B / ROWS_A_LANE));
    job->rows = divide_up(call->B, job->groups);
    if (job->rows >= MANY_ROWS)
        job->rows = divide_up(job->rows, 16) * 16;
    job->groups = divide_up(call->B, job->rows);
    job->steps = waves == 1 ? steps : stretch_of(steps, smaller(job->rows, call->B));
    job->stretches = divide_up(steps, job->steps);
    job->lanes = job->groups * D * call->num_layers;
    return job->lanes <= MOST_LANES && job->groups * D * (job->stretches > 1 ? waves : 1) > 1;
}

/* Run on several threads; 0 where that would not pay. */
static int run_on_threads(const arrays *a)
{
    const lk_call *call = a->call;
    const int64_t steps = call->last - call->first;
    int64_t total_ns = 0, quickest_ns = INT64_MAX;
    for (int64_t i = 0; i < call->num_layers * call->directions; i++) {
        const lk_layer *layer = &call->layers[i];
        const int64_t ns = step_ns(call, layer);
        total_ns += ns * steps;
        quickest_ns = smaller(quickest_ns, ns);
    }
    if (total_ns < LEAST_NS)
        return 0;
    const int shared = call->num_layers * w_h_bytes(call) > SHARED_BYTES;
    const int can_team = call->directions == 1 && (call->B <= TEAM_ROWS || shared) && total_ns >= TEAM_NS
                         && quickest_ns >= TEAM_STEP_NS;
    lane_job lanes = {.a = *a, .taking = ATOMIC_FLAG_INIT, .work_size = lk_lstm_workspace(call) / call->threads};
    if (!(can_team && shared) && plan_lanes(&lanes, call, steps)) {
        lk_run(call->threads, run_lanes, &lanes);
        return 1;
    }
    if (!can_team)
        return 0;
    team_job team = {.a = *a};
    lk_run(call->threads, run_team, &team);
    return 1;
}

static int run(const arrays *a)
{
    if (!a->call->kernels)
        return LK_UNUSABLE;
    const lk_float_control callers = lk_enter_kernel();
    if (a->call->threads <= 1 || !run_on_threads(a))
        run_alone(a);
    lk_leave_kernel(callers);
    return LK_OK;
}

int lk_lstm_forward(const lk_call *call, const void *x, const int64_t *lengths, const uint8_t *reset, void *h, void *c,
                    void *out, void *between, void *work)
{
    const arrays a = {call, x, lengths, reset, h, c, out, between, work, NULL, NULL};
    return run(&a);
}

int lk_advance(const lk_stream *s, const void *x, void *out)
{
    const lk_call *call = &s->call;
    const int64_t row_bytes = call->T * call->B * (call->kernels ? call->kernels->itemsize : 0);
    const char *in_x = x, *in_out = out;
    if (in_x < in_out + output_size(call) * row_bytes && in_out < in_x + call->layers->input_size * row_bytes)
        return LK_OVERLAP;
    const arrays a = {call, x, NULL, NULL, s->h, s->c, out, NULL, s->work, s->from, s->to};
    return run(&a);
}

/* The largest of any layer, for each thread. */
int64_t lk_lstm_workspace(const lk_call *call)
{
    int64_t most = 0;
    for (int64_t i = 0; i < call->num_layers * call->directions; i++)
        most = larger(most, call->kernels->workspace(&call->layers[i], call->last - call->first, call->B));
    return most * larger(1, call->threads);
}
