/* The kernels on avx512, double. */
#include "run/dispatch.h"
#ifdef __x86_64__
#include "vec/avx512.h"
LK_TARGET_BEGIN("avx512f")
#include "kernels/all.h"
LK_TARGET_END
const lk_kernels lk_avx512_f64 = LK_TABLE;
#endif
