/* vec/chosen.h - the vector operations of this translation unit: those that it has included before or, where a header
 * is parsed alone, as by an editor, the portable ones. See kernels/all.h. */
#ifndef LK_VEC_H
#include "vec/generic.h"
#endif
