/* bits.c - one line for each shape and dtype with a hash of every bit that a layer wrote.
 *
 * Instruction sets that no single CPU has together are compared through these lines: tests/c/compare_bits.sh builds
 * this program natively, for AArch64 (run by qemu-user) and, where the CPU lacks AVX-512, with that in SIMDe's
 * portable form. Weights and inputs come from an integer generator, so that they are the same everywhere.
 *
 *   bits <isa>     with the kernels' tables taken directly, whatever the CPU says of itself. But of those for 8-bit weights
 *                  all that this CPU can run are held against each other, and portable C */
#include "network.h"

/* compare_bits.sh may build the kernels for AVX-VNNI with AVX-512's form of the same instructions. */
#ifndef LK_HAS_AVX_VNNI
#define LK_HAS_AVX_VNNI lk_cpu_has_avx_vnni
#endif

typedef struct {
    const char *name;
    const lk_kernels *f32, *f64, *f16; /* f16: NULL for none */
} table;

static const table TABLES[] = {
#if defined(__x86_64__)
    {"avx512", &lk_avx512_f32, &lk_avx512_f64, &lk_avx512_f16},
    {"avx2", &lk_avx2_f32, &lk_avx2_f64, &lk_avx2_f16},
#elif defined(__aarch64__)
    {"neon", &lk_neon_f32, &lk_neon_f64, &lk_neon_f16},
#endif
    {"generic", &lk_generic_f32, &lk_generic_f64, NULL},
};

/* For 8-bit weights and activations of 16 bits, then of 8. */
typedef struct {
    int (*usable)(void);
    const lk_kernels *kernels[2];
} integer_table;

static const integer_table INTEGERS[] = {
    {lk_cpu_always, {&lk_generic_i8a16, &lk_generic_i8a8}},
#if defined(__x86_64__)
    {lk_cpu_has_avx2, {&lk_avx2_i8a16, &lk_avx2_i8a8}},
    {LK_HAS_AVX_VNNI, {&lk_avx2_vnni_i8a16, &lk_avx2_vnni_i8a8}},
    {lk_cpu_has_avx512bw, {&lk_avx512_i8a16, &lk_avx512_i8a8}},
    {lk_cpu_has_avx512_vnni, {&lk_avx512_vnni_i8a16, &lk_avx512_vnni_i8a8}},
#elif defined(__aarch64__)
    {lk_cpu_always, {&lk_neon_i8a16, &lk_neon_i8a8}},
    {lk_cpu_has_dotprod, {&lk_neon_dotprod_i8a16, &lk_neon_dotprod_i8a8}},
#endif
};

static uint64_t hash(uint64_t seed, const void *bytes, size_t count)
{
    for (size_t n = 0; n < count; n++)
        seed = (seed ^ ((const unsigned char *)bytes)[n]) * UINT64_C(1099511628211); /* FNV-1a */
    return seed;
}

/* A hash of what a layer wrote. variant: which one, of network.h, or -1 for the plain LSTM. */
static uint64_t bits_of(const lk_kernels *kernels, int64_t T, int64_t B, int64_t I, int64_t H, int64_t P, int reverse,
                        int ragged, int64_t variant)
{
    const int64_t R = P ? P : H, itemsize = kernels->itemsize;
    generator = (uint32_t)(T * 7 + B * 31 + I * 101 + H * 1009 + P * 13 + reverse * 3 + ragged);
    plain_layer plain = draw_layer(I, H, P);
    if (variant >= 0)
        make_variant(&plain, variant);
    const lk_layer layer = pack_layer(&plain, kernels);
    double *x = draw(T * B * I, 3), *h = draw(B * R, 1), *c = draw(B * H, 2);
    lk_team alone = {.size = 1};
    void *work = take_work(kernels->workspace(&layer, T, B));
    lk_task task = {.T = T,
                    .B = B,
                    .x = converted(x, T * B * I, itemsize),
                    .x_step = B * I,
                    .x_row = I,
                    .lengths = ragged ? draw_lengths(T, B) : NULL,
                    .reverse = reverse,
                    .h = converted(h, B * R, itemsize),
                    .c = converted(c, B * H, itemsize),
                    .out = take(T * B * R, itemsize),
                    .out_step = B * R,
                    .out_row = R,
                    .work = work,
                    .own_work = work,
                    .team = &alone};
    (layer.variant ? kernels->variant_forward : kernels->layer_forward)(&layer, &task);
    uint64_t bits = UINT64_C(14695981039346656037);
    bits = hash(bits, task.out, (size_t)(T * B * R * itemsize));
    bits = hash(bits, task.h, (size_t)(B * R * itemsize));
    bits = hash(bits, task.c, (size_t)(B * H * itemsize));
    void *all[] = {x, h, c, (void *)task.x, (void *)task.lengths, task.h, task.c, task.out};
    for (size_t n = 0; n < sizeof all / sizeof *all; n++)
        free(all[n]);
    drop_work(work);
    drop_packed(&layer);
    drop_layer(&plain);
    return bits;
}

static void one_layer(const lk_kernels *kernels, int64_t T, int64_t B, int64_t I, int64_t H, int64_t P, int reverse,
                      int ragged, int64_t variant)
{
    const uint64_t bits = bits_of(kernels, T, B, I, H, P, reverse, ragged, variant);
    printf("f%d T%d B%d I%d H%d P%d reverse%d ragged%d variant%d %016llx\n", (int)kernels->weight_size * 8, (int)T,
           (int)B, (int)I, (int)H, (int)P, reverse, ragged, (int)variant, (unsigned long long)bits);
}

