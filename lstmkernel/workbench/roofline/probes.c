/* probes.c - what one core can do at most: fused multiply-adds, and reads. probes.py compiles it for one dtype and one
 * width of vectors, with -DREAL=float -DVECTOR_BYTES=64, and takes the time. What is returned depends on all that was
 * computed, so that no compiler can leave it out. */
#include <stdint.h>

typedef REAL vec __attribute__((vector_size(VECTOR_BYTES)));

enum { LANES = VECTOR_BYTES / sizeof(REAL) };

/* Sums that do not wait for each other: 8 keep two units of 4 cycles busy, 16 four. They must fit the registers. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { FMA_CHAINS = 16 };
#else
enum { FMA_CHAINS = 12 };
#endif
enum { READ_CHAINS = 8 };

int64_t fma_chains(void) { return FMA_CHAINS; }

static REAL total(const vec *sums, int count)
{
    REAL total = 0;
    for (int i = 0; i < count; i++)
        for (int lane = 0; lane < LANES; lane++)
            total += sums[i][lane];
    return total;
}

/* steps * FMA_CHAINS vectors of sum = sum * factor + term. */
REAL fma_probe(int64_t steps, REAL factor, REAL term)
{
    vec sums[FMA_CHAINS], factors = factor - (vec){0}, terms = term - (vec){0};
    for (int i = 0; i < FMA_CHAINS; i++)
        sums[i] = terms * (REAL)i;
    for (int64_t step = 0; step < steps; step++)
#pragma GCC unroll 16
        for (int i = 0; i < FMA_CHAINS; i++)
            sums[i] = sums[i] * factors + terms;
    return total(sums, FMA_CHAINS);
}

/* `streams` is a constant at every call. */
static inline __attribute__((always_inline)) REAL read_streams(const int streams, const vec *from, int64_t count,
                                                               int64_t passes)
{
    const int together = READ_CHAINS / streams;
    const int64_t part = count / streams;
    vec sums[READ_CHAINS];
    for (int i = 0; i < READ_CHAINS; i++)
        sums[i] = (vec){0};
    for (int64_t pass = 0; pass < passes; pass++) {
        for (int64_t i = 0; i < part; i += together)
#pragma GCC unroll 8
            for (int chain = 0; chain < READ_CHAINS; chain++)
                sums[chain] += from[chain / together * part + i + chain % together];
        __asm__ volatile("" ::: "memory"); /* a pass is not the one before */
    }
    return total(sums, READ_CHAINS);
}

/* Reads `count` vectors, a multiple of READ_CHAINS, so many times, from 1, 2, 4 or 8 places side by side. */
REAL read_probe(int streams, const void *from, int64_t count, int64_t passes)
{
    switch (streams) {
    case 1: return read_streams(1, from, count, passes);
    case 2: return read_streams(2, from, count, passes);
    case 4: return read_streams(4, from, count, passes);
    default: return read_streams(8, from, count, passes);
    }
}
