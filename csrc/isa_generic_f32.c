/* The kernels on generic, float. */
#include "dispatch.h"
#define LK_F32
#include "vec_generic.h"
#include "kernels.h"
const lk_kernels lk_generic_f32 = LK_TABLE;
