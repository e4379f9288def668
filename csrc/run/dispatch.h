/* dispatch.h - what an tables/<isa>_<dtype>.c gives to dispatch.c: one table of kernels. */
#ifndef LK_DISPATCH_H
#define LK_DISPATCH_H
#include <string.h> /* here, outside of any target region */
#include "lstmkernel.h"
#include "run/threads.h"

/* The arrays of one layer_forward, and the threads that share it. As in lk_layer_forward, but T is the steps of a stretch of
 * time that begins `from` steps into the sequence, which `lengths` are of; x and out point to its first step. */
typedef struct {
    int64_t T, B;
    const void *x;
    int64_t x_step, x_row;
    const int64_t *lengths; /* or NULL */
    int64_t from;
    int reverse;
    void *h, *c, *out;
    int64_t out_step, out_row;
    const uint8_t *reset;       /* of the first step, or NULL; the next one's lie */
    int64_t reset_step;         /* apart */
    const int64_t *read, *write; /* rows of h and c that each row's states are read from and written to; NULL: its own */
    void *work;          /* workspace() bytes for each thread */
    int rank, size;      /* this thread's, of those that share the layer: each has its own blocks of units */
    lk_barrier *barrier; /* where they meet after each step; NULL where size is 1 */
    lk_meeting *meet;    /* and how: lk_meet */
} lk_span;

/* This thread's place among those that share a layer in training, and whether each has its own rows or its own units. */
typedef struct {
    int rank, size, by_units;
    lk_barrier *barrier;
    lk_meeting *meet;
} lk_team;

struct lk_kernels {
    int64_t lanes, itemsize;
    int (*activation)(int activation, int64_t N, const void *x, void *y);
    int (*gate_matmul)(const lk_layer *layer, int64_t N, const void *x, int64_t x_row, void *z);
    int (*cell_update)(int64_t N, int64_t H, const void *z, void *c, void *h);
    int (*dense_forward)(const lk_dense *dense, int64_t N, const void *x, int64_t x_row, void *y, int64_t y_row);
    int (*layer_forward)(const lk_layer *layer, const lk_span *span);
    int64_t (*workspace)(const lk_layer *layer, int64_t T, int64_t B); /* bytes, of whole cache lines */
    int (*layer_record)(const lk_layer *layer, const lk_tape *tape, const lk_team *team, void *work);
    int64_t (*record_workspace)(const lk_layer *layer, const lk_tape *tape); /* of all threads */
    int (*layer_backward)(const lk_tape *tape, const lk_gradients *gradients, const lk_team *team, void *work);
    int64_t (*backward_workspace)(const lk_tape *tape, const lk_gradients *gradients);
    int (*variant_forward)(const lk_layer *layer, const lk_span *span); /* layer_forward of a layer with a variant */
};

#if defined(__x86_64__)
extern const lk_kernels lk_avx512_f32, lk_avx512_f64, lk_avx2_f32, lk_avx2_f64;
#elif defined(__aarch64__)
extern const lk_kernels lk_neon_f32, lk_neon_f64;
#endif
extern const lk_kernels lk_generic_f32, lk_generic_f64;

/* 1 where the CPU has the instruction set and the operating system keeps its registers; see cpu.c. */
int lk_cpu_has_avx512(void);
int lk_cpu_has_avx2(void);
int lk_cpu_always(void);

#endif
