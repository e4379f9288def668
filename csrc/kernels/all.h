/* all.h - the kernels, written once over the operations of a vec/<isa>.h. tables/<isa>_<dtype>.c includes that file,
 * then this one, inside a target region, and puts the static functions into its table. */
#include "vec/tail.h"
#include "kernels/activation.h"
#include "kernels/sizes.h"
#include "kernels/tile.h"
#include "kernels/input_product.h"
#include "kernels/cell.h"
#include "kernels/dense.h"
#include "kernels/rows.h"
#include "kernels/transposed.h"
#include "kernels/layer_forward.h"
#include "kernels/record.h"
#include "kernels/gradient_products.h"
#include "kernels/backward.h"
#ifndef LK_HIDDEN_SIZE /* kernels for one layer's sizes are for plain layers */
#include "kernels/variant.h"
#endif

#define LK_TABLE                                                                                                      \
    {LANES,     sizeof(real), activation,       gate_matmul,    cell_update,        dense_forward, layer_forward, \
     workspace, layer_record, record_workspace, layer_backward, backward_workspace, variant_forward}
