/* plan.c - how a call is best run, by what each way is predicted to take.
 *
 * The prediction is rough, and needs to be right only about which way is quicker. It counts three things: operations,
 * by how many lanes a vector has; weights, by how far they are from the core that reads them; and meetings. The numbers
 * are in cost.h. A larger team reads fewer weights on each core, from a nearer cache, and meets at a higher price; its
 * largest share is never less than one block. So the best team is as large as pays, and no larger.
 *
 * Every way gives the same bits. */
#include <stddef.h>
#include "kernels/sizes.h"
#include "run/cost.h"
#include "run/dispatch.h"
#include "run/plan.h"
#include "run/system.h"

/* MAX_CHUNKS, MIN_CHUNKS: in tasks, where layers follow each other, time is cut into at most MAX_CHUNKS chunks, of at
 * least CHUNK_ROWS rows times steps. With less than MIN_CHUNKS the first and the last layers would wait for long, so
 * chunks are then smaller.
 * A task has at least MIN_ROWS_PER_TASK rows. Where there are many, each thread has 2 to TASKS_PER_THREAD tasks
 * of MANY_ROWS or more, if there are several steps: rows may have unequal lengths, and mostly come sorted by them, so tasks
 * take unequal times.
 * From ROUND_ROWS_FROM rows on, they are a multiple of ROUND_ROWS, because rows may be lanes of vectors (transposed.h). */
enum { MAX_CHUNKS = 32, MIN_CHUNKS = 12 };
enum { MIN_ROWS_PER_TASK = 4, MANY_ROWS = 64, TASKS_PER_THREAD = 8, ROUND_ROWS_FROM = 64, ROUND_ROWS = 16 };

/* CHUNK_NS: where layers do not follow each other, chunks only let another thread take over, and take this long at least.
 */
enum { CHUNK_NS = 200000 };

static double least(double a, double b) { return a < b ? a : b; }
static double most(double a, double b) { return a > b ? a : b; }

/* ---------------------------------------------------------------- the machine */

/* Most of a cache is for weights. */
static int64_t most_of_cache(int64_t bytes, int64_t otherwise) { return bytes > 0 ? bytes / 4 * 3 : otherwise; }

static lk_caches found;
static lk_once looked = LK_ONCE;

static void look(void)
{
    int64_t own, shared; /* bytes */
    lk_cache_sizes(&own, &shared);
    found = (lk_caches){most_of_cache(own, OWN_CACHE_BYTES), most_of_cache(shared, SHARED_CACHE_BYTES)};
}

static lk_caches this_machine(void)
{
    lk_do_once(&looked, look);
    return found;
}

/* ---------------------------------------------------------------- one step of one layer */

/* A layer on some CPU. `kept`: the bytes of weights that one thread reads before it reads the same ones again. */
typedef struct {
    const lk_kernels *kernels;
    lk_caches caches;
    int64_t I, H, R, steps;
    double kept;
} layer_plan;

typedef struct {
    double flops_per_ns, bytes_per_ns;
} speed;

/* The speed of each of `cores` that read one part in `parts` of what is kept. */
static speed speed_of(const layer_plan *layer, double parts, int64_t cores)
{
    const double kept = layer->kept / parts;
    double bytes_per_ns = least(MEMORY_SPEED, (double)MEMORY_SPEED * ALL_CORES / (double)cores);
    if (kept <= (double)layer->caches.own)
        bytes_per_ns = OWN_CACHE_SPEED;
    else if (kept * (double)cores <= (double)layer->caches.shared)
        bytes_per_ns = SHARED_CACHE_SPEED;
    const int64_t bits = layer->kernels->activation_bits, at_once = bits ? INTEGER_GAIN / bits : 1;
    return (speed){(double)(FLOPS_PER_LANE * layer->kernels->lanes * at_once), bytes_per_ns};
}

/* The product of `rows` rows with weights for `inputs` inputs and `units` units, four gates each. Operations and loads
 * overlap, but for one part in four of the shorter ones. */
