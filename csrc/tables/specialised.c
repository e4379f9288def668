/* specialised.c - the kernels of one instruction set and dtype for the sizes of one layer. No part of the package's build:
 * lstmkernel/backends/c/specialised.py compiles it, at run time and where there is a compiler, with
 *
 *   LK_VECTORS      "vec/avx2.h", ...
 *   LK_REGION_BEGIN, LK_REGION_END   of the target: LK_TARGET_BEGIN("avx2,fma"), ...; empty where none is needed
 *   LK_F32          defined for float
 *   LK_INPUT_SIZE, LK_HIDDEN_SIZE, LK_PROJ_SIZE
 *
 * The result has one symbol, a table for lk_layer.specialised, and needs nothing of the library that it is used from. */
#include "run/dispatch.h"
#include LK_VECTORS
LK_REGION_BEGIN
#include "kernels/all.h"
LK_REGION_END
__attribute__((visibility("default"))) const lk_kernels lk_specialised = {.lanes = LANES, .itemsize = sizeof(real),
                                                                          .layer_forward = layer_forward};
