/* threads.h - a small pool of threads, and the barrier that a team of them meets at. See threads.c. */
#ifndef LK_THREADS_H
#define LK_THREADS_H
#include <stdatomic.h>

/* One thread's part of a job: rank 0 is the thread that called lk_run, of `size` in all. */
typedef void lk_task(void *job, int rank, int size);

/* Run task(job, rank, size) on this thread and on up to most - 1 of the pool, side by side; returns when all have returned.
 * size is 1 where the pool is at work for another thread. The floating-point environment is the kernels' in each. */
void lk_run(int most, lk_task *task, void *job);

/* Meets again and again: {0} before the first time. */
typedef struct {
    atomic_int waiting, round;
} lk_barrier;

typedef void lk_meeting(lk_barrier *barrier, int size);
lk_meeting lk_meet;

/* A pause in a loop that waits for another thread; gives the core away from time to time. */
void lk_relax(int turn);

#endif
