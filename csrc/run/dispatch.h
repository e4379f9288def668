/* dispatch.h - the table of kernels that each tables/<isa>_<dtype>.c gives to dispatch.c, and the arguments of the
 * kernels that run a layer. */
#ifndef LK_DISPATCH_H
#define LK_DISPATCH_H
#include "lstmkernel.h"
#include "run/team.h"

/* The work of one kernel call: one layer in one direction, some rows, some steps. The fields are the arguments of
 * lk_layer_forward, except for these:
 *   T, from          the number of steps, and the time of the first one. lengths are those of the whole sequence
 *   x, out           they begin at time `from`
 *   x_begins, ...    NULL, or (B,): the step of x or out at which each row begins, in place of x_row or out_row
 *   reset            NULL, or [T][B] from time `from` on; steps lie reset_step apart
 *   read, write      the rows of h and c where each row's states are read and written; NULL: its own row
 *   work, own_work   workspace() bytes that all threads of the team have in common, and as many for this thread; they
 *                    are the same where it is alone
 *   team             the threads that share the work (run/team.h) */
typedef struct {
    int64_t T, B;
    const void *x;
    int64_t x_step, x_row;
    const int64_t *lengths;
    int64_t from;
    int reverse;
    void *h, *c, *out;
    int64_t out_step, out_row;
    const int64_t *x_begins, *out_begins;
    const uint8_t *reset;
    int64_t reset_step;
    const int64_t *read, *write;
    void *work, *own_work;
    lk_team *team;
} lk_task;

/* All kernels: KERNEL(result, name, parameters). The fields of the table below, and what LK_TABLE of kernels/all.h puts
 * into them, both come from these lists. Tables for narrow weights have no kernels of training; those for 8-bit weights
 * have only the first list.
 *   variant_forward                       layer_forward of a layer with a variant
 *   by_units                              1: the threads of a team share the units of a step; 0: the rows of all steps
 *   workspace                             bytes for one thread, whole cache lines
 *   record_workspace, backward_workspace  bytes for all threads */
#define LK_LAYER_KERNELS(KERNEL)                                                      \
    KERNEL(int, activation, (int activation, int64_t N, const void *x, void *y))      \
    KERNEL(int, cell_update, (int64_t N, int64_t H, const void *z, void *c, void *h)) \
    KERNEL(int, layer_forward, (const lk_layer *layer, const lk_task *task))          \
    KERNEL(int64_t, workspace, (const lk_layer *layer, int64_t T, int64_t B))
#define LK_PRODUCT_KERNELS(KERNEL)                                                                      \
    KERNEL(int, gate_matmul, (const lk_layer *layer, int64_t N, const void *x, int64_t x_row, void *z)) \
    KERNEL(int, dense_forward,                                                                          \
           (const lk_dense *dense, int64_t N, const void *x, int64_t x_row, void *y, int64_t y_row))    \
    KERNEL(int, variant_forward, (const lk_layer *layer, const lk_task *task))
#define LK_TRAINING_KERNELS(KERNEL)                                                                                  \
    KERNEL(int, layer_record, (const lk_layer *layer, const lk_tape *tape, int by_units, lk_team *team, void *work)) \
    KERNEL(int64_t, record_workspace, (const lk_layer *layer, const lk_tape *tape))                                  \
    KERNEL(int, layer_backward,                                                                                      \
           (const lk_tape *tape, const lk_gradients *gradients, int by_units, lk_team *team, void *work))            \
    KERNEL(int64_t, backward_workspace, (const lk_tape *tape, const lk_gradients *gradients))                        \
    KERNEL(int64_t, packed_bytes, (const lk_gradients *gradients))

struct lk_kernels {
    int64_t lanes, itemsize, weight_size; /* bytes of a number, and of a packed weight */
    int64_t activation_bits;              /* 16 or 8 with 8-bit weights, else 0 */
    const char *source;                   /* the table's file, with the path that the compiler got */
#define LK_FIELD(result, name, parameters) result(*name) parameters;
    LK_LAYER_KERNELS(LK_FIELD)
    LK_PRODUCT_KERNELS(LK_FIELD)
    LK_TRAINING_KERNELS(LK_FIELD)
#undef LK_FIELD
};

#if defined(__x86_64__)
extern const lk_kernels lk_avx512_f32, lk_avx512_f64, lk_avx512_f16, lk_avx2_f32, lk_avx2_f64, lk_avx2_f16;
extern const lk_kernels lk_avx512_vnni_i8a16, lk_avx512_vnni_i8a8, lk_avx512_i8a16, lk_avx512_i8a8;
extern const lk_kernels lk_avx2_vnni_i8a16, lk_avx2_vnni_i8a8, lk_avx2_i8a16, lk_avx2_i8a8;
#elif defined(__aarch64__)
extern const lk_kernels lk_neon_f32, lk_neon_f64, lk_neon_f16;
extern const lk_kernels lk_neon_dotprod_i8a16, lk_neon_dotprod_i8a8, lk_neon_i8a16, lk_neon_i8a8;
#endif
extern const lk_kernels lk_generic_f32, lk_generic_f64, lk_generic_i8a16, lk_generic_i8a8;

/* 1 where the CPU has the instruction set and the operating system keeps its registers; see cpu.c. */
int lk_cpu_has_avx512(void);
int lk_cpu_has_avx2(void);
int lk_cpu_has_avx512bw(void);
int lk_cpu_has_avx512_vnni(void);
int lk_cpu_has_avx_vnni(void);
int lk_cpu_has_dotprod(void);
int lk_cpu_always(void);

#endif
