/* vec/generic.h - the vector operations in the compiler's own portable vectors: 4 floats or 2 doubles.
 *
 * This file runs wherever GCC or Clang do. It also describes every other vec/<isa>.h: all of them take the same
 * parameter and provide the same names.
 *
 * Parameter, defined before the file is included
 *   LK_F32       for float; without it, double
 *
 * Provided, for each dtype
 *   real, vec, LANES   the dtype, a vector of it, and its length
 *   TILE_ROWS    most rows of a register tile, at most MOST_TILE_ROWS: rows * 4 sums must fit the registers
 *   TILE_BLOCKS  blocks that a single row takes at once, 1 or 2, to have enough sums that do not wait for each other
 *   v_load_half  LANES numbers from as many 16-bit floats (IEEE 754 binary16), for float alone. All numbers are exact,
 *                denormal ones too, whatever the control word says of denormals. Not here: these operations would take
 *                longer than to load numbers of twice the size
 *   v_load ... v_pow2 (below), v_load_n, v_store_n (vec/tail.h, or their own), v_rotate, v_transpose4 (vec/shuffle.h)
 *
 * Every operation is exact or rounds once, to nearest, so that all instruction sets give the same bits. Only this file
 * may lack fma: here v_fma and v_fnma round twice (builds pass -ffp-contract=off, so they do so everywhere alike), but
 * not in tables for 8-bit weights.
 * tests/c/vector_operations.c compares each of them with scalar code. */
#ifndef LK_VEC_H
#define LK_VEC_H
#include "vec/target.h"

enum { TILE_ROWS = 3, TILE_BLOCKS = 2 };

#ifdef LK_F32
typedef float real;
typedef uint32_t word;
enum { LANES = 4, MANTISSA_BITS = 23 };
#else
typedef double real;
typedef uint64_t word;
enum { LANES = 2, MANTISSA_BITS = 52 };
#endif
typedef real vec __attribute__((vector_size(16)));
typedef word vec_word __attribute__((vector_size(16))); /* unsigned, because v_pow2 shifts bits out at the top */

INLINE vec v_load(const real *p)
{
    vec a;
    memcpy(&a, p, sizeof a);
    return a;
}
INLINE void v_store(real *p, vec a) { memcpy(p, &a, sizeof a); }
INLINE vec v_splat(real a) { return a - (vec){0}; } /* with +, -0 would become 0 */
INLINE vec v_add(vec a, vec b) { return a + b; }
INLINE vec v_sub(vec a, vec b) { return a - b; }
INLINE vec v_mul(vec a, vec b) { return a * b; }
INLINE vec v_div(vec a, vec b) { return a / b; }
/* a b + c, and c - a b. With 8-bit weights they round once, as everywhere else: sums of integers are most of the work. */
#ifdef LK_I8
#ifdef _WIN32
/* The one of mingw-w64's library rounds twice. Here the product is exact in double. A sum that is not exact becomes its
 * neighbour whose last bit is 1 (round to odd); so the rounding to float is as if there were no other. */
INLINE float fma_of(float a, float b, float c)
{
    const double product = (double)a * b, sum = product + c, added = sum - product;
    const double rest = (product - (sum - added)) + (c - added); /* what the sum lacks; NaN by infinities */
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if ((rest < 0 || rest > 0) && !(bits & 1))
        bits += (rest > 0) == (sum > 0) ? 1 : -1;
    double odd;
    memcpy(&odd, &bits, sizeof odd);
    return (float)odd;
}
#else
#define fma_of __builtin_fmaf
#endif
SEPARATE vec v_fma(vec a, vec b, vec c)
{
    for (int lane = 0; lane < LANES; lane++)
        c[lane] = fma_of(a[lane], b[lane], c[lane]);
    return c;
}
INLINE vec v_fnma(vec a, vec b, vec c) { return v_fma(-a, b, c); }
#else
INLINE vec v_fma(vec a, vec b, vec c) { return a * b + c; }
INLINE vec v_fnma(vec a, vec b, vec c) { return c - a * b; }
#endif
INLINE vec v_select(vec_word mask, vec a, vec b) { return (vec)((mask & (vec_word)a) | (~mask & (vec_word)b)); }
/* The lesser or greater of each pair of lanes; b where either is NaN or both are zero, as x86 has it. */
INLINE vec v_min(vec a, vec b) { return v_select((vec_word)(a < b), a, b); }
INLINE vec v_max(vec a, vec b) { return v_select((vec_word)(a > b), a, b); }
/* a, but 0 where x < least. NaN is not less than anything. */
INLINE vec v_zero_below(vec a, vec x, vec least) { return (vec)((vec_word)a & ~(vec_word)(x < least)); }
/* The magnitude of a, the sign of `sign`; also of NaN. */
INLINE vec v_copysign(vec a, vec sign) { return v_select((vec_word)v_splat(-(real)0.0), sign, a); }
/* 2^n, from n + 1.5 * 2^MANTISSA_BITS + the exponent's bias, where 2^n is a normal number. Adding that constant has
 * rounded a number to the integer n. Now the lowest bits of the mantissa are the biased exponent of 2^n, and a shift
 * brings them to its place. */
INLINE vec v_pow2(vec shifted) { return (vec)((vec_word)shifted << MANTISSA_BITS); }

#include "vec/tail.h"
#include "vec/shuffle.h"

#endif
