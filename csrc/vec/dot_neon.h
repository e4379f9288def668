/* vec/dot_neon.h - the operations on integers for 8-bit weights, on AArch64 NEON; vec/dot_generic.h documents them.
 *
 * With LK_DOTPROD, sdot multiplies signed bytes, 16 products at once. An activation of 16 bits is 256 times its high byte
 * plus its low byte; the low byte, from 0 to 255, gets 128 taken away, which first_sum gives back.
 * Without it, the products of bytes, or of words, are added in pairs. */
#ifndef LK_DOT_H
#define LK_DOT_H
#include "vec/dot_options.h"
#include "vec/neon.h"

#ifdef LK_DOTPROD
LK_TARGET_BEGIN(LK_NEON_DOTPROD)
#endif

typedef int32x4_t ivec;

INLINE ivec i_zero(void) { return vdupq_n_s32(0); }
INLINE vec i_float(ivec a) { return vcvtq_f32_s32(a); }
INLINE ivec i_magnitude(ivec largest, vec x)
{
    return vmaxq_s32(largest, vandq_s32(vreinterpretq_s32_f32(x), vdupq_n_s32(INT32_MAX)));
}
INLINE int32_t i_largest(ivec a) { return vmaxvq_s32(a); }
INLINE int16x4_t as_words(vec x) { return vqmovn_s32(vcvtnq_s32_f32(x)); }
INLINE int8x16_t load_bytes(const void *p) { return vld1q_s8(p); }

#ifdef LK_DOTPROD

enum { PLANES = LK_I8 / 8, DOT_ROWS = 6 / PLANES };
typedef int8x16_t ready, group4;

INLINE int64_t activation_bytes(int64_t inputs) { return inputs * PLANES; }
INLINE void put_bytes(uint8_t *to, int16x4_t words)
{
    const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
    vst1_lane_s32((int32_t *)(void *)to, vreinterpret_s32_s8(bytes), 0);
}
/* The plane of the high bytes, then that of the low ones. */
INLINE void put_activations(uint8_t *row, int64_t k, int64_t inputs, vec x)
{
    const int16x4_t words = as_words(x);
    if (LK_I8 == 8) {
        put_bytes(row + k, words);
        return;
    }
    put_bytes(row + k, vshr_n_s16(words, 8));
    put_bytes(row + inputs + k, vsub_s16(vand_s16(words, vdup_n_s16(0xff)), vdup_n_s16(128)));
}
INLINE group4 load_group(const uint8_t *row, int64_t group, int64_t inputs, int plane)
{
    int32_t word;
    memcpy(&word, row + plane * inputs + 4 * group, sizeof word);
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
}
INLINE ready load_weights(const uint32_t *w) { return load_bytes(w); }
/* Not vdotq_s32: Clang declares it only where all of the build is for CPUs that have it. */
INLINE ivec i_dot(ivec sum, ready w, group4 x)
{
    __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(w), "w"(x));
    return sum;
}
INLINE ivec first_sum(const int32_t *offset, int plane) { return plane ? vnegq_s32(vld1q_s32(offset)) : i_zero(); }
INLINE ivec whole_sum(const ivec *sums, int stride)
{
    return LK_I8 == 16 ? vaddq_s32(vshlq_n_s32(sums[0], 8), sums[stride]) : sums[0];
}

#else

enum { PLANES = 1, DOT_ROWS = 4 };
/* 16 bits each: weights of lanes 0 and 1, then of lanes 2 and 3; the activations twice. */
typedef struct {
    int16x8_t low, high;
} ready;
typedef int16x8_t group4;

INLINE int64_t activation_bytes(int64_t inputs) { return 2 * inputs; }
INLINE void put_activations(uint8_t *row, int64_t k, int64_t inputs, vec x)
{
    (void)inputs;
    vst1_s16((int16_t *)(void *)(row + activation_bytes(k)), as_words(x));
}
INLINE group4 load_group(const uint8_t *row, int64_t group, int64_t inputs, int plane)
{
    (void)inputs, (void)plane;
    const int16x4_t x = vld1_s16((const int16_t *)(const void *)(row + activation_bytes(4 * group)));
    return vcombine_s16(x, x);
}
INLINE ready load_weights(const uint32_t *w)
{
    const int8x16_t bytes = load_bytes(w);
    return (ready){vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)};
}
/* Each lane's four products, in two pairs. */
INLINE int32x4_t pairs(int16x8_t w, group4 x)
{
    return vpaddq_s32(vmull_s16(vget_low_s16(w), vget_low_s16(x)), vmull_high_s16(w, x));
}
INLINE ivec i_dot(ivec sum, ready w, group4 x) { return vaddq_s32(sum, vpaddq_s32(pairs(w.low, x), pairs(w.high, x))); }
INLINE ivec first_sum(const int32_t *offset, int plane)
{
    (void)offset, (void)plane;
    return i_zero();
}
INLINE ivec whole_sum(const ivec *sums, int stride)
{
    (void)stride;
    return sums[0];
}

#endif
#ifdef LK_DOTPROD
LK_TARGET_END
#endif

#endif
