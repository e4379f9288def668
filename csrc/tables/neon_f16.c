/* The kernels on neon, float with weights of 16 bits. */
#include "run/dispatch.h"
#ifdef __aarch64__
#define LK_F32
#define LK_F16
#include "vec/neon.h"
#include "kernels/all.h"
const lk_kernels lk_neon_f16 = LK_TABLE;
#endif
