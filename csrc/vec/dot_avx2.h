/* vec/dot_avx2.h - the operations on integers for 8-bit weights, on AVX2; vec/dot_generic.h documents them.
 *
 * With LK_VNNI, as vec/dot_avx512.h does it. Without, for activations of 16 bits, weights are widened to 16 bits once for
 * all rows, and vpmaddwd multiplies 16 pairs of them. For activations of 8 bits, vpmaddubsw multiplies their magnitudes by
 * weights that got their signs: the sum of two products is at most 2 * 127 * 127, which 16 bits hold. */
#ifndef LK_DOT_H
#define LK_DOT_H
#include "vec/dot_options.h"
#include "vec/avx2.h"

#ifdef LK_VNNI
LK_TARGET_BEGIN(LK_AVX2_VNNI)
#else
LK_TARGET_BEGIN(LK_AVX2_DOT)
#endif

typedef __m256i ivec;

INLINE ivec i_zero(void) { return _mm256_setzero_si256(); }
INLINE vec i_float(ivec a) { return _mm256_cvtepi32_ps(a); }
INLINE ivec i_magnitude(ivec largest, vec x)
{
    return _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(INT32_MAX)));
}
INLINE int32_t i_largest(ivec a)
{
    __m128i b = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(b, _mm_shuffle_epi32(b, 0xb1)));
}
INLINE ivec load_vector(const void *p) { return _mm256_loadu_si256(p); }
/* 4 bytes of a row, in all lanes. */
INLINE ivec splat_bytes(const uint8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
}
/* 8 integers as 16 bits each, saturated, in their order. */
INLINE __m128i as_words(ivec a) { return _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)); }

#ifdef LK_VNNI

#ifndef LK_VEX /* tests/c/compare_bits.sh takes AVX-512's form where the CPU lacks this one */
#define LK_VEX "%{vex%}"
#endif
enum { PLANES = LK_I8 / 8, DOT_ROWS = PLANES == 2 ? 1 : 3 };
typedef ivec ready, group4;

INLINE int64_t activation_bytes(int64_t inputs) { return inputs * PLANES; }
/* The plane of the high bytes, then that of the low ones. */
INLINE void put_activations(uint8_t *row, int64_t k, int64_t inputs, vec x)
{
    const __m128i words = as_words(_mm256_cvtps_epi32(x)), bytes = _mm_set1_epi16(0xff);
    if (LK_I8 == 8) {
        const __m128i unsigned_x = _mm_and_si128(_mm_add_epi16(words, _mm_set1_epi16(128)), bytes);
        _mm_storel_epi64((__m128i *)(void *)(row + k), _mm_packus_epi16(unsigned_x, unsigned_x));
        return;
    }
    const __m128i unsigned_x = _mm_xor_si128(words, _mm_set1_epi16(INT16_MIN));
    const __m128i planes = _mm_packus_epi16(_mm_srli_epi16(unsigned_x, 8), _mm_and_si128(unsigned_x, bytes));
    _mm_storel_epi64((__m128i *)(void *)(row + k), planes);
    _mm_storel_epi64((__m128i *)(void *)(row + inputs + k), _mm_unpackhi_epi64(planes, planes));
}
INLINE group4 load_group(const uint8_t *row, int64_t group, int64_t inputs, int plane)
{
    return splat_bytes(row + plane * inputs + 4 * group);
}
INLINE ready load_weights(const uint32_t *w) { return load_vector(w); }
/* Not _mm256_dpbusd_avx_epi32: GCC 12 then copies every sum before and after it. */
INLINE ivec i_dot(ivec sum, ready w, group4 x)
{
    __asm__(LK_VEX " vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
    return sum;
}
INLINE ivec first_sum(const int32_t *offset, int plane) { return plane ? i_zero() : load_vector(offset); }
INLINE ivec whole_sum(const ivec *sums, int stride)
{
    return LK_I8 == 16 ? _mm256_add_epi32(_mm256_slli_epi32(sums[0], 8), sums[stride]) : sums[0];
}

#else

enum { PLANES = 1 };

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

#if LK_I8 == 16

enum { DOT_ROWS = 2 };
/* Weights 0 and 2 of each lane, then 1 and 3; activations likewise. */
typedef struct {
    ivec even, odd;
} ready, group4;

INLINE int64_t activation_bytes(int64_t inputs) { return 2 * inputs; }
/* In the order 0 2 1 3 of each group. */
INLINE void put_activations(uint8_t *row, int64_t k, int64_t inputs, vec x)
{
    (void)inputs;
    const ivec ordered = _mm256_shuffle_epi32(_mm256_cvtps_epi32(x), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)(row + activation_bytes(k)), as_words(ordered));
}
INLINE group4 load_group(const uint8_t *row, int64_t group, int64_t inputs, int plane)
{
    (void)inputs, (void)plane;
    return (group4){splat_bytes(row + activation_bytes(4 * group)), splat_bytes(row + activation_bytes(4 * group + 2))};
}
INLINE ready load_weights(const uint32_t *w)
{
    const ivec bytes = load_vector(w);
    return (ready){_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8)};
}
INLINE ivec i_dot(ivec sum, ready w, group4 x)
{
    return _mm256_add_epi32(_mm256_add_epi32(sum, _mm256_madd_epi16(w.even, x.even)), _mm256_madd_epi16(w.odd, x.odd));
}

#else

enum { DOT_ROWS = 2 };
typedef ivec ready;
typedef struct {
    ivec magnitude, sign;
} group4;

INLINE int64_t activation_bytes(int64_t inputs) { return inputs; }
INLINE void put_activations(uint8_t *row, int64_t k, int64_t inputs, vec x)
{
    (void)inputs;
    const __m128i words = as_words(_mm256_cvtps_epi32(x));
    _mm_storel_epi64((__m128i *)(void *)(row + k), _mm_packs_epi16(words, words));
}
INLINE group4 load_group(const uint8_t *row, int64_t group, int64_t inputs, int plane)
{
    (void)inputs, (void)plane;
    const ivec x = splat_bytes(row + 4 * group);
    return (group4){_mm256_abs_epi8(x), x};
}
INLINE ready load_weights(const uint32_t *w) { return load_vector(w); }
INLINE ivec i_dot(ivec sum, ready w, group4 x)
{
    const ivec pairs = _mm256_maddubs_epi16(x.magnitude, _mm256_sign_epi8(w, x.sign));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#endif
#endif
LK_TARGET_END

#endif