/* With 8-bit weights, on all that can run here. */
static void one_of_integers(int64_t T, int64_t B, int64_t I, int64_t H, int64_t P, int reverse, int ragged)
{
    for (int kind = 0; kind < 2; kind++) {
        const uint64_t bits = bits_of(INTEGERS[0].kernels[kind], T, B, I, H, P, reverse, ragged, -1);
        for (size_t n = 1; n < sizeof INTEGERS / sizeof *INTEGERS; n++)
            if (INTEGERS[n].usable() && bits_of(INTEGERS[n].kernels[kind], T, B, I, H, P, reverse, ragged, -1) != bits)
                printf("OTHER BITS on table %d: ", (int)n);
        printf("i8a%d T%d B%d I%d H%d P%d reverse%d ragged%d %016llx\n", kind ? 8 : 16, (int)T, (int)B, (int)I, (int)H,
               (int)P, reverse, ragged, (unsigned long long)bits);
    }
}

static void all_integers(void)
{
    for (int64_t H = 1; H <= 40; H += 3)
        one_of_integers(5, 1 + H % 9, 1 + H % 7, H, H % 3 ? 0 : H / 2, H % 2, H % 5 == 0);
    for (int64_t B = 1; B <= 14; B++)
        one_of_integers(3, B, 33, 50, 0, 0, B % 2);
    one_of_integers(4, 1, 129, 128, 0, 0, 0);
    one_of_integers(2, 5, 1030, 257, 100, 1, 1); /* several parts of a sum */
    one_of_integers(2, 1, 4, 700, 70, 0, 0);
}

static void one(const lk_kernels *kernels, int64_t T, int64_t B, int64_t I, int64_t H, int64_t P, int reverse,
                int ragged)
{
    one_layer(kernels, T, B, I, H, P, reverse, ragged, -1);
}

/* A dense layer with softmax: its sum must have one order, whatever the lanes. */
static void one_softmax(const lk_kernels *kernels, int64_t N, int64_t K, int64_t O)
{
    generator = (uint32_t)(N * 31 + K * 101 + O * 1009);
    const int64_t itemsize = kernels->itemsize;
    double *drawn[] = {draw(N * K, 3), draw(O * K, 1), draw(O, 2)};
    const lk_dense dense = {K, O, LK_SOFTMAX, pack_rows(drawn[1], O, K, kernels, kernels->weight_size),
                            pack_rows(drawn[2], O, 1, kernels, itemsize)};
    void *x = converted(drawn[0], N * K, itemsize), *y = take(N * O, itemsize);
    kernels->dense_forward(&dense, N, x, K, y, O);
    const uint64_t bits = hash(UINT64_C(14695981039346656037), y, (size_t)(N * O * itemsize));
    printf("f%d softmax N%d K%d O%d %016llx\n", (int)kernels->weight_size * 8, (int)N, (int)K, (int)O,
           (unsigned long long)bits);
    void *all[] = {drawn[0], drawn[1], drawn[2], (void *)dense.w, (void *)dense.bias, x, y};
    for (size_t n = 0; n < sizeof all / sizeof *all; n++)
        free(all[n]);
}

static void all_shapes(const lk_kernels *kernels)
{
    for (int64_t O = 1; O <= 70; O++)
        one_softmax(kernels, 1 + O % 7, 1 + O % 5, O);
    for (int64_t H = 1; H <= 40; H++)
        one(kernels, 5, 1 + H % 9, 1 + H % 7, H, H % 3 ? 0 : H / 2, H % 2, H % 5 == 0);
    for (int64_t B = 1; B <= 14; B++)
        one(kernels, 6, B, 33, 50, 0, 0, B % 2);
    for (int64_t H = 2; H <= 16; H++) /* a sum over h in two parts, of which the even one is longer */
        one(kernels, 4, 1 + H % 4, 6, H, (H - 1) | 1, 0, H % 2);
    for (int64_t B = 5; B <= 110; B += 13) /* lanes that are rows */
        one(kernels, 5, B, 1 + B % 30, 3 + B % 18, 0, B % 2, B % 3 > 0);
    one(kernels, 7, 70, 20, 20, 0, 1, 1);
    for (int64_t H = 5; H <= 48; H++) /* three blocks for one row, whatever the lanes */
        one(kernels, 4, 1, 9, H, 0, H % 2, 0);
    one(kernels, 9, 1, 128, 128, 0, 0, 0);
    one(kernels, 3, 70, 300, 130, 0, 1, 1);
    one(kernels, 40, 1, 1, 16, 0, 0, 0);
    one(kernels, 2, 7, 200, 257, 100, 0, 0);
    for (int64_t n = 0; n < 84; n++) /* every activation with every coupling */
        one_layer(kernels, 5, 1 + n % 9, 1 + n % 7, 1 + n % 35, n % 3 ? 0 : (n % 35 + 2) / 2, n % 2, n % 5 == 0, n);
}

int main(int argc, char **argv)
{
    const table *chosen = NULL;
    for (size_t n = 0; n < sizeof TABLES / sizeof *TABLES; n++)
        if (argc == 2 && !strcmp(TABLES[n].name, argv[1]))
            chosen = &TABLES[n];
    if (!chosen) {
        fprintf(stderr, "usage: bits <isa>, one that this architecture has\n");
        return 2;
    }
    all_shapes(chosen->f32);
    all_shapes(chosen->f64);
    if (chosen->f16)
        all_shapes(chosen->f16);
    if (strcmp(chosen->name, "avx512") != 0) /* avx2 runs those of avx512, too */
        all_integers();
    return 0;
}
