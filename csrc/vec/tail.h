/* vec/tail.h - loads and stores of the first n lanes, through a small buffer: for instruction sets that have no masks,
 * or have slow ones on some CPUs. Nothing after the n elements is read or written. */
#ifndef LK_TAIL_H
#define LK_TAIL_H
#include "vec/chosen.h"

/* The lanes from n on are 0. n may be more than LANES: then the whole vector is loaded, or stored. */
INLINE vec v_load_n(const real *p, int64_t n)
{
    if (n >= LANES)
        return v_load(p);
    real buffer[LANES] = {0};
    memcpy(buffer, p, (size_t)n * sizeof(real));
    return v_load(buffer);
}

INLINE void v_store_n(real *p, vec a, int64_t n)
{
    if (n >= LANES) {
        v_store(p, a);
        return;
    }
    real buffer[LANES];
    v_store(buffer, a);
    for (int64_t lane = 0; lane < n; lane++)
        p[lane] = buffer[lane];
}

#endif
