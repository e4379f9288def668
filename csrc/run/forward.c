/* forward.c - all layers of an LSTM over a sequence, on one thread or several.
 *
 * The words, from large to small:
 *   call       all layers and directions, all rows, all steps: what lk_lstm_forward is asked for
 *   task       one layer in one direction, for some rows; it runs through time chunk by chunk
 *   chunk      some steps of a task. A kernel gets one at a time (lk_task), and any thread may run the next one of any
 *              task
 *   team       threads that share every chunk of one layer: each has its own units (team.h)
 *   row group  rows of a chunk whose states stay in cache while they run through its steps (layout.h)
 *
 * One direction: time goes up through all layers a chunk at a time, so that what one layer hands to the next is in
 * cache. Every layer reads its input from out, where the layer below left it, and writes over it. Two directions:
 * each needs all of time below it, so layers alternate between out and `between`.
 *
 * Several threads share the work in one of two ways. Neither changes an order of summation. plan.c chooses.
 *   tasks  any thread runs the next chunk of a task once the layer below has done it. Directions run side by side,
 *          layers follow each other like a wave, rows are independent.
 *   team   one layer after the other, and all threads meet after every step. This is for a few rows of one layer, which
 *          make no tasks, and for weights that the cache of one core does not hold. Two directions have a team each. */
#include <stddef.h>
#include "kernels/sizes.h"
#include "run/cost.h"
#include "run/dispatch.h"
#include "run/float_control.h"
#include "run/plan.h"

/* On one thread, rows are divided so that HANDOVER_BYTES hold a chunk of at least CHUNK_STEPS steps, because states are
 * copied at both of its ends; but they are not divided into fewer than CHUNK_ROWS. */
enum { CHUNK_STEPS = 32 };

/* The caller's addresses. read and write are those of lk_task for the first chunk. Later chunks go on from the states
 * that it wrote. */
typedef struct {
    const lk_call *call;
    const char *x;
    const int64_t *lengths;
    const uint8_t *reset;
    char *h, *c, *out, *between, *work;
    const int64_t *read, *write;
} call_arrays;

/* Steps first .. last - 1 of a task. `direction` 1 runs backwards, from the end of the sequence, and where the call
 * is in reverse so does 0. */
typedef struct {
    int64_t layer, direction, row, rows, first, last;
} chunk;

/* What a layer reads or writes: element (t, b, i) at at[(t * step + b * row + i) * itemsize] or, unless begins is NULL,
 * at[((begins[b] + t) * step + i) * itemsize]. */
typedef struct {
    const char *at;
    int64_t step, row;
    const int64_t *begins;
} sequence;

static sequence output_of(const call_arrays *arrays, int64_t layer)
{
    const lk_call *call = arrays->call;
    if (call->directions == 1 || (call->num_layers - 1 - layer) % 2 == 0)
        return (sequence){arrays->out, call->out_step, call->out_row, call->out_step ? call->begins : NULL};
    const int64_t row = call->directions * output_size(call->layers);
    return (sequence){arrays->between, call->B * row, row, NULL};
}
static sequence input_of(const call_arrays *arrays, int64_t layer)
{
    const lk_call *call = arrays->call;
    return layer == 0 ? (sequence){arrays->x, call->x_step, call->x_row, call->begins} : output_of(arrays, layer - 1);
}
/* Where row 0 of some rows would take the step `first`, in bytes. Rows that begin anywhere have one origin. */
static int64_t origin(sequence s, int64_t first, int64_t row, int64_t itemsize)
{
    return (first * s.step + (s.begins ? 0 : row * s.row)) * itemsize;
}
static const int64_t *begins_of(sequence s, int64_t row) { return s.begins ? s.begins + row : NULL; }

