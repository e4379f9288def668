/* sizes.h - a layer's sizes and arithmetic on sizes. In a build for one layer's sizes (tables/specialised.c) they
 * are constants. */
#ifndef LK_SIZES_H
#define LK_SIZES_H
#include "lstmkernel.h"
#include "vec/target.h"

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Rows, blocks or columns from .. to - 1. */
typedef struct {
    int64_t from, to;
} range;

#ifdef LK_HIDDEN_SIZE
INLINE int64_t input_size(const lk_layer *layer)
{
    (void)layer;
    return LK_INPUT_SIZE;
}
INLINE int64_t hidden_size(const lk_layer *layer)
{
    (void)layer;
    return LK_HIDDEN_SIZE;
}
INLINE int64_t proj_size(const lk_layer *layer)
{
    (void)layer;
    return LK_PROJ_SIZE;
}
#else
INLINE int64_t input_size(const lk_layer *layer) { return layer->input_size; }
INLINE int64_t hidden_size(const lk_layer *layer) { return layer->hidden_size; }
INLINE int64_t proj_size(const lk_layer *layer) { return layer->proj_size; }
#endif
/* R, the width of h. */
INLINE int64_t output_size(const lk_layer *layer) { return proj_size(layer) ? proj_size(layer) : hidden_size(layer); }

#endif
