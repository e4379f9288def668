/* dispatch.c - the public functions: the list of instruction sets, and each kernel called in the kernels'
 * floating-point environment. */
#include <stddef.h>
#include <string.h>
#include "run/dispatch.h"
#include "run/float_control.h"

typedef struct {
    const char *name;
    int (*usable)(void);
    const lk_kernels *f32, *f64, *f16; /* f16: NULL where the set does not widen 16-bit floats */
} instruction_set;

/* Kernels for 8-bit weights, with activations of 16 bits and of 8. One set has several: with and without instructions that
 * came later. All of them have its lanes. */
typedef struct {
    int (*usable)(void);
    const lk_kernels *a16, *a8;
} integer_kernels;

enum { MOST_INTEGER_KERNELS = 2 };

/* For each of SETS, best first. */
static const integer_kernels INTEGERS[][MOST_INTEGER_KERNELS] = {
#if defined(__x86_64__)
    {{lk_cpu_has_avx512_vnni, &lk_avx512_vnni_i8a16, &lk_avx512_vnni_i8a8},
     {lk_cpu_has_avx512bw, &lk_avx512_i8a16, &lk_avx512_i8a8}},
    {{lk_cpu_has_avx_vnni, &lk_avx2_vnni_i8a16, &lk_avx2_vnni_i8a8}, {lk_cpu_has_avx2, &lk_avx2_i8a16, &lk_avx2_i8a8}},
#elif defined(__aarch64__)
    {{lk_cpu_has_dotprod, &lk_neon_dotprod_i8a16, &lk_neon_dotprod_i8a8},
     {lk_cpu_always, &lk_neon_i8a16, &lk_neon_i8a8}},
#endif
    {{lk_cpu_always, &lk_generic_i8a16, &lk_generic_i8a8}},
};

/* Best first. */
static const instruction_set SETS[] = {
#if defined(__x86_64__)
    {"avx512", lk_cpu_has_avx512, &lk_avx512_f32, &lk_avx512_f64, &lk_avx512_f16},
    {"avx2", lk_cpu_has_avx2, &lk_avx2_f32, &lk_avx2_f64, &lk_avx2_f16},
#elif defined(__aarch64__)
    {"neon", lk_cpu_always, &lk_neon_f32, &lk_neon_f64, &lk_neon_f16},
#endif
    {"generic", lk_cpu_always, &lk_generic_f32, &lk_generic_f64, NULL},
};
enum { SET_COUNT = sizeof SETS / sizeof SETS[0] };

const char *lk_isa_name(int isa) { return isa >= 0 && isa < SET_COUNT ? SETS[isa].name : NULL; }

int lk_isa_usable(int isa) { return isa >= 0 && isa < SET_COUNT && SETS[isa].usable(); }

const lk_kernels *lk_find(int isa, int weight_size)
{
    if (!lk_isa_usable(isa))
        return NULL;
    switch (weight_size) {
    case 2: return SETS[isa].f16;
    case 4: return SETS[isa].f32;
    default: return SETS[isa].f64;
    }
}

const lk_kernels *lk_find_int8(int isa, int activation_bits)
{
    for (int i = 0; lk_isa_usable(isa) && i < MOST_INTEGER_KERNELS; i++) {
        const integer_kernels *found = &INTEGERS[isa][i];
        if (found->usable && found->usable())
            return activation_bits == 16 ? found->a16 : found->a8;
    }
    return NULL;
}

/* NULL stays NULL: there are no such kernels on this CPU. */
static const lk_kernels *kernels_for(const lk_kernels *kernels, const lk_layer *layer)
{
    return kernels && layer->specialised ? layer->specialised : kernels;
}

int64_t lk_lanes(const lk_kernels *kernels) { return kernels->lanes; }

const char *lk_source(const lk_kernels *kernels)
{
    const char *const slash = strrchr(kernels->source, '/');
    return slash ? slash + 1 : kernels->source;
}

int64_t lk_workspace(const lk_kernels *kernels, const lk_layer *layer, int64_t T, int64_t B)
{
    return kernels_for(kernels, layer)->workspace(layer, T, B);
}

/* A kernel is called through its table, so no compiler can move its arithmetic across these two. */
#define CALL(kernel, ...)                                   \
    do {                                                    \
        if (!kernels)                                       \
            return LK_UNUSABLE;                             \
        const lk_float_control callers = lk_enter_kernel(); \
        const int status = kernels->kernel(__VA_ARGS__);    \
        lk_leave_kernel(callers);                           \
        return status;                                      \
    } while (0)

int lk_activation(const lk_kernels *kernels, int activation, int64_t N, const void *x, void *y)
{
    CALL(activation, activation, N, x, y);
}

int lk_gate_matmul(const lk_kernels *kernels, const lk_layer *layer, int64_t N, const void *x, int64_t x_row, void *z)
{
    kernels = kernels_for(kernels, layer);
    CALL(gate_matmul, layer, N, x, x_row, z);
}

int lk_cell_update(const lk_kernels *kernels, int64_t N, int64_t H, const void *z, void *c, void *h)
{
    CALL(cell_update, N, H, z, c, h);
}

int lk_dense_forward(const lk_kernels *kernels, const lk_dense *dense, int64_t N, const void *x, int64_t x_row, void *y,
                     int64_t y_row)
{
    CALL(dense_forward, dense, N, x, x_row, y, y_row);
}

int lk_layer_forward(const lk_kernels *kernels, const lk_layer *layer, int64_t T, int64_t B, const void *x,
                     int64_t x_step, int64_t x_row, const int64_t *lengths, int reverse, void *h, void *c, void *out,
                     int64_t out_step, int64_t out_row, void *work)
{
    lk_team alone = {.size = 1};
    const lk_task task = {.T = T,
                          .B = B,
                          .x = x,
                          .x_step = x_step,
                          .x_row = x_row,
                          .lengths = lengths,
                          .reverse = reverse,
                          .h = h,
                          .c = c,
                          .out = out,
                          .out_step = out_step,
                          .out_row = out_row,
                          .work = work,
                          .own_work = work,
                          .team = &alone};
    kernels = kernels_for(kernels, layer);
    if (layer->variant)
        CALL(variant_forward, layer, &task);
    CALL(layer_forward, layer, &task);
}
