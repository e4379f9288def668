/* system.h - what tests ask of the operating system: threads that are waited for, and memory that nothing follows. */
#ifndef TESTS_SYSTEM_H
#define TESTS_SYSTEM_H
#include <stdlib.h>
#include "run/system.h"

enum { MOST_TEST_THREADS = 8 };

#ifdef _WIN32
#undef near
#undef far

/* Run function(arguments[n]) on a thread for each n below `count`, and wait for all of them. */
static inline void on_threads(int count, lk_thread *function, void *const *arguments)
{
    HANDLE threads[MOST_TEST_THREADS];
    for (int n = 0; n < count; n++)
        if (!(threads[n] = (HANDLE)_beginthreadex(NULL, 0, function, arguments[n], 0, NULL)))
            abort();
    for (int n = 0; n < count; n++)
        WaitForSingleObject(threads[n], INFINITE);
}

/* A page, and one after it that cannot be touched. Returns where the first one ends. */
static inline char *end_of_memory(void)
{
    SYSTEM_INFO system;
    DWORD before;
    GetSystemInfo(&system);
    char *pages = VirtualAlloc(NULL, 2 * system.dwPageSize, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    if (!pages || !VirtualProtect(pages + system.dwPageSize, system.dwPageSize, PAGE_NOACCESS, &before))
        abort();
    return pages + system.dwPageSize;
}
#else
#include <sys/mman.h>

static inline void on_threads(int count, lk_thread *function, void *const *arguments)
{
    pthread_t threads[MOST_TEST_THREADS];
    for (int n = 0; n < count; n++)
        if (pthread_create(&threads[n], NULL, function, arguments[n]) != 0)
            abort();
    for (int n = 0; n < count; n++)
        pthread_join(threads[n], NULL);
}

static inline char *end_of_memory(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) != 0)
        abort();
    return pages + page;
}
#endif

#endif
