/* vec/dot_chosen.h - as vec/chosen.h, for the operations on integers. */
#ifndef LK_DOT_H
#include "vec/dot_generic.h"
#endif
