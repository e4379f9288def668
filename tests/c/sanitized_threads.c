/* sanitized_threads.c - lstm_forward on several threads gives the bits of one, whichever way they share the work,
 * from many threads of the program at once, and after fork. For tests/c/sanitize.sh: ThreadSanitizer sees accesses
 * that nothing orders.
 *
 *   sanitized_threads [without-fork]     ThreadSanitizer starts no threads after a fork */
#include <stdatomic.h>
#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif
#include "tables.h"
#include "network.h"
#include "system.h"

/* Each large enough to be shared; csrc/run/plan.c chooses how. */
typedef struct {
    const char *way;
    int64_t T, B, I, H, P, L, D;
} shared;

static const shared SHARED[] = {
    {"directions", 12, 3, 20, 50, 0, 3, 2},
    {"directions and rows", 4, 50, 20, 40, 0, 2, 2},
    {"projected directions", 8, 5, 9, 50, 11, 1, 2},
    {"wave", 210, 2, 10, 20, 0, 3, 1},
    {"wave of many rows", 70, 70, 5, 12, 0, 2, 1},
    {"projected wave", 200, 1, 10, 30, 9, 2, 1},
    {"rows", 8, 100, 15, 20, 0, 1, 1},
    {"many rows", 12, 400, 5, 12, 0, 1, 1},
    {"layers of many rows", 12, 400, 5, 12, 7, 3, 1},
    {"rows of one step", 1, 130, 20, 40, 0, 2, 1},
    {"team", 4, 1, 130, 133, 0, 1, 1},
    {"team of rows", 3, 4, 90, 133, 0, 1, 1},
    {"team of groups of rows", 2, 100, 8, 270, 0, 1, 1},
    {"team of one step", 1, 1, 130, 150, 0, 3, 1},
    {"projected team", 3, 2, 90, 140, 105, 1, 1},
};
enum { WAYS = sizeof SHARED / sizeof SHARED[0], MOST_STATES = 6, CALLERS = 4, ROUNDS = 2, MOST_THREADS = 8 };

/* A network and its input on some kernels, and the answer of one thread: out, h and c one after the other. */
typedef struct {
    const lk_kernels *kernels;
    shared s;
    int64_t R, states, outs, hs, cs; /* sizes of out, h and c, in elements */
    lk_layer layers[MOST_STATES];
    void *x, *state; /* h and c before */
    int64_t *lengths;
    uint8_t *reset;
    char *expected;
} example;

/* How many calls took each way. */
static atomic_int ways[LK_TEAMS + 1];

/* The answer of so many threads. */
static char *answer(const example *e, int threads)
{
    const shared *s = &e->s;
    const int64_t D = s->D, itemsize = e->kernels->itemsize, row = D * e->R;
    const lk_call call = {e->kernels, e->layers, s->L, D, s->T, s->B,    s->B * s->I, s->I,
                          s->B * row, row,       s->B, 0, s->T, threads, 0,           NULL};
    char *out = take(e->outs + e->hs + e->cs, itemsize), *h = out + e->outs * itemsize, *c = h + e->hs * itemsize;
    memcpy(h, e->state, (size_t)((e->hs + e->cs) * itemsize));
    void *between = take(e->outs, itemsize), *work = take_work(lk_lstm_workspace(&call));
    lk_plan plan;
    lk_lstm_plan(&call, NULL, &plan);
    atomic_fetch_add(&ways[plan.way], 1);
    lk_lstm_forward(&call, e->x, e->lengths, e->reset, h, c, out, between, work);
    free(between);
    drop_work(work);
    return out;
}

