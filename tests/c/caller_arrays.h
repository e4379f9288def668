/* caller_arrays.h - arrays as callers have them: elements [T][B][width] with strides, in memory that ends with the last of
 * them. What lies between is NaN: read, it shows in the result; written, it is found. */
#ifndef TESTS_CALLER_ARRAYS_H
#define TESTS_CALLER_ARRAYS_H
#include <math.h>
#include "network.h"

typedef struct {
    int64_t T, B, width, step, row, itemsize;
    void *memory;
} window;

static inline int64_t reals_of(const window *w)
{
    return w->T && w->B ? (w->T - 1) * w->step + (w->B - 1) * w->row + w->width : 0;
}

/* `gap` elements between rows; batch_first 1: [B][T][width] seen as [T][B][width]. */
static inline window open_window(int64_t T, int64_t B, int64_t width, int64_t gap, int batch_first, int64_t itemsize)
{
    const int64_t near = width + gap, far = (batch_first ? T : B) * near + gap;
    window w = {T, B, width, batch_first ? near : far, batch_first ? far : near, itemsize, NULL};
    w.memory = take(reals_of(&w), itemsize);
    memset(w.memory, 0xff, (size_t)(reals_of(&w) * itemsize));
    return w;
}

static inline int64_t place_in(const window *w, int64_t n)
{
    return n / w->width / w->B * w->step + n / w->width % w->B * w->row + n % w->width;
}

static inline void fill_window(window *w, const double *numbers)
{
    for (int64_t n = 0; n < w->T * w->B * w->width; n++)
        put(w->memory, place_in(w, n), numbers[n], w->itemsize);
}

static inline void fail(const char *what, int64_t place, double got, double expected)
{
    fprintf(stderr, "%s [%d]: %.9g, expected %.9g\n", what, (int)place, got, expected);
    exit(1);
}

/* Every element within the promise for its dtype, and nothing written between; then the memory is freed. */
static inline void close_window(window *w, const double *expected, const char *what)
{
    const double allowed = w->itemsize == 4 ? 1e-5 : 1e-12;
    for (int64_t n = 0; n < w->T * w->B * w->width; n++) {
        const double got = get(w->memory, place_in(w, n), w->itemsize);
        if (!(fabs(got - expected[n]) <= allowed * (1 + fabs(expected[n]))))
            fail(what, n, got, expected[n]);
        memset((char *)w->memory + place_in(w, n) * w->itemsize, 0xff, (size_t)w->itemsize);
    }
    for (int64_t byte = 0; byte < reals_of(w) * w->itemsize; byte++)
        if (((unsigned char *)w->memory)[byte] != 0xff)
            fail(what, byte / w->itemsize, get(w->memory, byte / w->itemsize, w->itemsize), NAN);
    free(w->memory);
}

/* Contiguous [N][width] with content. */
static inline window filled(int64_t N, int64_t width, const double *numbers, int64_t itemsize)
{
    window w = open_window(1, N, width, 0, 0, itemsize);
    if (numbers)
        fill_window(&w, numbers);
    return w;
}

#endif