static double product_ns(speed s, int64_t weight_size, double rows, double inputs, double units)
{
    const double operations = 8 * rows * inputs * units / s.flops_per_ns;
    const double loads = 4 * inputs * units * (double)weight_size / s.bytes_per_ns;
    return most(operations, loads) + least(operations, loads) / 4;
}

/* The largest share of the units: whole blocks. */
static double largest_share(const layer_plan *layer, int64_t threads)
{
    const int64_t lanes = layer->kernels->lanes, blocks = divide_up(layer->H, lanes);
    return (double)smaller(layer->H, divide_up(blocks, threads) * lanes);
}

/* One step of `rows` rows, where each of `cores` has one share of the units in `shares`. The product of the inputs is one
 * for all steps of a chunk. */
static double step_ns(const layer_plan *layer, int64_t rows, int64_t shares, int64_t cores)
{
    const int64_t weight_size = layer->kernels->weight_size;
    const double units = largest_share(layer, shares);
    const speed s = speed_of(layer, (double)layer->H / units, cores);
    const double chunk_rows = (double)larger(rows, smaller(CHUNK_ROWS, rows * layer->steps));
    const double inputs = product_ns(s, weight_size, chunk_rows, (double)layer->I, units) * (double)rows / chunk_rows;
    const double cells = most(PHASE_NS, (double)rows * units * CELL_NS_PER_100 / 100);
    return inputs + product_ns(s, weight_size, (double)rows, (double)layer->R, units) + cells;
}

/* ---------------------------------------------------------------- a call */

static const lk_kernels *kernels_of(const lk_call *call, const lk_layer *layer)
{
    return layer->specialised ? layer->specialised : call->kernels;
}

static double weight_bytes(const lk_call *call, const lk_layer *layer, int64_t inputs)
{
    return (double)(4 * layer->hidden_size * inputs * kernels_of(call, layer)->weight_size);
}

static int64_t outputs_of(const lk_layer *layer) { return layer->proj_size ? layer->proj_size : layer->hidden_size; }

/* In one step, a thread reads the weights of all layers before those of the first one come back. In many, it reads W_hh of
 * one layer again and again. */
static double kept_bytes(const lk_call *call, const lk_layer *layer)
{
    if (call->last - call->first > 1)
        return weight_bytes(call, layer, outputs_of(layer));
    double bytes = 0;
    for (int64_t i = 0; i < call->num_layers * call->directions; i++)
        bytes += weight_bytes(call, &call->layers[i], call->layers[i].input_size + outputs_of(&call->layers[i]));
    return bytes;
}

static layer_plan plan_of(const lk_call *call, lk_caches caches, int64_t layer)
{
    const lk_layer *sizes = &call->layers[layer * call->directions];
    return (layer_plan){.kernels = kernels_of(call, sizes),
                        .caches = caches,
                        .I = sizes->input_size,
                        .H = sizes->hidden_size,
                        .R = outputs_of(sizes),
                        .steps = call->last - call->first,
                        .kept = kept_bytes(call, sizes)};
}

/* All steps of one layer and direction, for some rows, on one thread of `cores` that are at work. */
static double layer_ns(const lk_call *call, lk_caches caches, int64_t layer, int64_t rows, int64_t cores)
{
    const layer_plan plan = plan_of(call, caches, layer);
    return (double)plan.steps * step_ns(&plan, rows, 1, cores);
}

static double alone_ns(const lk_call *call, lk_caches caches)
{
    double ns = 0;
    for (int64_t layer = 0; layer < call->num_layers; layer++)
        ns += (double)call->directions * layer_ns(call, caches, layer, call->B, 1);
    return ns;
}

/* ---------------------------------------------------------------- tasks */

/* Steps of a chunk where layers follow each other: enough for the input product, and few enough that the wave is
 * short. */
static int64_t wave_steps(int64_t steps, int64_t rows)
{
    const int64_t enough = larger(divide_up(steps, MAX_CHUNKS), divide_up(CHUNK_ROWS, rows));
    return larger(1, smaller(enough, divide_up(steps, MIN_CHUNKS)));
}

