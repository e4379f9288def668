/* emulated_avx512.h - included before everything else where AVX-512 is emulated: its intrinsics become SIMDe's portable
 * functions, and target regions become empty, so that the compiler itself cannot use what this CPU lacks. */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#define LK_TARGET_BEGIN(features)
#define LK_TARGET_END

/* SIMDe widens 8 numbers of 16 bits at a time, exactly with the F16C of the host. */
static inline simde__m512 widened_halves(simde__m256i halves)
{
    simde__m128i two[2];
    simde__m256 wide[2];
    simde__m512 all;
    memcpy(two, &halves, sizeof two);
    for (int n = 0; n < 2; n++)
        wide[n] = simde_mm256_cvtph_ps(two[n]);
    memcpy(&all, wide, sizeof all);
    return all;
}
#define _mm512_cvtph_ps(halves) widened_halves(halves)

/* SIMDe has no masked loads and stores of unaligned memory. */
#define EMULATED(type, real, p, lanes)                            \
    static inline type load_##p(unsigned mask, const real *from)  \
    {                                                             \
        real all[lanes] = {0};                                    \
        for (int lane = 0; lane < lanes; lane++)                  \
            if (mask >> lane & 1)                                 \
                all[lane] = from[lane];                           \
        return simde_mm512_loadu_##p(all);                        \
    }                                                             \
    static inline void store_##p(real *to, unsigned mask, type a) \
    {                                                             \
        real all[lanes];                                          \
        simde_mm512_storeu_##p(all, a);                           \
        for (int lane = 0; lane < lanes; lane++)                  \
            if (mask >> lane & 1)                                 \
                to[lane] = all[lane];                             \
    }
EMULATED(simde__m512, float, ps, 16)
EMULATED(simde__m512d, double, pd, 8)
#define _mm512_maskz_loadu_ps load_ps
#define _mm512_maskz_loadu_pd load_pd
#define _mm512_mask_storeu_ps(to, mask, a) store_ps(to, mask, a)
#define _mm512_mask_storeu_pd(to, mask, a) store_pd(to, mask, a)
