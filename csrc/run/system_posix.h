/* system_posix.h - system.h on Linux, macOS and other systems with POSIX threads. */
#ifndef LK_SYSTEM_POSIX_H
#define LK_SYSTEM_POSIX_H
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

typedef pthread_mutex_t lk_mutex;
#define LK_MUTEX PTHREAD_MUTEX_INITIALIZER
static inline void lk_init_mutex(lk_mutex *mutex) { pthread_mutex_init(mutex, NULL); }
static inline void lk_lock(lk_mutex *mutex) { pthread_mutex_lock(mutex); }
static inline int lk_try_lock(lk_mutex *mutex) { return pthread_mutex_trylock(mutex) == 0; }
static inline void lk_unlock(lk_mutex *mutex) { pthread_mutex_unlock(mutex); }

typedef pthread_cond_t lk_condition_variable;
#define LK_CONDITION_VARIABLE PTHREAD_COND_INITIALIZER
static inline void lk_init_condition_variable(lk_condition_variable *place) { pthread_cond_init(place, NULL); }
static inline void lk_sleep_at(lk_condition_variable *place, lk_mutex *mutex) { pthread_cond_wait(place, mutex); }
static inline void lk_wake_one(lk_condition_variable *place) { pthread_cond_signal(place); }
static inline void lk_wake_all(lk_condition_variable *place) { pthread_cond_broadcast(place); }

typedef pthread_once_t lk_once;
#define LK_ONCE PTHREAD_ONCE_INIT
static inline void lk_do_once(lk_once *once, void (*function)(void)) { pthread_once(once, function); }

typedef void *lk_thread_result;
typedef lk_thread_result lk_thread(void *argument);
static inline int lk_start_thread(lk_thread *function, void *argument)
{
    sigset_t all, callers;
    pthread_attr_t detached;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &callers); /* a thread inherits it */
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    const int status = pthread_create(&thread, &detached, function, argument);
    pthread_attr_destroy(&detached);
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
    return status == 0;
}

static inline void lk_give_way(void) { sched_yield(); }
static inline void lk_sleep_ns(int64_t ns)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (int)(ns % 1000000000)}, NULL);
}

static inline void lk_in_child_of_fork(void (*function)(void)) { pthread_atfork(NULL, NULL, function); }

static inline void lk_cache_sizes(int64_t *own, int64_t *shared)
{
    *own = *shared = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE /* not with musl, nor on macOS */
    *own = sysconf(_SC_LEVEL2_CACHE_SIZE), *shared = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
}

#endif
