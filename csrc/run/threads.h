/* threads.h - a small pool of threads, and how they wait within a job. See threads.c. */
#ifndef LK_THREADS_H
#define LK_THREADS_H
#include <stdatomic.h>
#include <stdint.h>

/* At most so many threads take part in a job. */
enum { LK_MOST_THREADS = 64 };

/* One thread's part of a job. Rank 0 is the thread that called lk_run; `size` threads may take part in all. A job is
 * done when rank 0 returns. The others may come late, or never, and one that waits (lk_wait_until) may be told that the
 * job is over. So rank 0 must be able to do all of the work. */
typedef void lk_worker(void *job, int rank, int size);

/* Run worker(job, rank, size) on this thread, and on up to most - 1 of the pool while it runs here; returns 1 when none of
 * them runs any more. Returns 0, and has done nothing, where the pool is at work for another thread or has no threads.
 * The pool's threads enter the kernels' floating-point environment; the caller has entered it on this thread. */
int lk_run(int most, lk_worker *worker, void *job);

/* A number that threads wait for. It only grows, and it has a cache line of its own. It must be static: a thread may look
 * at it when the job is over. */
typedef struct {
    _Alignas(64) _Atomic uint64_t value;
} lk_signal;

/* Whether what a thread waits for has come. It looks at signals, and at memory of the waiting thread. */
typedef int lk_condition(const void *about);

/* Wait until the condition is met. Returns 0 if the job is over for this thread: it must then leave the worker, and must
 * not touch the job's memory. Rank 0 always gets 1. */
int lk_wait_until(lk_condition *is_met, const void *about, int rank);

/* Spin until then, but not for long. Returns whether the condition was met. */
int lk_spin_until(lk_condition *is_met, const void *about, int spins);

/* One turn of spinning. */
void lk_spin(void);

/* Set a signal, raise it to a value, or add one to it, and wake threads that sleep, so that they look at it. */
void lk_set_signal(lk_signal *signal, uint64_t value);
void lk_raise_signal_to(lk_signal *signal, uint64_t value);
void lk_raise_signal(lk_signal *signal);
static inline uint64_t lk_signal_value(const lk_signal *signal) { return atomic_load(&signal->value); }

/* In a build for tests, with -DLK_TEST_DELAYS: now and then, a thread sleeps here. */
#ifdef LK_TEST_DELAYS
void lk_test_delay(void);
#else
static inline void lk_test_delay(void) {}
#endif

#endif
