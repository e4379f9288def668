/* vec/dot_avx512.h - the operations on integers for 8-bit weights, on AVX-512; vec/dot_generic.h documents them.
 *
 * With LK_VNNI, vpdpbusd multiplies unsigned activations by signed weights, 64 products at once. So an activation gets
 * 128 (of 8 bits) or 32768 (of 16 bits) added, which first_sum takes back: with the sum of the weights, -128 of it in the
 * plane of the high bytes. The low bytes of 16 bits are a plane of their own.
 * Without it, weights are widened to 16 bits once for all rows, and vpmaddwd multiplies 32 pairs of them. */
#ifndef LK_DOT_H
#define LK_DOT_H
#include "vec/dot_options.h"
#include "vec/avx512.h"

#ifdef LK_VNNI
LK_TARGET_BEGIN(LK_AVX512_VNNI)
#else
LK_TARGET_BEGIN(LK_AVX512_DOT)
#endif

typedef __m512i ivec;

INLINE ivec i_zero(void) { return _mm512_setzero_si512(); }
INLINE vec i_float(ivec a) { return _mm512_cvtepi32_ps(a); }
INLINE ivec i_magnitude(ivec largest, vec x)
{
    return _mm512_max_epi32(largest, _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MAX)));
}
INLINE int32_t i_largest(ivec a) { return _mm512_reduce_max_epi32(a); }
/* 4 bytes of a row, in all lanes. */
INLINE ivec splat_bytes(const uint8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
}

#ifdef LK_VNNI

enum { PLANES = LK_I8 / 8, DOT_ROWS = 6 / PLANES };
typedef ivec ready, group4;

INLINE int64_t activation_bytes(int64_t inputs) { return inputs * PLANES; }
INLINE ivec shifted_up(vec x) { return _mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(1 << (LK_I8 - 1))); }
/* The plane of the high bytes, then that of the low ones. */
INLINE void put_activations(uint8_t *row, int64_t k, int64_t inputs, vec x)
{
    const ivec unsigned_x = shifted_up(x), high = LK_I8 == 16 ? _mm512_srli_epi32(unsigned_x, 8) : unsigned_x;
    _mm512_mask_cvtepi32_storeu_epi8(row + k, 0xffff, high);
    if (LK_I8 == 16)
        _mm512_mask_cvtepi32_storeu_epi8(row + inputs + k, 0xffff, unsigned_x);
}
INLINE group4 load_group(const uint8_t *row, int64_t group, int64_t inputs, int plane)
{
    return splat_bytes(row + plane * inputs + 4 * group);
}
INLINE ready load_weights(const uint32_t *w) { return _mm512_loadu_si512(w); }
/* Not _mm512_dpbusd_epi32: GCC 12 then copies every sum before and after it. */
INLINE ivec i_dot(ivec sum, ready w, group4 x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}
INLINE ivec first_sum(const int32_t *offset, int plane) { return plane ? i_zero() : _mm512_loadu_si512(offset); }
INLINE ivec whole_sum(const ivec *sums, int stride)
{
    return LK_I8 == 16 ? _mm512_add_epi32(_mm512_slli_epi32(sums[0], 8), sums[stride]) : sums[0];
}

#else

enum { PLANES = 1, DOT_ROWS = 4 };
/* Weights 0 and 2 of each lane, then 1 and 3; activations likewise. */
typedef struct {
    ivec even, odd;
} ready, group4;

/* Activations have 16 bits, also those from -127 to 127. */
INLINE int64_t activation_bytes(int64_t inputs) { return 2 * inputs; }
/* 16 bits each, in the order 0 2 1 3 of each group. */
INLINE void put_activations(uint8_t *row, int64_t k, int64_t inputs, vec x)
{
    (void)inputs;
    const ivec ordered = _mm512_shuffle_epi32(_mm512_cvtps_epi32(x), 0xd8);
    _mm512_mask_cvtepi32_storeu_epi16(row + activation_bytes(k), 0xffff, ordered);
}
INLINE group4 load_group(const uint8_t *row, int64_t group, int64_t inputs, int plane)
{
    (void)inputs, (void)plane;
    return (group4){splat_bytes(row + activation_bytes(4 * group)), splat_bytes(row + activation_bytes(4 * group + 2))};
}
INLINE ready load_weights(const uint32_t *w)
{
    const ivec bytes = _mm512_loadu_si512(w);
    return (ready){_mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8), _mm512_srai_epi16(bytes, 8)};
}
INLINE ivec i_dot(ivec sum, ready w, group4 x)
{
    return _mm512_add_epi32(_mm512_add_epi32(sum, _mm512_madd_epi16(w.even, x.even)), _mm512_madd_epi16(w.odd, x.odd));
}
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
LK_TARGET_END

#endif
