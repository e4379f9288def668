/* team.h - threads that share one layer, as its kernels see them: phases of blocks, which they take piece by piece.
 *
 *     for (range part = NO_PART; next_part(team, n, 0, &part);)
 *         compute blocks part.from .. part.to - 1
 *
 * After the loop all n blocks are done, by whichever thread, unless the job is over for this thread (is_over). Every step
 * needs all of h, so a step is one such phase or two. What a thread keeps for itself between two phases must not depend
 * on the parts that it got: it may have come late, and missed whole phases. */
#ifndef LK_TEAM_H
#define LK_TEAM_H
#include "kernels/sizes.h"
#include "run/dispatch.h"

#define NO_PART ((range){0, -1})

/* The next part of n blocks for this thread, or 0. One thread alone takes all of them at once. */
INLINE int next_part(lk_team *team, int64_t n, int backwards, range *part)
{
    if (team->next)
        return team->next(team, n, backwards, &part->from, &part->to);
    const int first = part->to < 0;
    *part = (range){0, n};
    return first;
}

INLINE int is_over(const lk_team *team) { return team->over; }
INLINE int is_alone(const lk_team *team) { return !team->next; }

#endif
