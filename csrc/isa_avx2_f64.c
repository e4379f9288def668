/* The kernels on avx2, double. */
#include "dispatch.h"
#ifdef __x86_64__
#include "vec_avx2.h"
LK_TARGET_BEGIN("avx2,fma")
#include "kernels.h"
LK_TARGET_END
const lk_kernels lk_avx2_f64 = LK_TABLE;
#endif
