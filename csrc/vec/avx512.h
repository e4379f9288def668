/* vec/avx512.h - the vector operations on AVX-512F: 16 floats or 8 doubles, 32 registers.
 * vec/generic.h documents each operation. */
#ifndef LK_VEC_H
#define LK_VEC_H
#include <immintrin.h>
#include "vec/target.h"

/* 6 rows x 4 gates are 24 sums; with 6 broadcasts and a weight, these are 31 of 32 registers. */
enum { TILE_ROWS = 6, TILE_BLOCKS = 1 };

LK_TARGET_BEGIN("avx512f")
#ifdef LK_F32

typedef float real;
typedef __m512 vec;
enum { LANES = 16 };

INLINE __mmask16 first_lanes(int64_t n) { return n >= LANES ? 0xffff : (__mmask16)((1u << n) - 1); }
INLINE vec v_load_n(const real *p, int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
INLINE void v_store_n(real *p, vec a, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), a); }
INLINE vec v_load(const real *p) { return _mm512_loadu_ps(p); }
INLINE vec v_load_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
INLINE void v_store(real *p, vec a) { _mm512_storeu_ps(p, a); }
INLINE vec v_splat(real a) { return _mm512_set1_ps(a); }
INLINE vec v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
INLINE vec v_div(vec a, vec b) { return _mm512_div_ps(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec v_fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
INLINE vec v_min(vec a, vec b) { return _mm512_min_ps(a, b); }
INLINE vec v_max(vec a, vec b) { return _mm512_max_ps(a, b); }
INLINE vec v_zero_below(vec a, vec x, vec least)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, least, _CMP_NLT_UQ), a);
}
INLINE vec v_copysign(vec a, vec sign)
{
    const __m512i bit = _mm512_castps_si512(v_splat(-0.0f));
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(bit, _mm512_castps_si512(a), _mm512_castps_si512(sign), 0xac));
}
INLINE vec v_pow2(vec shifted) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(shifted), 23)); }

#else

typedef double real;
typedef __m512d vec;
enum { LANES = 8 };

INLINE __mmask8 first_lanes(int64_t n) { return n >= LANES ? 0xff : (__mmask8)((1u << n) - 1); }
INLINE vec v_load_n(const real *p, int64_t n) { return _mm512_maskz_loadu_pd(first_lanes(n), p); }
INLINE void v_store_n(real *p, vec a, int64_t n) { _mm512_mask_storeu_pd(p, first_lanes(n), a); }
INLINE vec v_load(const real *p) { return _mm512_loadu_pd(p); }
INLINE void v_store(real *p, vec a) { _mm512_storeu_pd(p, a); }
INLINE vec v_splat(real a) { return _mm512_set1_pd(a); }
INLINE vec v_add(vec a, vec b) { return _mm512_add_pd(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm512_sub_pd(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm512_mul_pd(a, b); }
INLINE vec v_div(vec a, vec b) { return _mm512_div_pd(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_pd(a, b, c); }
INLINE vec v_fnma(vec a, vec b, vec c) { return _mm512_fnmadd_pd(a, b, c); }
INLINE vec v_min(vec a, vec b) { return _mm512_min_pd(a, b); }
INLINE vec v_max(vec a, vec b) { return _mm512_max_pd(a, b); }
INLINE vec v_zero_below(vec a, vec x, vec least)
{
    return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x, least, _CMP_NLT_UQ), a);
}
INLINE vec v_copysign(vec a, vec sign)
{
    const __m512i bit = _mm512_castpd_si512(v_splat(-0.0));
    return _mm512_castsi512_pd(_mm512_ternarylogic_epi64(bit, _mm512_castpd_si512(a), _mm512_castpd_si512(sign), 0xac));
}
INLINE vec v_pow2(vec shifted) { return _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(shifted), 52)); }

#endif
#include "vec/shuffle.h"
LK_TARGET_END

#endif