/* Rows of a task, for n threads. They are divided even where layers alone would do, because layers seldom have equal
 * work. */
static int64_t rows_of_task(const lk_call *call, int64_t n)
{
    const int64_t threads = divide_up(n, call->directions),
                  most = LK_MOST_TASKS / (call->num_layers * call->directions);
    const int64_t many = call->last - call->first > 1 ? TASKS_PER_THREAD : 1;
    const int64_t of_many_rows = smaller(smaller(call->B / MANY_ROWS, most) / threads, many) * threads;
    const int64_t groups = larger(1, larger(of_many_rows, smaller(threads, call->B / MIN_ROWS_PER_TASK)));
    const int64_t rows = divide_up(call->B, groups);
    return rows < ROUND_ROWS_FROM ? rows : divide_up(rows, ROUND_ROWS) * ROUND_ROWS;
}

/* Steps of a chunk of so many rows, for n threads. With two tasks for each thread, no layer waits for the first steps of
 * the one below, so a chunk is as long as the cache holds what it hands over. */
static int64_t steps_of_chunk(const lk_call *call, lk_caches caches, int64_t rows, int64_t waves, int64_t n)
{
    const int64_t steps = call->last - call->first, in_wave = wave_steps(steps, rows);
    if (waves == 1) {
        const double step = layer_ns(call, caches, 0, rows, 1) / (double)steps;
        return smaller(steps, larger(in_wave, (int64_t)(CHUNK_NS / step) + 1));
    }
    const int64_t step_bytes = rows * outputs_of(call->layers) * call->kernels->itemsize;
    return call->B < 2 * n * rows ? in_wave : smaller(steps, larger(in_wave, HANDOVER_BYTES / step_bytes));
}

/* Tasks of one layer run side by side, and layers one after the other or, in one direction, in a wave. ns is infinite
 * where no two tasks could run at the same time. */
static lk_plan plan_tasks(const lk_call *call, lk_caches caches, int64_t n)
{
    const int64_t rows = rows_of_task(call, n), waves = call->directions == 1 ? call->num_layers : 1;
    lk_plan plan = {.way = LK_TASKS, .threads = (int)n, .rows = rows};
    plan.steps = steps_of_chunk(call, caches, rows, waves, n);
    const int64_t tasks = divide_up(call->B, rows) * call->directions;
    const int64_t chunks = divide_up(call->last - call->first, plan.steps);
    const int64_t at_once = smaller(n, tasks * (chunks > 1 ? waves : 1));
    plan.ns = __builtin_inf();
    if (tasks * call->num_layers > LK_MOST_TASKS || at_once < 2)
        return plan;
    double sum = 0, longest = 0;
    for (int64_t layer = 0; layer < call->num_layers; layer++) {
        const double ns = layer_ns(call, caches, layer, rows, at_once) + (double)(chunks * TAKING_NS);
        sum += ns;
        longest = most(longest, ns);
    }
    const double in_turn = sum * (double)divide_up(tasks, smaller(n, tasks));
    const double in_wave = most(longest, sum * (double)tasks / (double)at_once) + (sum - longest) / (double)chunks;
    plan.ns = JOIN_NS + (waves > 1 ? least(in_turn, in_wave) : in_turn);
    return plan;
}

/* ---------------------------------------------------------------- teams */

static double meeting_ns(int64_t threads)
{
    int doublings = 0;
    while (INT64_C(1) << doublings < threads)
        doublings++;
    return CLAIM_NS + (double)MEETING_NS * doublings;
}

/* Each thread reads the outputs that the others have just written, and all inputs. Others wrote the inputs, too, but
 * earlier, so these come from the shared cache. */
static double exchange_ns(const layer_plan *layer, int64_t rows, int64_t threads)
{
    const double itemsize = (double)layer->kernels->itemsize, others = 1 - 1 / (double)threads;
    return (double)rows * itemsize
           * ((double)layer->R * others / EXCHANGE_SPEED + (double)layer->I / SHARED_CACHE_SPEED);
}

