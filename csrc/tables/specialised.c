/* specialised.c - the kernels of one instruction set and dtype for the sizes of one layer. It is no part of the
 * package's build: lstmkernel/backends/c/specialised.py compiles it at run time, where there is a compiler, with
 *
 *   LK_VECTORS      "vec/avx2.h", ...
 *   LK_REGION_BEGIN, LK_REGION_END   of the target: LK_TARGET_BEGIN("avx2,fma,f16c"), ...; empty where none is needed
 *   the parameters of kernels/all.h
 *
 * The result has one symbol, a table for lk_layer.specialised, which calls only layer_forward and workspace. It needs nothing
 * of the library that uses it. */
#include "run/dispatch.h"
#include LK_VECTORS
LK_REGION_BEGIN
#include "kernels/all.h"
LK_REGION_END
__attribute__((visibility("default"))) const lk_kernels lk_specialised = {.lanes = LANES,
                                                                          .itemsize = sizeof(real),
                                                                          .weight_size = sizeof(weight),
                                                                          .layer_forward = layer_forward,
                                                                          .workspace = workspace};
