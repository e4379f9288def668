/* The kernels on neon, float. */
#include "run/dispatch.h"
#ifdef __aarch64__
#define LK_F32
#include "vec/neon.h"
#include "kernels/all.h"
const lk_kernels lk_neon_f32 = LK_TABLE;
#endif
