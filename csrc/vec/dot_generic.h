/* vec/dot_generic.h - the operations on integers for 8-bit weights, in portable C; they come after a vec/<isa>.h.
 *
 * This file also describes every other vec/dot_<isa>.h: all of them take the same parameter and provide the same names.
 *
 * Parameter, defined before the file is included
 *   LK_I8        bits of an activation: 16 or 8
 *
 * Weights are signed bytes from -127 to 127. An activation is an integer from -LEVELS to LEVELS. Four neighbours along K
 * are a group: 4 weights of each of LANES rows of the matrix are one vector of bytes, and 4 activations are broadcast to
 * all lanes. Every lane sums 4 products at once, in 32 bits. All sums are exact, so their order does not matter.
 *
 * Provided
 *   DOT_ROWS     most rows of a register tile, at most MOST_TILE_ROWS / PLANES
 *   PLANES       sums that make one: an instruction set may multiply the high and the low byte of an activation apart
 *   ivec         LANES 32-bit integers
 *   ready        the weights of a group, in the form that all rows multiply
 *   group4       4 activations of one row, in all lanes
 *   the functions below
 *
 * tests/c/compare_bits.sh holds all sets against each other, tests/network/test_int8.py against NumPy. */
#ifndef LK_DOT_H
#define LK_DOT_H
#include "vec/dot_options.h"
#include "vec/generic.h"

enum { DOT_ROWS = 3, PLANES = 1 };

typedef int32_t ivec __attribute__((vector_size(16)));
typedef struct {
    ivec of[4];
} ready, group4;

INLINE ivec i_zero(void) { return (ivec){0}; }
INLINE vec i_float(ivec a)
{
    vec b = v_splat(0);
    for (int lane = 0; lane < LANES; lane++)
        b[lane] = (real)a[lane];
    return b;
}

/* The larger of `largest` and the bits of |x|. As integers, numbers have their order, infinity is above them, and NaN
 * above infinity. */
INLINE ivec i_magnitude(ivec largest, vec x)
{
    const ivec magnitude = (ivec)x & INT32_MAX, greater = magnitude > largest;
    return (greater & magnitude) | (~greater & largest);
}
/* The largest lane. */
INLINE int32_t i_largest(ivec a)
{
    int32_t largest = a[0];
    for (int lane = 1; lane < LANES; lane++)
        largest = a[lane] > largest ? a[lane] : largest;
    return largest;
}

/* How many bytes the activations of a row take, where they are a multiple of LANES: `inputs`. */
INLINE int64_t activation_bytes(int64_t inputs) { return inputs * (LK_I8 / 8); }

/* Round x to integers, ties to even, and put them to places k .. k + LANES - 1 of a row of `inputs`. |x| is at most LEVELS
 * and a half. What becomes of NaN is not defined. */
INLINE void put_activations(uint8_t *row, int64_t k, int64_t inputs, vec x)
{
    (void)inputs;
    const real shift = 0x1.8p23f; /* adding it rounds to an integer */
    const vec shifted = v_add(x, v_splat(shift));
    const ivec rounded = ((ivec)shifted << 9) >> 9; /* the lowest bits of the mantissa, with their sign */
    for (int lane = 0; lane < LANES; lane++) {
#if LK_I8 == 16
        const int16_t a = (int16_t)rounded[lane];
#else
        const int8_t a = (int8_t)rounded[lane];
#endif
        memcpy(row + (k + lane) * (int64_t)sizeof a, &a, sizeof a);
    }
}

/* Activations 4 group .. 4 group + 3 of a row of `inputs`, as `plane` has them. */
INLINE group4 load_group(const uint8_t *row, int64_t group, int64_t inputs, int plane)
{
    (void)inputs, (void)plane;
    group4 g;
    for (int j = 0; j < 4; j++) {
#if LK_I8 == 16
        int16_t a;
#else
        int8_t a;
#endif
        memcpy(&a, row + (4 * group + j) * (int64_t)sizeof a, sizeof a);
        g.of[j] = (ivec){a, a, a, a};
    }
    return g;
}

/* 4 weights of each lane: lane l has w[4 l] .. w[4 l + 3]. */
INLINE ready load_weights(const uint32_t *w)
{
    const int8_t *byte = (const int8_t *)w;
    ready r;
    for (int j = 0; j < 4; j++)
        r.of[j] = (ivec){byte[j], byte[4 + j], byte[8 + j], byte[12 + j]};
    return r;
}

/* sum + the four products of each lane. */
INLINE ivec i_dot(ivec sum, ready w, group4 x)
{
    for (int j = 0; j < 4; j++)
        sum += w.of[j] * x.of[j];
    return sum;
}

/* A sum before the first group. offset: of each lane, -128 times the sum of the weights of the groups to come. */
INLINE ivec first_sum(const int32_t *offset, int plane)
{
    (void)offset, (void)plane;
    return i_zero();
}
/* The sum of the planes' sums. `stride`: from one to the next. */
INLINE ivec whole_sum(const ivec *sums, int stride)
{
    (void)stride;
    return sums[0];
}

#endif
