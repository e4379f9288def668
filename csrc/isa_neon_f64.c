/* The kernels on neon, double. */
#include "dispatch.h"
#ifdef __aarch64__
#include "vec_neon.h"
#include "kernels.h"
const lk_kernels lk_neon_f64 = LK_TABLE;
#endif
