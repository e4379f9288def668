/* The kernels on neon, double. */
#include "run/dispatch.h"
#ifdef __aarch64__
#include "vec/neon.h"
#include "kernels/all.h"
const lk_kernels lk_neon_f64 = LK_TABLE;
#endif
