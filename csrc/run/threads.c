/* threads.c - a small pool of threads.
 *
 * One pool serves the process. Its threads are made when they are first needed. A thread without work spins for a
 * moment, because the next call of a busy program comes soon, and to wake a parked thread costs more than a short
 * layer. Then it parks. One call has the pool at a time. Other calls do not wait for it but run on their own thread,
 * and their results are bit-identical. Where another program has the cores, threads that wait for each other lose more
 * than they gain. So after some calls that waited too long, calls run alone for a while. A child of fork starts with an
 * empty pool, because threads are not inherited. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include "run/float_control.h"
#include "run/threads.h"

enum { MOST_THREADS = 64 };

/* Waiting, by spinning.
 *
 * SPINS: a thread without work spins this often before it parks; that takes about 50 us.
 * LATE_SPINS: a thread at a barrier spins this often before its waiting is measured. */
enum { SPINS = 4000, LATE_SPINS = 500 };

/* Calls whose threads wait too long for each other, because another program has the cores.
 *
 * SLACK_NS: a call may wait for half the time that it works, plus this. WAKING_NS: the same where a thread had
 * to be woken.
 * STRIKE: what a call that waits longer adds to the strikes; one that does not takes one back.
 * MOST_STRIKES: with this many strikes, calls run on their own thread for RUN_ALONE_NS. */
enum { SLACK_NS = 20000, WAKING_NS = 300000, STRIKE = 4, MOST_STRIKES = 2 * STRIKE, RUN_ALONE_NS = 200000000 };

static struct {
    pthread_mutex_t owner;   /* held by the call that has the pool */
    pthread_mutex_t parking; /* with `wake`: for threads that stopped spinning */
    pthread_cond_t wake;
    atomic_int parked, job_number, still_running;
    _Atomic int64_t late_ns; /* how much too long the barriers of this job took */
    /* The owner's: */
    int strikes;
    int64_t alone_until; /* in nanoseconds of now() */
    int started;         /* threads, ranks 1 .. started */
    int size;            /* of the job at hand */
    lk_worker *worker;
    void *job;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .parking = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static void forget_threads(void)
{
    pthread_mutex_init(&pool.owner, NULL);
    pthread_mutex_init(&pool.parking, NULL);
    pthread_cond_init(&pool.wake, NULL);
    atomic_store(&pool.parked, 0);
    atomic_store(&pool.still_running, 0);
    pool.started = 0;
    pool.strikes = 0;
    pool.alone_until = 0;
}

static void prepare(void) { pthread_atfork(NULL, NULL, forget_threads); }

void lk_spin_pause(int iteration)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    if (iteration % 1024 == 1023) /* there may be more threads than cores */
        sched_yield();
}

/* Wait for the job after number `seen`. Returns its number. */
static int next_job(int seen)
{
    for (int iteration = 0; iteration < SPINS; iteration++) {
        const int number = atomic_load_explicit(&pool.job_number, memory_order_acquire);
        if (number != seen)
            return number;
        lk_spin_pause(iteration % 1023); /* never 1023, so it never yields: a yield would count as work */
    }
    pthread_mutex_lock(&pool.parking);
    atomic_fetch_add(&pool.parked, 1);
    while (atomic_load(&pool.job_number) == seen)
        pthread_cond_wait(&pool.wake, &pool.parking);
    atomic_fetch_sub(&pool.parked, 1);
    pthread_mutex_unlock(&pool.parking);
    return atomic_load(&pool.job_number);
}

typedef struct {
    int rank, seen;
} pool_thread;

static pool_thread pool_threads[MOST_THREADS];

static void *work(void *self_)
{
    const pool_thread *self = self_;
    const int rank = self->rank;
    int seen = self->seen;
    for (;;) {
        seen = next_job(seen);
        if (rank >= pool.size) {
            atomic_fetch_sub_explicit(&pool.still_running, 1, memory_order_release);
            continue;
        }
        const lk_float_control before = lk_enter_kernel();
        pool.worker(pool.job, rank, pool.size);
        lk_leave_kernel(before);
        atomic_fetch_sub_explicit(&pool.still_running, 1, memory_order_release);
    }
    return NULL;
}

/* Start threads until there are `wanted` beside the caller's, or fewer where the system refuses. They take no signals:
 * those are for threads that the program made. */
static void start_threads(int wanted)
{
    sigset_t all, callers;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &callers);
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    while (pool.started < wanted) {
        pool_thread *next = &pool_threads[pool.started];
        *next = (pool_thread){pool.started + 1, atomic_load(&pool.job_number)};
        pthread_t thread;
        if (pthread_create(&thread, &detached, work, next) != 0)
            break;
        pool.started++;
    }
    pthread_attr_destroy(&detached);
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* Start the job on the pool, take part in it, wait for the others. Returns whether they were worth waiting for. */
static int share(lk_worker *worker, void *job)
{
    const int64_t slack = atomic_load(&pool.parked) ? WAKING_NS : SLACK_NS, begin = now();
    pool.worker = worker;
    pool.job = job;
    atomic_store(&pool.late_ns, 0);
    atomic_store(&pool.still_running, pool.started);
    atomic_fetch_add(&pool.job_number, 1);
    if (atomic_load(&pool.parked)) {
        pthread_mutex_lock(&pool.parking);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.parking);
    }
    worker(job, 0, pool.size);
    const int64_t done = now();
    for (int iteration = 0; atomic_load_explicit(&pool.still_running, memory_order_acquire) > 0; iteration++)
        lk_spin_pause(iteration);
    const int64_t end = now(), waited = end - done + atomic_load(&pool.late_ns), worked = end - begin - waited;
    return waited <= worked / 2 + slack;
}

void lk_run(int most, lk_worker *worker, void *job)
{
    pthread_once(&prepared, prepare);
    if (most <= 1 || pthread_mutex_trylock(&pool.owner) != 0) {
        worker(job, 0, 1);
        return;
    }
    if (pool.alone_until && now() < pool.alone_until) {
        pthread_mutex_unlock(&pool.owner);
        worker(job, 0, 1);
        return;
    }
    const int wanted = most < MOST_THREADS ? most : MOST_THREADS;
    if (pool.started < wanted - 1)
        start_threads(wanted - 1);
    pool.size = pool.started + 1 < wanted ? pool.started + 1 : wanted;
    pool.strikes += share(worker, job) ? -(pool.strikes > 0) : STRIKE;
    if (pool.strikes >= MOST_STRIKES) {
        pool.strikes = STRIKE;
        pool.alone_until = now() + RUN_ALONE_NS;
    }
    pthread_mutex_unlock(&pool.owner);
}

void lk_barrier_wait(lk_barrier *barrier, int size)
{
    const int round = atomic_load_explicit(&barrier->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->waiting, 1, memory_order_acq_rel) + 1 == size) {
        atomic_store_explicit(&barrier->waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->round, round + 1, memory_order_release);
        return;
    }
    int64_t late_since = 0;
    for (int iteration = 0; atomic_load_explicit(&barrier->round, memory_order_acquire) == round; iteration++) {
        lk_spin_pause(iteration);
        if (iteration == LATE_SPINS)
            late_since = now();
    }
    if (late_since)
        atomic_fetch_add_explicit(&pool.late_ns, (now() - late_since) / (size - 1), memory_order_relaxed);
}
