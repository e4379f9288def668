/* The kernels on avx2, float with weights of 16 bits. */
#include "run/dispatch.h"
#ifdef __x86_64__
#define LK_F32
#define LK_F16
#include "vec/avx2.h"
LK_TARGET_BEGIN("avx2,fma,f16c")
#include "kernels/all.h"
LK_TARGET_END
const lk_kernels lk_avx2_f16 = LK_TABLE;
#endif
