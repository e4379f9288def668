/* vec/generic.h - the vector operations in the compiler's own portable vectors: 4 floats or 2 doubles.
 *
 * Runs wherever GCC or Clang do, and documents what every vec/<isa>.h provides:
 *   real, vec, LANES   the dtype (LK_F32 defined: float, else double), a vector of it, and its length
 *   TILE_ROWS          most rows of a register tile (rows x 4 gates accumulators must fit the registers)
 *   TILE_PANELS        blocks of units that a single row takes at once, to have enough independent accumulators
 * Every operation is exact or rounds once, to nearest, so that all instruction sets give the same bits. Only this file
 * may lack fma: there v_fma and v_fnma round twice (builds pass -ffp-contract=off, so they do so everywhere alike). */
#ifndef LK_VEC_H
#define LK_VEC_H
#include "vec/target.h"

enum { TILE_ROWS = 3, TILE_PANELS = 2 };

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
typedef word vec_word __attribute__((vector_size(16))); /* unsigned: what the bits of a NaN add up to may wrap */

INLINE vec v_load(const real *p)
{
    vec a;
    memcpy(&a, p, sizeof a);
    return a;
}
INLINE void v_store(real *p, vec a) { memcpy(p, &a, sizeof a); }
INLINE vec v_splat(real a) { return a - (vec){0}; } /* not +: -0 stays -0 */
INLINE vec v_add(vec a, vec b) { return a + b; }
INLINE vec v_sub(vec a, vec b) { return a - b; }
INLINE vec v_mul(vec a, vec b) { return a * b; }
INLINE vec v_div(vec a, vec b) { return a / b; }
INLINE vec v_fma(vec a, vec b, vec c) { return a * b + c; }
INLINE vec v_fnma(vec a, vec b, vec c) { return c - a * b; }
INLINE vec v_select(vec_word mask, vec a, vec b)
{
    return (vec)((mask & (vec_word)a) | (~mask & (vec_word)b));
}
/* The lesser or greater of each pair of lanes; b where either is NaN or both are zero, as x86 has it. */
INLINE vec v_min(vec a, vec b) { return v_select((vec_word)(a < b), a, b); }
INLINE vec v_max(vec a, vec b) { return v_select((vec_word)(a > b), a, b); }
/* a, but 0 where x < least, which a NaN is not. */
INLINE vec v_zero_below(vec a, vec x, vec least) { return (vec)((vec_word)a & ~(vec_word)(x < least)); }
/* The magnitude of a, the sign of the other. */
INLINE vec v_copysign(vec a, vec sign) { return v_select((vec_word)v_splat(-(real)0.0), sign, a); }
/* 2^n, where shifted = n + 1.5 * 2^MANTISSA_BITS + the exponent's bias: adding that constant rounded some number to the
 * integer n, and the biased exponent of 2^n now lies in the lowest bits of the mantissa, one shift away from its place. */
INLINE vec v_pow2(vec shifted) { return (vec)((vec_word)shifted << MANTISSA_BITS); }

#include "vec/tail.h"

#endif
