/* bits.c - one line for each shape and dtype with a hash of every bit that a layer wrote.
 *
 * Instruction sets that no single CPU has together are compared through these lines: tests/c/compare_bits.sh builds this
 * program natively, for AArch64 (run by qemu-user) and for AVX-512 in SIMDe's portable form, and holds the outputs against
 * each other. Weights and inputs come from an integer generator, so that they are the same everywhere.
 *
 *   bits <isa>     with the kernels' tables taken directly, whatever the CPU says of itself */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "dispatch.h"

typedef struct {
    const char *name;
    const lk_kernels *f32, *f64;
} table;

static const table TABLES[] = {
#if defined(BITS_AVX512)
    {"avx512", &lk_avx512_f32, &lk_avx512_f64},
#elif defined(__x86_64__)
    {"avx2", &lk_avx2_f32, &lk_avx2_f64},
#elif defined(__aarch64__)
    {"neon", &lk_neon_f32, &lk_neon_f64},
#endif
    {"generic", &lk_generic_f32, &lk_generic_f64},
};

static uint32_t generator;

/* In -1..1, exactly representable in both dtypes. */
static double next_number(void)
{
    generator = generator * 1664525u + 1013904223u;
    return ((int32_t)generator >> 9) / 4194304.0;
}

static void *take(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    if (!memory)
        abort();
    return memory;
}

static void put(void *array, int64_t place, double value, int itemsize)
{
    if (itemsize == 4)
        ((float *)array)[place] = (float)value;
    else
        ((double *)array)[place] = value;
}

/* [blocks][K][4][lanes] of 4 * H rows drawn in the order gate, unit, k: the same weights for every lanes. */
static void *packed_gates(int64_t H, int64_t K, int64_t lanes, double scale, int itemsize)
{
    const int64_t blocks = (H + lanes - 1) / lanes;
    void *w = take((size_t)(blocks * K * 4 * lanes), (size_t)itemsize);
    for (int64_t gate = 0; gate < 4; gate++)
        for (int64_t unit = 0; unit < H; unit++)
            for (int64_t k = 0; k < K; k++)
                put(w, ((unit / lanes * K + k) * 4 + gate) * lanes + unit % lanes, scale * next_number(), itemsize);
    return w;
}

/* [ceil(O / (4 lanes))][K][4][lanes] */
static void *packed_rows(int64_t O, int64_t K, int64_t lanes, double scale, int itemsize)
{
    const int64_t quad = 4 * lanes, blocks = (O + quad - 1) / quad;
    void *w = take((size_t)(blocks * K * quad), (size_t)itemsize);
    for (int64_t o = 0; o < O; o++)
        for (int64_t k = 0; k < K; k++)
            put(w, (o / quad * K + k) * quad + o % quad, scale * next_number(), itemsize);
    return w;
}

static void *numbers(int64_t count, double scale, int itemsize)
{
    void *array = take((size_t)count, (size_t)itemsize);
    for (int64_t n = 0; n < count; n++)
        put(array, n, scale * next_number(), itemsize);
    return array;
}

static uint64_t hash(uint64_t seed, const void *bytes, size_t count)
{
    for (size_t n = 0; n < count; n++)
        seed = (seed ^ ((const unsigned char *)bytes)[n]) * UINT64_C(1099511628211); /* FNV-1a */
    return seed;
}

static void one(const lk_kernels *kernels, int itemsize, int64_t T, int64_t B, int64_t I, int64_t H, int64_t P, int reverse,
                int ragged)
{
    const int64_t R = P ? P : H, lanes = kernels->lanes;
    generator = (uint32_t)(T * 7 + B * 31 + I * 101 + H * 1009 + P * 13 + reverse * 3 + ragged);
    const double scale = 4.0 / (double)(8 + I + R);
    void *w_x = packed_gates(H, I, lanes, scale, itemsize), *w_h = packed_gates(H, R, lanes, scale, itemsize);
    void *bias = packed_gates(H, 1, lanes, 1, itemsize);
    void *w_r = P ? packed_rows(P, H, lanes, scale, itemsize) : NULL;
    const lk_layer layer = {I, H, P, w_x, w_h, bias, w_r};
    void *x = numbers(T * B * I, 3, itemsize), *h = numbers(B * R, 1, itemsize), *c = numbers(B * H, 2, itemsize);
    void *out = take((size_t)(T * B * R), (size_t)itemsize);
    int64_t *lengths = take((size_t)B, sizeof *lengths);
    for (int64_t b = 0; b < B; b++)
        lengths[b] = (b * 5 + 2) % (T + 1);
    void *work = take((size_t)kernels->workspace(&layer, T, B), 1);
    kernels->layer_forward(&layer, T, B, x, B * I, I, ragged ? lengths : NULL, reverse, h, c, out, B * R, R, work);
    uint64_t bits = UINT64_C(14695981039346656037);
    bits = hash(bits, out, (size_t)(T * B * R * itemsize));
    bits = hash(bits, h, (size_t)(B * R * itemsize));
    bits = hash(bits, c, (size_t)(B * H * itemsize));
    printf("f%d T%d B%d I%d H%d P%d reverse%d ragged%d %016llx\n", itemsize * 8, (int)T, (int)B, (int)I, (int)H, (int)P,
           reverse, ragged, (unsigned long long)bits);
    void *all[] = {w_x, w_h, bias, w_r, x, h, c, out, lengths, work};
    for (size_t n = 0; n < sizeof all / sizeof *all; n++)
        free(all[n]);
}

int main(int argc, char **argv)
{
    const table *chosen = NULL;
    for (size_t n = 0; n < sizeof TABLES / sizeof *TABLES; n++)
        if (argc == 2 && !strcmp(TABLES[n].name, argv[1]))
            chosen = &TABLES[n];
    if (!chosen) {
        fprintf(stderr, "usage: bits <isa>; this build has %s and generic\n", TABLES[0].name);
        return 2;
    }
    for (int itemsize = 4; itemsize <= 8; itemsize += 4) {
        const lk_kernels *kernels = itemsize == 4 ? chosen->f32 : chosen->f64;
        for (int64_t H = 1; H <= 40; H++)
            one(kernels, itemsize, 5, 1 + H % 9, 1 + H % 7, H, H % 3 ? 0 : H / 2, H % 2, H % 5 == 0);
        for (int64_t B = 1; B <= 14; B++)
            one(kernels, itemsize, 6, B, 33, 50, 0, 0, B % 2);
        one(kernels, itemsize, 9, 1, 128, 128, 0, 0, 0);
        one(kernels, itemsize, 3, 70, 300, 130, 0, 1, 1);
        one(kernels, itemsize, 40, 1, 1, 16, 0, 0, 0);
        one(kernels, itemsize, 2, 7, 200, 257, 100, 0, 0);
    }
    return 0;
}
