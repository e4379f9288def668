/* team.h - threads that share one layer: which rows and blocks are whose, and where they wait for each other.
 *
 * A team shares either the units of a layer or its rows (lk_team.by_units). Every step needs all of h, so threads
 * that share units wait for each other in each step. Threads that share rows do not. */
#ifndef LK_TEAM_H
#define LK_TEAM_H
#include "kernels/sizes.h"
#include "run/dispatch.h"

/* This thread's share of n. */
INLINE range share_of(const lk_team *team, int64_t n)
{
    return (range){n * team->rank / team->size, n * (team->rank + 1) / team->size};
}
/* Its rows of n: all, if the team shares units. */
INLINE range own_rows(const lk_team *team, int64_t n) { return team->by_units ? (range){0, n} : share_of(team, n); }
/* Its blocks of n: all, if the team shares rows. */
INLINE range own_blocks(const lk_team *team, int64_t n) { return team->by_units ? share_of(team, n) : (range){0, n}; }

/* Wait until all threads of the team are here. */
INLINE void team_barrier(const lk_team *team)
{
    if (team->size > 1)
        team->wait(team->barrier, team->size);
}
/* Within a step: only threads that share units wait. */
INLINE void step_barrier(const lk_team *team)
{
    if (team->by_units)
        team_barrier(team);
}

#endif
