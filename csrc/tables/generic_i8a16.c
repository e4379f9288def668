/* The kernels on generic, float with weights of 8 bits and activations of 16. */
#include "run/dispatch.h"
#define LK_F32
#define LK_I8 16
#include "vec/dot_generic.h"
#include "kernels/all.h"
const lk_kernels lk_generic_i8a16 = LK_TABLE;