/* work: of the threads that share the chunk. own_work: of this one. */
static void run_chunk(const call_arrays *arrays, chunk part, lk_team *team, char *work, char *own_work)
{
    const lk_call *call = arrays->call;
    const int64_t R = output_size(call->layers), H = hidden_size(call->layers), itemsize = call->kernels->itemsize;
    const int64_t index = part.layer * call->directions + part.direction;
    const int64_t states = index * call->state_rows + (arrays->read ? 0 : part.row);
    const int backwards = part.direction || call->reverse;
    const int64_t first = backwards ? call->T - part.last : part.first;
    const sequence x = input_of(arrays, part.layer), out = output_of(arrays, part.layer);
    lk_task task = {.T = part.last - part.first,
                    .B = part.rows,
                    .from = first,
                    .reverse = backwards,
                    .x_step = x.step,
                    .x_row = x.row,
                    .out_step = out.step,
                    .out_row = out.row,
                    .reset_step = call->B,
                    .work = work,
                    .own_work = own_work,
                    .team = team};
    task.x = x.at + origin(x, first, part.row, itemsize);
    task.out = (char *)out.at + origin(out, first, part.row, itemsize) + part.direction * R * itemsize;
    task.x_begins = begins_of(x, part.row);
    task.out_begins = begins_of(out, part.row);
    task.h = arrays->h + states * R * itemsize;
    task.c = arrays->c + states * H * itemsize;
    if (arrays->read) {
        task.read = (part.first == 0 ? arrays->read : arrays->write) + part.row;
        task.write = arrays->write + part.row;
    }
    if (arrays->lengths)
        task.lengths = arrays->lengths + part.row;
    if (arrays->reset)
        task.reset = arrays->reset + (part.direction * call->T + first) * call->B + part.row;
    const lk_layer *layer = &call->layers[index];
    const lk_kernels *kernels = layer->specialised ? layer->specialised : call->kernels;
    (layer->variant ? kernels->variant_forward : kernels->layer_forward)(layer, &task);
}

static void run_chunk_alone(const call_arrays *arrays, chunk part, char *work)
{
    lk_team alone = {.size = 1};
    run_chunk(arrays, part, &alone, work, work);
}

/* ---------------------------------------------------------------- one thread */

static void run_alone(const call_arrays *arrays)
{
    const lk_call *call = arrays->call;
    if (call->directions == 2) {
        for (int64_t layer = 0; layer < call->num_layers; layer++)
            for (int64_t direction = 0; direction < 2; direction++)
                run_chunk_alone(arrays, (chunk){layer, direction, 0, call->B, call->first, call->last}, arrays->work);
        return;
    }
    const int64_t row_bytes = output_size(call->layers) * call->kernels->itemsize;
    int64_t rows = call->B, steps = call->T;
    if (call->num_layers > 1) {
        rows = larger(CHUNK_ROWS, HANDOVER_BYTES / (CHUNK_STEPS * row_bytes) / CHUNK_ROWS * CHUNK_ROWS);
        rows = smaller(rows, call->B);
        steps = larger(1, HANDOVER_BYTES / larger(1, rows * row_bytes)); /* there may be no rows */
    }
    for (int64_t row = 0; row < call->B; row += rows)
        for (int64_t first = 0; first < call->T; first += steps)
            for (int64_t layer = 0; layer < call->num_layers; layer++) {
                const int64_t n = smaller(rows, call->B - row), last = smaller(first + steps, call->T);
                run_chunk_alone(arrays, (chunk){layer, 0, row, n, first, last}, arrays->work);
            }
}

/* ---------------------------------------------------------------- tasks */

/* groups, rows     tasks of each layer and direction; rows of a task
 * steps, chunks    steps of a chunk; chunks of all of time
 * tasks            how many, in the order [layer][group][direction]
 * work_size        bytes of a thread
 * taking           held while a thread looks for a chunk
 * taken, done      of each task: 1 while a thread runs its next chunk; how many chunks are done */
typedef struct {
    call_arrays arrays;
    int64_t groups, rows, steps, chunks, tasks;
    int64_t work_size;
    atomic_flag taking;
    int taken[LK_MOST_TASKS];
    atomic_int done[LK_MOST_TASKS];
} task_job;

/* Taking a task takes less than a microsecond, so a thread spins for it. */
static void lock(task_job *job)
{
    while (atomic_flag_test_and_set_explicit(&job->taking, memory_order_acquire))
        lk_spin();
}
static void unlock(task_job *job) { atomic_flag_clear_explicit(&job->taking, memory_order_release); }

