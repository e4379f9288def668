/* The kernels on avx2, double. */
#include "run/dispatch.h"
#ifdef __x86_64__
#include "vec/avx2.h"
LK_TARGET_BEGIN("avx2,fma,f16c")
#include "kernels/all.h"
LK_TARGET_END
const lk_kernels lk_avx2_f64 = LK_TABLE;
#endif
