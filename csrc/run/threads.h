/* threads.h - a small pool of threads, and the barrier where they wait for each other. See threads.c. */
#ifndef LK_THREADS_H
#define LK_THREADS_H
#include <stdatomic.h>

/* One thread's part of a job. Rank 0 is the thread that called lk_run; `size` threads take part in all. */
typedef void lk_worker(void *job, int rank, int size);

/* Run worker(job, rank, size) on this thread and on up to most - 1 of the pool, side by side; returns when all have
 * returned. size is 1 where the pool is at work for another thread. The pool's threads enter the kernels'
 * floating-point environment; the caller has entered it on this thread. */
void lk_run(int most, lk_worker *worker, void *job);

/* A place where threads wait for each other, any number of times. It is {0} before the first time. */
typedef struct {
    atomic_int waiting, round;
} lk_barrier;

typedef void lk_wait_function(lk_barrier *barrier, int size);
lk_wait_function lk_barrier_wait;

/* A pause in iteration 0, 1, ... of a loop that waits for another thread. Every 1024th one gives the core to the
 * scheduler. */
void lk_spin_pause(int iteration);

#endif
