/* all.h - the kernels, written once over the operations of a vec/<isa>.h. tables/<isa>_<dtype>.c makes one instance.
 *
 * Parameters, defined before this file is included
 *   vec/<isa>.h       included: the instruction set. Without one, vec/generic.h
 *   LK_F32            for float; without it, double. Defined before vec/<isa>.h
 *   LK_F16            for float with weights of 16 bits, which is inference alone. Without LK_INPUT_SIZE, and not with
 *                     vec/generic.h, which does not widen them
 *   LK_I8             for float with weights of 8 bits: how many bits an activation has, 16 or 8. Inference alone, and no
 *                     variant. After vec/<isa>.h comes a vec/dot_<isa>.h
 *   LK_INPUT_SIZE, LK_HIDDEN_SIZE, LK_PROJ_SIZE
 *                     the sizes of one layer, all three or none: kernels for that layer alone, without variants
 * All others combine. The macros are undefined at the end. A translation unit makes one instance.
 *
 * So every header has a guard and includes what it uses, as any C header does, and parses alone: in an editor, and in
 * tests/c/parse_headers.sh. The vec/<isa>.h share one guard, so the first one that the unit includes gives the vector
 * operations. Kernels include vec/chosen.h, which includes vec/generic.h only if there was none.
 *
 * The including file opens a target region around this file. System headers must not be in one: vec/<isa>.h and
 * run/dispatch.h include all that are needed, so both come before it. */
#ifndef LK_ALL_H
#define LK_ALL_H
#include "kernels/activation.h"
#include "kernels/input_product.h"
#include "kernels/cell.h"
#include "kernels/layer_forward.h"
#ifndef LK_I8
#include "kernels/dense.h"
#ifndef LK_F16
#include "kernels/record.h"
#include "kernels/backward.h"
#endif
#ifndef LK_HIDDEN_SIZE
#include "kernels/variant.h"
#endif
#endif

/* The entries of a table of kernels. Each function stands there by its name, so none can take the place of another. */
#define LK_NAMED(result, name, parameters) .name = name,
#ifdef LK_I8
#define LK_ALL_KERNELS LK_LAYER_KERNELS(LK_NAMED)
#elif defined(LK_F16)
#define LK_ALL_KERNELS LK_LAYER_KERNELS(LK_NAMED) LK_PRODUCT_KERNELS(LK_NAMED)
#else
#define LK_ALL_KERNELS LK_LAYER_KERNELS(LK_NAMED) LK_PRODUCT_KERNELS(LK_NAMED) LK_TRAINING_KERNELS(LK_NAMED)
#endif
#ifdef LK_I8
enum { WEIGHT_BYTES = 1, ACTIVATION_BITS = LK_I8 };
#else
enum { WEIGHT_BYTES = sizeof(weight), ACTIVATION_BITS = 0 };
#endif
#define LK_TABLE                                                                                                   \
    {                                                                                                              \
        .lanes = LANES, .itemsize = sizeof(real), .weight_size = WEIGHT_BYTES, .activation_bits = ACTIVATION_BITS, \
        .source = __FILE__, LK_ALL_KERNELS                                                                         \
    }

#undef LK_F32
#undef LK_F16
#undef LK_I8
#undef LK_INPUT_SIZE
#undef LK_HIDDEN_SIZE
#undef LK_PROJ_SIZE

#endif
