/* The kernels on neon, float. */
#include "dispatch.h"
#ifdef __aarch64__
#define LK_F32
#include "vec_neon.h"
#include "kernels.h"
const lk_kernels lk_neon_f32 = LK_TABLE;
#endif
