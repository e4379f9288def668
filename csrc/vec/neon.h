/* vec/neon.h - the vector operations on AArch64 NEON: 4 floats or 2 doubles, 32 registers.
 * vec/generic.h documents each operation. */
#ifndef LK_VEC_H
#define LK_VEC_H
#include <arm_neon.h>
#include "vec/target.h"

/* 6 rows x 4 gates are 24 sums; with 6 broadcasts and a weight, these are 31 of 32 registers. */
enum { TILE_ROWS = 6, TILE_BLOCKS = 2 };

#ifdef LK_F32

typedef float real;
typedef float32x4_t vec;
enum { LANES = 4 };

INLINE vec v_load(const real *p) { return vld1q_f32(p); }
INLINE vec v_load_half(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
INLINE void v_store(real *p, vec a) { vst1q_f32(p, a); }
INLINE vec v_splat(real a) { return vdupq_n_f32(a); }
INLINE vec v_add(vec a, vec b) { return vaddq_f32(a, b); }
INLINE vec v_sub(vec a, vec b) { return vsubq_f32(a, b); }
INLINE vec v_mul(vec a, vec b) { return vmulq_f32(a, b); }
INLINE vec v_div(vec a, vec b) { return vdivq_f32(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
INLINE vec v_fnma(vec a, vec b, vec c) { return vfmsq_f32(c, a, b); }
/* Not vminq and vmaxq: they treat NaN in another way than x86, and bits must be the same. */
INLINE vec v_min(vec a, vec b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
INLINE vec v_max(vec a, vec b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
INLINE vec v_zero_below(vec a, vec x, vec least) { return vbslq_f32(vcltq_f32(x, least), v_splat(0), a); }
INLINE vec v_copysign(vec a, vec sign) { return vbslq_f32(vdupq_n_u32(1u << 31), sign, a); }
INLINE vec v_pow2(vec shifted) { return vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(shifted), 23)); }

#else

typedef double real;
typedef float64x2_t vec;
enum { LANES = 2 };

INLINE vec v_load(const real *p) { return vld1q_f64(p); }
INLINE void v_store(real *p, vec a) { vst1q_f64(p, a); }
INLINE vec v_splat(real a) { return vdupq_n_f64(a); }
INLINE vec v_add(vec a, vec b) { return vaddq_f64(a, b); }
INLINE vec v_sub(vec a, vec b) { return vsubq_f64(a, b); }
INLINE vec v_mul(vec a, vec b) { return vmulq_f64(a, b); }
INLINE vec v_div(vec a, vec b) { return vdivq_f64(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return vfmaq_f64(c, a, b); }
INLINE vec v_fnma(vec a, vec b, vec c) { return vfmsq_f64(c, a, b); }
INLINE vec v_min(vec a, vec b) { return vbslq_f64(vcltq_f64(a, b), a, b); }
INLINE vec v_max(vec a, vec b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
INLINE vec v_zero_below(vec a, vec x, vec least) { return vbslq_f64(vcltq_f64(x, least), v_splat(0), a); }
INLINE vec v_copysign(vec a, vec sign) { return vbslq_f64(vdupq_n_u64(UINT64_C(1) << 63), sign, a); }
INLINE vec v_pow2(vec shifted) { return vreinterpretq_f64_s64(vshlq_n_s64(vreinterpretq_s64_f64(shifted), 52)); }

#endif
#include "vec/tail.h"
#include "vec/shuffle.h"

#endif