/* Whether the task's next chunk can run: no thread runs one, there is one left, and the layer below has done it. With
 * two directions, both directions below must have done all of time. */
static int ready(task_job *job, int64_t task)
{
    const int64_t D = job->arrays.call->directions, in_layer = job->groups * D, first_below = task / D * D - in_layer;
    const int done = atomic_load_explicit(&job->done[task], memory_order_relaxed);
    const int64_t needed = D == 2 ? job->chunks : done + 1;
    if (job->taken[task] || done == job->chunks)
        return 0;
    for (int64_t below = first_below; first_below >= 0 && below < first_below + D; below++)
        if (atomic_load_explicit(&job->done[below], memory_order_acquire) < needed)
            return 0;
    return 1;
}

/* Returns a task with a chunk to run, or -1. It is one of the highest layer, so that all tasks get on, and there the first
 * one: rows mostly come sorted, and the longest should not be left to the end. But where each thread can have a task of its
 * own, it is the task that this thread had before: its weights are in the cache. */
static int64_t take_task(task_job *job, int64_t before, int size, int *finished)
{
    const int64_t in_layer = job->groups * job->arrays.call->directions;
    lock(job);
    int64_t found = job->tasks <= size && before >= 0 && ready(job, before) ? before : -1;
    *finished = 1;
    for (int64_t layer = job->tasks - in_layer; layer >= 0; layer -= in_layer)
        for (int64_t task = layer; task < layer + in_layer; task++) {
            if (found < 0 && ready(job, task))
                found = task;
            if (atomic_load_explicit(&job->done[task], memory_order_relaxed) < job->chunks)
                *finished = 0;
        }
    if (found >= 0)
        job->taken[found] = 1;
    unlock(job);
    return found;
}

/* Chunks that were done, in all calls. A thread without a task waits for the next one. */
static lk_signal chunks_done;

static int more_are_done(const void *before) { return lk_signal_value(&chunks_done) > *(const uint64_t *)before; }

static void give_back(task_job *job, int64_t task)
{
    lock(job);
    job->taken[task] = 0;
    atomic_fetch_add_explicit(&job->done[task], 1, memory_order_release);
    unlock(job);
    lk_raise_signal(&chunks_done);
}

static void run_next_chunk(task_job *job, int64_t task, int rank)
{
    const lk_call *call = job->arrays.call;
    const int64_t D = call->directions, done = atomic_load_explicit(&job->done[task], memory_order_relaxed);
    const int64_t row = task / D % job->groups * job->rows, first = call->first + done * job->steps;
    const chunk next = {.layer = task / (D * job->groups),
                        .direction = task % D,
                        .row = row,
                        .rows = smaller(job->rows, call->B - row),
                        .first = first,
                        .last = smaller(first + job->steps, call->last)};
    run_chunk_alone(&job->arrays, next, job->arrays.work + rank * job->work_size);
}

static void run_tasks(void *job_, int rank, int size)
{
    task_job *job = job_;
    int64_t task = -1;
    for (int finished = 0; !finished;) {
        const uint64_t before = lk_signal_value(&chunks_done);
        task = take_task(job, task, size, &finished);
        if (task >= 0) {
            run_next_chunk(job, task, rank);
            give_back(job, task);
        } else if (!finished && !lk_wait_until(more_are_done, &before, rank)) {
            return;
        }
    }
}

/* ---------------------------------------------------------------- a team */

/* work_size: bytes of a thread. */
typedef struct {
    call_arrays arrays;
    int64_t work_size;
} team_job;

/* How many of `size` threads are in the team of a direction: every D-th. */
static int team_size(int size, int64_t D, int64_t direction) { return (int)divide_up(size - direction, D); }

/* All of time of one layer and direction, with the direction's team. Returns 0 if the job is over for this thread. */
static int run_with_team(const team_job *job, int64_t layer, int64_t direction, lk_team *team)
{
    const lk_call *call = job->arrays.call;
    char *const work = job->arrays.work;
    team->pieces = lk_pieces(lk_team_step_ns(call, layer, team->size));
    run_chunk(&job->arrays, (chunk){layer, direction, 0, call->B, call->first, call->last}, team,
              work + direction * job->work_size, work + team->rank * job->work_size);
    return !team->over;
}

