/* The kernels on generic, double. */
#include "dispatch.h"
#include "vec_generic.h"
#include "kernels.h"
const lk_kernels lk_generic_f64 = LK_TABLE;
