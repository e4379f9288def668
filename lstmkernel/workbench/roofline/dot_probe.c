/* dot_probe.c - how many products of 8-bit weights one core can do at most, with the operations of the package's own
 * kernels (csrc/vec/dot_generic.h). probes.py compiles it as one of csrc/tables is, and takes the time:
 *
 *   LK_I8, and LK_VNNI or LK_DOTPROD   as that table has them
 *   LK_INTEGERS                        "vec/dot_avx2.h", ...
 *   LK_REGION_BEGIN, LK_REGION_END     as tables/specialised.c has them */
#include LK_INTEGERS
LK_REGION_BEGIN

/* Sums that do not wait for each other. A dot product of one instruction takes up to 5 cycles, in two units; the other
 * ones wait only for additions. Sums and what is multiplied must fit the registers.
 *
 * To the compiler, those of one instruction (asm) are neither constant nor alike. Others it would compute once for all
 * sums and steps, if it knew that the activations stay the same. */
#if defined(LK_VNNI) || defined(LK_DOTPROD)
enum { DOT_CHAINS = LANES == 8 ? 12 : 16 };
#define MAY_CHANGE(array)
#else
enum { DOT_CHAINS = 8 };
#define MAY_CHANGE(array) __asm__ volatile("" : "+m"(array))
#endif

/* Of a step: products of a weight and an activation. One of PLANES dot products has a part of each. */
int64_t dot_products(void) { return DOT_CHAINS * LANES * 4 / PLANES; }

INLINE int64_t total_of(ivec a)
{
    int32_t lanes[LANES];
    memcpy(lanes, &a, sizeof lanes);
    int64_t total = 0;
    for (int lane = 0; lane < LANES; lane++)
        total += lanes[lane];
    return total;
}

/* `steps` times, DOT_CHAINS sums get a dot product each. Returns the total of all sums.
 *   w      [LANES] words of 4 weights;  x [4] activations, of one or two bytes
 *   start  [DOT_CHAINS][LANES], before the first step */
int64_t dot_probe(int64_t steps, const uint32_t *w, const uint8_t *x, const int32_t *start)
{
    const ready weights = load_weights(w);
    group4 activations = load_group(x, 0, 0, 0);
    ivec sums[DOT_CHAINS];
#pragma GCC unroll 16
    for (int i = 0; i < DOT_CHAINS; i++)
        memcpy(&sums[i], start + i * LANES, sizeof sums[i]);
    for (int64_t step = 0; step < steps; step++) {
#pragma GCC unroll 16
        for (int i = 0; i < DOT_CHAINS; i++) {
            MAY_CHANGE(activations);
            sums[i] = i_dot(sums[i], weights, activations);
        }
    }
    int64_t total = 0;
#pragma GCC unroll 16
    for (int i = 0; i < DOT_CHAINS; i++)
        total += total_of(sums[i]);
    return total;
}
LK_REGION_END