static example make_example(const lk_kernels *kernels, shared s, int ragged)
{
    example e = {.kernels = kernels, .s = s, .R = s.P ? s.P : s.H, .states = s.L * s.D};
    e.outs = s.T * s.B * s.D * e.R;
    e.hs = e.states * s.B * e.R;
    e.cs = e.states * s.B * s.H;
    for (int64_t n = 0; n < e.states; n++) {
        plain_layer plain = draw_layer(n < s.D ? s.I : s.D * e.R, s.H, s.P);
        e.layers[n] = pack_layer(&plain, kernels);
        drop_layer(&plain);
    }
    double *x = draw(s.T * s.B * s.I, 2), *state = draw(e.hs + e.cs, 1);
    e.x = converted(x, s.T * s.B * s.I, kernels->itemsize);
    e.state = converted(state, e.hs + e.cs, kernels->itemsize);
    e.lengths = ragged ? draw_lengths(s.T, s.B) : NULL;
    e.reset = ragged ? take(s.D * s.T * s.B, 1) : NULL;
    for (int64_t n = 0; ragged && n < s.D * s.T * s.B; n += 3)
        e.reset[n] = 1;
    e.expected = answer(&e, 1);
    free(x);
    free(state);
    return e;
}

static void drop_example(example *e)
{
    for (int64_t n = 0; n < e->states; n++)
        drop_packed(&e->layers[n]);
    void *all[] = {e->x, e->state, e->lengths, e->reset, e->expected};
    for (int n = 0; n < 5; n++)
        free(all[n]);
}

static void check(const example *e, int threads, const char *where)
{
    char *got = answer(e, threads);
    if (memcmp(got, e->expected, (size_t)((e->outs + e->hs + e->cs) * e->kernels->itemsize)) != 0) {
        fprintf(stderr, "%s, %d lanes of %d bytes, %s, %d threads: other bits than one thread\n", e->s.way,
                (int)e->kernels->lanes, (int)e->kernels->itemsize, where, threads);
        _exit(1);
    }
    free(got);
}

static void every_way(void)
{
    for (int table = 0; table < table_count; table++)
        for (int n = 0; n < 2 * WAYS; n++) {
            example e = make_example(tables[table], SHARED[n / 2], n % 2);
            for (int round = 0; round < ROUNDS; round++)
                check(&e, round % 2 ? MOST_THREADS : 2 + n % 3, "alone");
            drop_example(&e);
        }
}

/* The pool serves one call at a time, the others run alone. */
static lk_thread_result caller(void *examples)
{
    for (int n = 0; n < ROUNDS * WAYS; n++)
        check((const example *)examples + n % WAYS, 2 + n % (MOST_THREADS - 1), "with other callers");
    return 0;
}

static void many_callers(const example *examples)
{
    void *const arguments[CALLERS] = {(void *)examples, (void *)examples, (void *)examples, (void *)examples};
    on_threads(CALLERS, caller, arguments);
}

#ifdef _WIN32
static void fork_twice(const example *e, int generation) { (void)e, (void)generation; } /* Windows has no fork */
#else
/* A child has none of its parent's threads, and makes its own; so does its child. */
static void fork_twice(const example *e, int generation)
{
    const pid_t child = fork();
    if (child == 0) {
        alarm(60); /* a wait for threads that it does not have would never end */
        check(e, 3, "after fork");
        check(e, 4, "after fork");
        if (generation < 2)
            fork_twice(e, generation + 1);
        _exit(0);
    }
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "%s: a child failed\n", e->s.way);
        _exit(1);
    }
    check(e, 4, "after a child");
}
#endif

int main(int argc, char **argv)
{
    find_tables();
    find_integer_tables();
    every_way();
    example examples[WAYS];
    for (int n = 0; n < WAYS; n++)
        examples[n] = make_example(tables[n % table_count], SHARED[n], n % 2);
    many_callers(examples);
    const int forks = argc == 1 || strcmp(argv[1], "without-fork") != 0;
    for (int n = 0; n < WAYS; n++) {
        if (forks)
            fork_twice(&examples[n], 1);
        drop_example(&examples[n]);
    }
    if (!ways[LK_TASKS] || !ways[LK_TEAMS]) {
        fprintf(stderr, "tasks: %d calls, teams: %d; expected both\n", ways[LK_TASKS], ways[LK_TEAMS]);
        return 1;
    }
    return 0;
}
