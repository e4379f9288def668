/* The kernels on generic, double. */
#include "run/dispatch.h"
#include "vec/generic.h"
#include "kernels/all.h"
const lk_kernels lk_generic_f64 = LK_TABLE;
