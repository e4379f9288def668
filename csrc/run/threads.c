/* threads.c - a small pool of threads, and how they wait within a job.
 *
 * One pool serves the process. Its threads are made when they are first needed. One call has the pool at a time. Other
 * calls do not wait for it but run on their own thread, and their results are bit-identical.
 *
 * Nobody waits for a thread that has not come. The calling thread begins its job at once, and could do all of it. The
 * others are invited, and come when the system lets them run. At the end the caller withdraws the invitations that
 * nobody took up, and waits only for threads that are at work. Each thread has a seat, which says how it stands:
 *
 *   INVITED   the job has begun without it
 *   AT_WORK   it may touch the job's memory
 *   WAITING   it is within the job, but touches only what is static
 *   AWAY      it has left the job, or the caller has closed it
 *
 *   INVITED -> AT_WORK, AT_WORK <-> WAITING, AT_WORK -> AWAY    by the thread
 *   AWAY -> INVITED, INVITED -> AWAY, WAITING -> AWAY           by the caller
 *
 * A thread without work spins for a moment, because the next call of a busy program comes soon, and to wake a thread
 * costs more than a short layer. Then it sleeps. Threads that sleep wake each other: the caller wakes the first ones of a
 * tree, each of them the next ones. A thread that spins gives its core away now and then: where there are more threads
 * than cores, the system then takes the core at that moment, and not in the midst of work for which the others would
 * wait. A child of fork starts with an empty pool, because threads are not inherited. */
#include <stddef.h>
#include "run/float_control.h"
#include "run/system.h"
#include "run/team.h"
#include "run/threads.h"

/* Turns of waiting; one takes about 30 ns.
 *
 * GIVE_WAY: after so many turns, and again, the thread gives its core away, if another one wants it.
 * CONFIDENT: so long a thread within a job is AT_WORK while it waits: a short wait costs no change of its state.
 * MOST_SPINS: then it sleeps. About 0.13 ms. */
enum { GIVE_WAY = 256, CONFIDENT = 64, MOST_SPINS = 4096 };

enum { AWAY, INVITED, AT_WORK, WAITING };

/* sleeping: whether its thread sleeps, on its own condition, and nobody has woken it. */
typedef struct {
    _Alignas(64) atomic_int state;
    atomic_int sleeping;
    lk_mutex mutex;
    lk_condition_variable woken;
    int rank;
} seat;

static struct {
    lk_mutex owner; /* held by the call that has the pool */
    /* For threads that sleep within a job, and for the caller that waits for the others to leave. */
    lk_mutex mutex;
    lk_condition_variable changed;
    atomic_int sleepers;
    /* The owner's: */
    int started; /* threads, ranks 1 .. started */
    int size;    /* of the job at hand */
    lk_worker *worker;
    void *job;
} pool = {.owner = LK_MUTEX, .mutex = LK_MUTEX, .changed = LK_CONDITION_VARIABLE};

static seat seats[LK_MOST_THREADS];
static lk_once prepared = LK_ONCE;

static void forget_threads(void)
{
    lk_init_mutex(&pool.owner);
    lk_init_mutex(&pool.mutex);
    lk_init_condition_variable(&pool.changed);
    atomic_store(&pool.sleepers, 0);
    pool.started = 0;
    for (int rank = 0; rank < LK_MOST_THREADS; rank++) {
        atomic_store(&seats[rank].state, AWAY);
        atomic_store(&seats[rank].sleeping, 0);
    }
    lk_forget_meetings();
}

static void prepare(void) { lk_in_child_of_fork(forget_threads); }

/* ---------------------------------------------------------------- waiting */

