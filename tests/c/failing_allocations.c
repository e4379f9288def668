/* An allocator that fails when it is told to, for LD_PRELOAD on Linux with the GNU C library.
 *
 * tests/network/test_failing_allocations.py compiles it, and lets every allocation of every operation fail once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

static long count, fails_at;
static int is_armed;
static pthread_t thread;

/* The n-th allocation of the calling thread fails, counted from now. */
void fail_allocation(long n)
{
    count = 0, fails_at = n, thread = pthread_self();
    __atomic_store_n(&is_armed, 1, __ATOMIC_SEQ_CST);
}

/* No more. Returns how many allocations there were. */
long fail_no_allocation(void)
{
    __atomic_store_n(&is_armed, 0, __ATOMIC_SEQ_CST);
    return count;
}

static int fails(void)
{
    if (!__atomic_load_n(&is_armed, __ATOMIC_SEQ_CST) || !pthread_equal(pthread_self(), thread))
        return 0;
    if (++count != fails_at)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *__libc_malloc(size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }

void *realloc(void *old, size_t size) { return fails() ? NULL : __libc_realloc(old, size); }

void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }

int posix_memalign(void **place, size_t alignment, size_t size)
{
    void *found = fails() ? NULL : __libc_memalign(alignment, size);
    if (found)
        *place = found;
    return found ? 0 : ENOMEM;
}

#define NEXT(type, name, ...)         \
    static type (*next)(__VA_ARGS__); \
    if (!next)                        \
    next = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

void *mmap(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
    NEXT(void *, "mmap", void *, size_t, int, int, int, off_t);
    return fails() ? MAP_FAILED : next(at, size, protection, flags, file, offset);
}

void *mmap64(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
    NEXT(void *, "mmap64", void *, size_t, int, int, int, off_t);
    return fails() ? MAP_FAILED : next(at, size, protection, flags, file, offset);
}

int pthread_create(pthread_t *made, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    NEXT(int, "pthread_create", pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return fails() ? EAGAIN : next(made, attributes, run, argument);
}
