/* The kernels on avx512, float with weights of 8 bits and activations of 8. */
#include "run/dispatch.h"
#ifdef __x86_64__
#define LK_F32
#define LK_I8 8
#include "vec/dot_avx512.h"
LK_TARGET_BEGIN(LK_AVX512_DOT)
#include "kernels/all.h"
LK_TARGET_END
const lk_kernels lk_avx512_i8a8 = LK_TABLE;
#endif
