/* system.h - what this library asks of the operating system: locks, sleep, threads, the sizes of caches. Two files define
 * the same:
 *
 *   lk_mutex               a lock. LK_MUTEX, lk_init_mutex; lk_lock, lk_unlock; lk_try_lock: whether it was free
 *   lk_condition_variable  where threads sleep. LK_CONDITION_VARIABLE, lk_init_condition_variable; lk_sleep_at: until it
 *                          is woken, or for no reason, and the mutex is open meanwhile; lk_wake_one, lk_wake_all
 *   lk_once                LK_ONCE; lk_do_once: the first caller runs the function, others wait until it is done
 *   lk_start_thread        run a function of type lk_thread on a thread that nobody joins, and that takes no signals:
 *                          those are for threads that the program made. Returns 0 if the system refuses
 *   lk_give_way            let another thread have this core, if one wants it
 *   lk_sleep_ns            sleep at least so long
 *   lk_in_child_of_fork    from now on, the function is called in each child of fork, where a system has that
 *   lk_cache_sizes         bytes of the cache of one core (level 2), and of the one that cores share (level 3); 0 where
 *                          the system does not say */
#ifndef LK_SYSTEM_H
#define LK_SYSTEM_H
#ifdef _WIN32
#include "run/system_windows.h"
#else
#include "run/system_posix.h"
#endif
#endif