void lk_spin(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A turn of a thread of the pool. The caller's thread never gives its core away: its job waits for it. */
static void spin_politely(int turn)
{
    lk_spin();
    if (turn % GIVE_WAY == GIVE_WAY - 1)
        lk_give_way();
}

/* Wake those who sleep within a job. The caller has changed what they wait for, sequentially consistent: either they
 * see that, or this sees them. */
static void wake_sleepers(void)
{
    if (!atomic_load(&pool.sleepers))
        return;
    lk_lock(&pool.mutex);
    lk_wake_all(&pool.changed);
    lk_unlock(&pool.mutex);
}

/* Change the seat's state from `before`. Returns 0 if it was another one. */
static int change(int rank, int before, int after)
{
    return atomic_compare_exchange_strong(&seats[rank].state, &before, after);
}

static int is(int rank, int state) { return atomic_load_explicit(&seats[rank].state, memory_order_acquire) == state; }

int lk_spin_until(lk_condition *is_met, const void *about, int spins)
{
    for (int turn = 0; turn < spins; turn++) {
        if (is_met(about))
            return 1;
        lk_spin();
    }
    return is_met(about);
}

static void sleep_until(lk_condition *is_met, const void *about, int rank)
{
    lk_lock(&pool.mutex);
    atomic_fetch_add(&pool.sleepers, 1);
    while (!is_met(about) && (!rank || is(rank, WAITING)))
        lk_sleep_at(&pool.changed, &pool.mutex);
    atomic_fetch_sub(&pool.sleepers, 1);
    lk_unlock(&pool.mutex);
}

int lk_wait_until(lk_condition *is_met, const void *about, int rank)
{
    if (lk_spin_until(is_met, about, CONFIDENT))
        return 1;
    if (rank == 0) {
        if (!lk_spin_until(is_met, about, MOST_SPINS))
            sleep_until(is_met, about, rank);
        return 1;
    }
    change(rank, AT_WORK, WAITING);
    wake_sleepers(); /* the caller may wait for this thread to leave */
    for (int turn = 0; !is_met(about) && is(rank, WAITING); turn++)
        if (turn < MOST_SPINS)
            spin_politely(turn);
        else
            sleep_until(is_met, about, rank);
    return change(rank, WAITING, AT_WORK);
}

void lk_set_signal(lk_signal *signal, uint64_t value)
{
    atomic_store(&signal->value, value);
    wake_sleepers();
}

void lk_raise_signal_to(lk_signal *signal, uint64_t value)
{
    uint64_t before = atomic_load(&signal->value);
    while (before < value && !atomic_compare_exchange_weak(&signal->value, &before, value))
        ;
    wake_sleepers();
}

void lk_raise_signal(lk_signal *signal)
{
    atomic_fetch_add(&signal->value, 1);
    wake_sleepers();
}

#ifdef LK_TEST_DELAYS
/* One time in 64 on average, the thread sleeps, for 0.1 ms on average; one time in 4096 for 3 ms, as long as the system takes
 * a core away. */
void lk_test_delay(void)
{
    static _Thread_local uint32_t random;
    if (!random)
        random = (uint32_t)(uintptr_t)&random | 1;
    random ^= random << 13, random ^= random >> 17, random ^= random << 5;
    if (random % 64)
        return;
    lk_sleep_ns(random / 64 % 64 ? (random >> 12) % 200000 : 3000000);
}
#endif

/* ---------------------------------------------------------------- the threads of the pool */

/* Sleep until this thread is woken. */
static void sleep_at(seat *self)
{
    lk_lock(&self->mutex);
    atomic_store(&self->sleeping, 1);
    while (atomic_load(&self->sleeping) && atomic_load(&self->state) != INVITED)
        lk_sleep_at(&self->woken, &self->mutex);
    atomic_store(&self->sleeping, 0);
    lk_unlock(&self->mutex);
}

/* Wait until this thread is invited. If it is woken too late, it waits for the next job as it waited for this one. */
static void wait_for_job(seat *self)
{
    for (int turn = 0; !is(self->rank, INVITED); turn++)
        if (turn < MOST_SPINS) {
            spin_politely(turn);
        } else {
            sleep_at(self);
            turn = 0;
        }
}

/* Wake the thread of this seat if it sleeps. A thread that was woken, and does not run yet, is not woken again. */
static void wake(int rank)
{
    seat *other = &seats[rank];
    if (!atomic_load(&other->sleeping))
        return;
    lk_lock(&other->mutex);
    atomic_store(&other->sleeping, 0);
    lk_wake_one(&other->woken);
    lk_unlock(&other->mutex);
}

/* The tree: rank r wakes 2 r + 1 and 2 r + 2. */
static void wake_next(int rank, int size)
{
    for (int next = 2 * rank + 1; next <= 2 * rank + 2 && next < size; next++)
        wake(next);
}

static lk_thread_result work(void *self_)
{
    seat *self = self_;
    const int rank = self->rank;
    for (;;) {
        wait_for_job(self);
        if (!change(rank, INVITED, AT_WORK))
            continue;
        wake_next(rank, pool.size);
        const lk_float_control before = lk_enter_kernel();
        pool.worker(pool.job, rank, pool.size);
        lk_leave_kernel(before);
        atomic_store(&self->state, AWAY);
        wake_sleepers();
    }
    return 0;
}

/* Start threads until there are `wanted` beside the caller's, or fewer where the system refuses. */
static void start_threads(int wanted)
{
    while (pool.started < wanted) {
        seat *next = &seats[pool.started + 1];
        next->rank = pool.started + 1;
        lk_init_mutex(&next->mutex);
        lk_init_condition_variable(&next->woken);
        if (!lk_start_thread(work, next))
            break;
        pool.started++;
    }
}

/* ---------------------------------------------------------------- a job */

static void invite_all(void)
{
    for (int rank = 1; rank < pool.size; rank++)
        atomic_store(&seats[rank].state, INVITED);
    wake_next(0, pool.size);
}

/* Wait until the thread of this seat does no more work. */
static void sleep_while_at_work(int rank)
{
    lk_lock(&pool.mutex);
    atomic_fetch_add(&pool.sleepers, 1);
    while (is(rank, AT_WORK))
        lk_sleep_at(&pool.changed, &pool.mutex);
    atomic_fetch_sub(&pool.sleepers, 1);
    lk_unlock(&pool.mutex);
}

static void close_seat(int rank)
{
    for (int turn = 0; !is(rank, AWAY); turn++) {
        if (change(rank, INVITED, AWAY))
            return;
        if (change(rank, WAITING, AWAY)) {
            wake_sleepers(); /* it may be one of them */
            return;
        }
        if (turn < MOST_SPINS)
            lk_spin();
        else
            sleep_while_at_work(rank);
    }
}

int lk_run(int most, lk_worker *worker, void *job)
{
    lk_do_once(&prepared, prepare);
    if (!lk_try_lock(&pool.owner))
        return 0;
    const int wanted = most < LK_MOST_THREADS ? most : LK_MOST_THREADS;
    if (pool.started < wanted - 1)
        start_threads(wanted - 1);
    pool.size = pool.started + 1 < wanted ? pool.started + 1 : wanted;
    const int shared = pool.size > 1;
    if (shared) {
        pool.worker = worker;
        pool.job = job;
        lk_open_meetings();
        invite_all();
        worker(job, 0, pool.size);
        for (int rank = 1; rank < pool.size; rank++)
            close_seat(rank);
    }
    lk_unlock(&pool.owner);
    return shared;
}
