/* The kernels on avx512, float. */
#include "run/dispatch.h"
#ifdef __x86_64__
#define LK_F32
#include "vec/avx512.h"
LK_TARGET_BEGIN("avx512f")
#include "kernels/all.h"
LK_TARGET_END
const lk_kernels lk_avx512_f32 = LK_TABLE;
#endif