/* Each direction has a team. A thread belongs to one of them, and visits the other one afterwards, in case that its
 * threads are late. */
static void run_teams(void *job_, int rank, int size)
{
    team_job *job = job_;
    const lk_call *call = job->arrays.call;
    const int64_t D = call->directions, num_layers = call->num_layers, mine = rank % D;
    lk_team teams[LK_MEETINGS];
    for (int64_t d = 0; d < D; d++)
        teams[d] = lk_join_team((int)d, team_size(size, D, d), d == mine ? rank / (int)D : -1, rank);
    for (int64_t layer = 0; layer < num_layers; layer++)
        for (int64_t d = 0; d < D; d++)
            if (!run_with_team(job, layer, (mine + d) % D, &teams[(mine + d) % D]))
                return;
    if (rank == 0)
        lk_end_meetings();
}

/* ---------------------------------------------------------------- the choice */

/* Run on several threads, as planned. Returns 0, and has done nothing, where that would not pay. */
static int run_on_threads(const call_arrays *arrays)
{
    const lk_call *call = arrays->call;
    lk_plan plan;
    lk_lstm_plan(call, NULL, &plan);
    const int64_t work_size = lk_lstm_workspace(call) / call->threads;
    if (plan.way == LK_TASKS) {
        task_job job = {.arrays = *arrays, .taking = ATOMIC_FLAG_INIT, .work_size = work_size, .rows = plan.rows};
        job.groups = divide_up(call->B, plan.rows);
        job.steps = plan.steps;
        job.chunks = divide_up(call->last - call->first, plan.steps);
        job.tasks = job.groups * call->directions * call->num_layers;
        return lk_run(plan.threads, run_tasks, &job);
    }
    if (plan.way == LK_TEAMS) {
        team_job job = {.arrays = *arrays, .work_size = work_size};
        return lk_run(plan.threads, run_teams, &job);
    }
    return 0;
}

static int run(const call_arrays *arrays)
{
    if (!arrays->call->kernels)
        return LK_UNUSABLE;
    const lk_float_control callers = lk_enter_kernel();
    if (arrays->call->threads <= 1 || !run_on_threads(arrays))
        run_alone(arrays);
    lk_leave_kernel(callers);
    return LK_OK;
}

int lk_lstm_forward(const lk_call *call, const void *x, const int64_t *lengths, const uint8_t *reset, void *h, void *c,
                    void *out, void *between, void *work)
{
    const call_arrays arrays = {.call = call,
                                .x = x,
                                .lengths = lengths,
                                .reset = reset,
                                .h = h,
                                .c = c,
                                .out = out,
                                .between = between,
                                .work = work};
    return run(&arrays);
}

int lk_advance(const lk_stream *stream, const void *x, void *out)
{
    const lk_call *call = &stream->call;
    const int64_t row_bytes = call->T * call->B * (call->kernels ? call->kernels->itemsize : 0);
    const char *in_x = x, *in_out = out;
    if (in_x < in_out + output_size(call->layers) * row_bytes && in_out < in_x + call->layers->input_size * row_bytes)
        return LK_OVERLAP;
    const call_arrays arrays = {.call = call,
                                .x = x,
                                .h = stream->h,
                                .c = stream->c,
                                .out = out,
                                .work = stream->work,
                                .read = stream->from,
                                .write = stream->to};
    return run(&arrays);
}

/* For each thread, the workspace of the layer that needs most. */
int64_t lk_lstm_workspace(const lk_call *call)
{
    int64_t most = 0;
    for (int64_t i = 0; i < call->num_layers * call->directions; i++) {
        const lk_layer *layer = &call->layers[i];
        const lk_kernels *kernels = layer->specialised ? layer->specialised : call->kernels;
        most = larger(most, kernels->workspace(layer, call->last - call->first, call->B));
    }
    return most * larger(1, call->threads);
}
