/* The kernels on generic, float. */
#include "run/dispatch.h"
#define LK_F32
#include "vec/generic.h"
#include "kernels/all.h"
const lk_kernels lk_generic_f32 = LK_TABLE;
