/* vec/avx2.h - the vector operations on AVX2 with FMA: 8 floats or 4 doubles, 16 registers.
 * vec/generic.h documents each operation. */
#ifndef LK_VEC_H
#define LK_VEC_H
#include <immintrin.h>
#include "vec/target.h"

/* 3 rows x 4 gates are 12 sums; with 3 broadcasts and a weight, these are all 16 registers. */
enum { TILE_ROWS = 3, TILE_BLOCKS = 2 };

LK_TARGET_BEGIN("avx2,fma,f16c")
#ifdef LK_F32

typedef float real;
typedef __m256 vec;
enum { LANES = 8 };

INLINE vec v_load(const real *p) { return _mm256_loadu_ps(p); }
INLINE vec v_load_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }
INLINE void v_store(real *p, vec a) { _mm256_storeu_ps(p, a); }
INLINE vec v_splat(real a) { return _mm256_set1_ps(a); }
INLINE vec v_add(vec a, vec b) { return _mm256_add_ps(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
INLINE vec v_div(vec a, vec b) { return _mm256_div_ps(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec v_fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
INLINE vec v_min(vec a, vec b) { return _mm256_min_ps(a, b); }
INLINE vec v_max(vec a, vec b) { return _mm256_max_ps(a, b); }
INLINE vec v_zero_below(vec a, vec x, vec least) { return _mm256_and_ps(a, _mm256_cmp_ps(x, least, _CMP_NLT_UQ)); }
INLINE vec v_copysign(vec a, vec sign)
{
    return _mm256_or_ps(_mm256_andnot_ps(v_splat(-0.0f), a), _mm256_and_ps(v_splat(-0.0f), sign));
}
INLINE vec v_pow2(vec shifted) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23)); }

#else

typedef double real;
typedef __m256d vec;
enum { LANES = 4 };

INLINE vec v_load(const real *p) { return _mm256_loadu_pd(p); }
INLINE void v_store(real *p, vec a) { _mm256_storeu_pd(p, a); }
INLINE vec v_splat(real a) { return _mm256_set1_pd(a); }
INLINE vec v_add(vec a, vec b) { return _mm256_add_pd(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm256_sub_pd(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm256_mul_pd(a, b); }
INLINE vec v_div(vec a, vec b) { return _mm256_div_pd(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_pd(a, b, c); }
INLINE vec v_fnma(vec a, vec b, vec c) { return _mm256_fnmadd_pd(a, b, c); }
INLINE vec v_min(vec a, vec b) { return _mm256_min_pd(a, b); }
INLINE vec v_max(vec a, vec b) { return _mm256_max_pd(a, b); }
INLINE vec v_zero_below(vec a, vec x, vec least) { return _mm256_and_pd(a, _mm256_cmp_pd(x, least, _CMP_NLT_UQ)); }
INLINE vec v_copysign(vec a, vec sign)
{
    return _mm256_or_pd(_mm256_andnot_pd(v_splat(-0.0), a), _mm256_and_pd(v_splat(-0.0), sign));
}
INLINE vec v_pow2(vec shifted) { return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(shifted), 52)); }

#endif
#include "vec/tail.h"
#include "vec/shuffle.h"
LK_TARGET_END

#endif
