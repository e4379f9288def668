/* all.h - the kernels, written once over the operations of a vec/<isa>.h. tables/<isa>_<dtype>.c includes that file,
 * then this one, inside a target region, and puts the static functions into its table.
 *
 * How a template is a header: a translation unit has one instruction set and one dtype, so every header is guarded, and
 * includes what it uses, as any C header does. Which vector operations those are is said by the first vec/<isa>.h that
 * the unit includes: all of them have one guard, and vec/chosen.h adds vec/generic.h only where there was none. So each
 * header also parses alone, in an editor or in tests/c/parse_headers.sh. System headers come in before a target region
 * begins: vec/target.h and the vec/<isa>.h include them. */
#ifndef LK_ALL_H
#define LK_ALL_H
#include "kernels/activation.h"
#include "kernels/input_product.h"
#include "kernels/cell.h"
#include "kernels/dense.h"
#include "kernels/layer_forward.h"
#include "kernels/record.h"
#include "kernels/backward.h"
#ifndef LK_HIDDEN_SIZE /* kernels for one layer's sizes are for plain layers */
#include "kernels/variant.h"
#endif

#define LK_TABLE                                                                                                      \
    {LANES,     sizeof(real), activation,       gate_matmul,    cell_update,        dense_forward, layer_forward, \
     workspace, layer_record, record_workspace, layer_backward, backward_workspace, variant_forward}

#endif
