/* sizes.h - a layer's sizes: what its lk_layer says or, in a build for one layer's sizes (runtime/specialised.c), constants. */
#ifndef LK_SIZES_H
#define LK_SIZES_H
#include "lstmkernel.h"
#include "vec/target.h"

#ifdef LK_HIDDEN_SIZE
INLINE int64_t input_size(const lk_layer *layer) { (void)layer; return LK_INPUT_SIZE; }
INLINE int64_t hidden_size(const lk_layer *layer) { (void)layer; return LK_HIDDEN_SIZE; }
INLINE int64_t proj_size(const lk_layer *layer) { (void)layer; return LK_PROJ_SIZE; }
#else
INLINE int64_t input_size(const lk_layer *layer) { return layer->input_size; }
INLINE int64_t hidden_size(const lk_layer *layer) { return layer->hidden_size; }
INLINE int64_t proj_size(const lk_layer *layer) { return layer->proj_size; }
#endif
/* R, the width of h. */
INLINE int64_t output_size(const lk_layer *layer) { return proj_size(layer) ? proj_size(layer) : hidden_size(layer); }

#endif
