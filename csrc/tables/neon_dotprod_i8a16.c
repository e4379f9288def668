/* The kernels on neon with dot products, float with weights of 8 bits and activations of 16. */
#include "run/dispatch.h"
#ifdef __aarch64__
#define LK_F32
#define LK_I8 16
#define LK_DOTPROD
#include "vec/dot_neon.h"
LK_TARGET_BEGIN(LK_NEON_DOTPROD)
#include "kernels/all.h"
LK_TARGET_END
const lk_kernels lk_neon_dotprod_i8a16 = LK_TABLE;
#endif
