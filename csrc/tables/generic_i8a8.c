/* The kernels on generic, float with weights of 8 bits and activations of 8. */
#include "run/dispatch.h"
#define LK_F32
#define LK_I8 8
#include "vec/dot_generic.h"
#include "kernels/all.h"
const lk_kernels lk_generic_i8a8 = LK_TABLE;
