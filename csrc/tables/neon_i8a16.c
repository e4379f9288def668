/* The kernels on neon, float with weights of 8 bits and activations of 16. */
#include "run/dispatch.h"
#ifdef __aarch64__
#define LK_F32
#define LK_I8 16
#include "vec/dot_neon.h"
#include "kernels/all.h"
const lk_kernels lk_neon_i8a16 = LK_TABLE;
#endif
