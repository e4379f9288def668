/* system_windows.h - system.h on Windows, from what every Windows has since version 7. Nothing comes from winpthreads, so
 * that the library needs no other one beside it. */
#ifndef LK_SYSTEM_WINDOWS_H
#define LK_SYSTEM_WINDOWS_H
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#include <process.h>
#include <stdint.h>

typedef SRWLOCK lk_mutex;
#define LK_MUTEX SRWLOCK_INIT
static inline void lk_init_mutex(lk_mutex *mutex) { InitializeSRWLock(mutex); }
static inline void lk_lock(lk_mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static inline int lk_try_lock(lk_mutex *mutex) { return TryAcquireSRWLockExclusive(mutex) != 0; }
static inline void lk_unlock(lk_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }

typedef CONDITION_VARIABLE lk_condition_variable;
#define LK_CONDITION_VARIABLE CONDITION_VARIABLE_INIT
static inline void lk_init_condition_variable(lk_condition_variable *place) { InitializeConditionVariable(place); }
static inline void lk_sleep_at(lk_condition_variable *place, lk_mutex *mutex)
{
    SleepConditionVariableSRW(place, mutex, INFINITE, 0);
}
static inline void lk_wake_one(lk_condition_variable *place) { WakeConditionVariable(place); }
static inline void lk_wake_all(lk_condition_variable *place) { WakeAllConditionVariable(place); }

typedef INIT_ONCE lk_once;
#define LK_ONCE INIT_ONCE_STATIC_INIT
static inline void lk_do_once(lk_once *once, void (*function)(void))
{
    BOOL is_first = FALSE;
    InitOnceBeginInitialize(once, 0, &is_first, NULL);
    if (!is_first)
        return;
    function();
    InitOnceComplete(once, 0, NULL);
}

typedef unsigned lk_thread_result;
typedef lk_thread_result __stdcall lk_thread(void *argument); /* the only convention that 64 bits have */
static inline int lk_start_thread(lk_thread *function, void *argument)
{
    const uintptr_t thread = _beginthreadex(NULL, 0, function, argument, 0, NULL);
    if (thread)
        CloseHandle((HANDLE)thread); /* it runs on */
    return thread != 0;
}

static inline void lk_give_way(void) { SwitchToThread(); }
/* Windows counts milliseconds. */
static inline void lk_sleep_ns(int64_t ns) { Sleep((DWORD)((ns + 999999) / 1000000)); }

static inline void lk_in_child_of_fork(void (*function)(void)) { (void)function; }

static inline void lk_cache_sizes(int64_t *own, int64_t *shared)
{
    SYSTEM_LOGICAL_PROCESSOR_INFORMATION found[512]; /* at most 64 cores, which are a group, have so many things */
    DWORD bytes = sizeof found;
    *own = *shared = 0;
    if (!GetLogicalProcessorInformation(found, &bytes))
        return;
    for (DWORD n = bytes / sizeof found[0]; n-- > 0;) { /* so that the first core counts, where they differ */
        const CACHE_DESCRIPTOR *cache = &found[n].Cache;
        if (found[n].Relationship == RelationCache && cache->Level == 2)
            *own = cache->Size;
        if (found[n].Relationship == RelationCache && cache->Level == 3)
            *shared = cache->Size;
    }
}

#endif