/* One step of a layer on a team of so many threads, while `cores` are at work. */
static double team_step_ns(const layer_plan *layer, int64_t rows, int64_t threads, int64_t cores)
{
    /* The outputs, maybe those of a projection, and once a chunk the inputs. */
    const int64_t chunk = larger(1, smaller(layer->steps, CHUNK_ROWS / rows));
    const double meetings = (layer->R == layer->H ? 1 : 2) + 1 / (double)chunk;
    return step_ns(layer, rows, threads, cores) + exchange_ns(layer, rows, threads) + meetings * meeting_ns(threads);
}

double lk_team_step_ns(const lk_call *call, int64_t layer, int64_t threads)
{
    const layer_plan plan = plan_of(call, this_machine(), layer);
    return team_step_ns(&plan, call->B, threads, threads * call->directions);
}

/* Each direction has a team. */
static lk_plan plan_teams(const lk_call *call, lk_caches caches, int64_t n)
{
    const int64_t steps = call->last - call->first, threads = n / call->directions;
    lk_plan plan = {.way = LK_TEAMS, .threads = (int)n, .rows = call->B, .steps = steps, .ns = JOIN_NS};
    for (int64_t i = 0; i < call->num_layers; i++) {
        const layer_plan layer = plan_of(call, caches, i);
        plan.ns += (double)steps * team_step_ns(&layer, call->B, threads, n);
    }
    return plan;
}

/* ---------------------------------------------------------------- the choice */

/* A way with more threads must save one part in GAIN. */
static void choose(lk_plan *best, lk_plan other)
{
    const double saved = other.threads > best->threads ? best->ns / GAIN : 0;
    if (other.ns < best->ns - saved)
        *best = other;
}

/* Numbers of threads that are tried: 2, 4, 8, ... and the most. 0 after the last one. */
static int64_t more_threads(int64_t n, int64_t most) { return n < most ? smaller(2 * n, most) : 0; }

void lk_lstm_plan(const lk_call *call, const lk_caches *caches_, lk_plan *plan)
{
    const lk_caches caches = caches_ ? *caches_ : this_machine();
    const double alone = alone_ns(call, caches);
    lk_plan best = {
        .way = LK_ONE_THREAD, .threads = 1, .rows = call->B, .steps = call->last - call->first, .ns = alone};
    /* Most calls of one step are quicker than threads come; and there may be no rows. */
    const int64_t most_threads = alone > JOIN_NS && call->B > 0 ? call->threads : 1;
    for (int64_t n = more_threads(1, most_threads); n; n = more_threads(n, most_threads)) {
        choose(&best, plan_tasks(call, caches, n));
        choose(&best, plan_teams(call, caches, n));
    }
    best.alone_ns = alone;
    *plan = best;
}

/* ---------------------------------------------------------------- training */

/* Threads that share rows do not meet within a chunk of steps. */
lk_training_plan lk_plan_training(const lk_kernels *kernels, const lk_tape *tape, int64_t I, int64_t H, int64_t R)
{
    const layer_plan layer = {.kernels = kernels,
                              .caches = this_machine(),
                              .I = I,
                              .H = H,
                              .R = R,
                              .steps = tape->last - tape->first,
                              .kept = (double)(4 * H * R * kernels->weight_size)};
    const double parts = TRAINING_PARTS * (double)layer.steps;
    lk_training_plan best = {.threads = 1, .ns = parts * step_ns(&layer, tape->B, 1, 1)};
    for (int64_t n = more_threads(1, tape->threads); n; n = more_threads(n, tape->threads)) {
        const double by_rows = parts * step_ns(&layer, divide_up(tape->B, n), 1, n);
        const double by_units =
            parts * (step_ns(&layer, tape->B, n, n) + exchange_ns(&layer, tape->B, n) + meeting_ns(n));
        const double ns = JOIN_NS + least(by_rows, by_units);
        if (ns < best.ns - best.ns / GAIN)
            best = (lk_training_plan){.threads = (int)n, .by_units = by_units < by_rows, .ns = ns};
    }
    return best;
}
