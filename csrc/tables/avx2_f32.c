/* The kernels on avx2, float. */
#include "run/dispatch.h"
#ifdef __x86_64__
#define LK_F32
#include "vec/avx2.h"
LK_TARGET_BEGIN("avx2,fma,f16c")
#include "kernels/all.h"
LK_TARGET_END
const lk_kernels lk_avx2_f32 = LK_TABLE;
#endif
