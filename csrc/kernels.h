/* kernels.h - the kernels, written once over the operations of a vec_<isa>.h. isa_<isa>_<dtype>.c includes that file,
 * then this one, inside a target region, and puts the static functions into its table. */
#include "vec_tail.h"
#include "activation.h"
#include "sizes.h"
#include "tile.h"
#include "gate_matmul.h"
#include "cell_update.h"
#include "dense.h"
#include "group.h"
#include "many_rows.h"
#include "layer_forward.h"
#include "record.h"
#include "transposed.h"
#include "backward.h"
#ifndef LK_HIDDEN_SIZE /* kernels for one layer's sizes are for plain layers */
#include "variant.h"
#endif

#define LK_TABLE                                                                                                      \
    {LANES,     sizeof(real), activation,       gate_matmul,    cell_update,        dense_forward, layer_forward, \
     workspace, layer_record, record_workspace, layer_backward, backward_workspace, variant_forward}
