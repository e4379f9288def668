/* chosen.h - the vector operations that this translation unit has: those that its table included before the kernels or,
 * where a header is parsed alone, as by an editor, the portable ones. */
#ifndef LK_VEC_H
#include "vec/generic.h"
#endif
