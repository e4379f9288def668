/* The kernels on avx512 with VNNI, float with weights of 8 bits and activations of 16. */
#include "run/dispatch.h"
#ifdef __x86_64__
#define LK_F32
#define LK_I8 16
#define LK_VNNI
#include "vec/dot_avx512.h"
LK_TARGET_BEGIN(LK_AVX512_VNNI)
#include "kernels/all.h"
LK_TARGET_END
const lk_kernels lk_avx512_vnni_i8a16 = LK_TABLE;
#endif
