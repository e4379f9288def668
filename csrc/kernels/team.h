/* team.h - threads that share one layer, as its kernels see them: phases of blocks, which they take piece by piece.
 *
 *     FOR_PARTS(part, team, n, 0)
 *         compute blocks part.from .. part.to - 1
 *
 * After the loop all n blocks are done, by whichever thread, unless the job is over for this thread (is_over). Every step
 * needs all of h, so a step is one such phase or two. What a thread keeps for itself between two phases must not depend
 * on the parts that it got: it may have come late, and missed whole phases. */
#ifndef LK_TEAM_H
#define LK_TEAM_H
#include "kernels/sizes.h"
#include "run/dispatch.h"

INLINE int is_alone(const lk_team *team) { return !team->next; }

INLINE range taken(lk_team *team, int64_t n, int backwards)
{
    const lk_blocks blocks = team->next(team, n, backwards);
    return (range){blocks.from, blocks.to};
}
/* One thread alone takes all blocks at once. */
INLINE range first_part(lk_team *team, int64_t n, int backwards)
{
    return is_alone(team) ? (range){0, n} : taken(team, n, backwards);
}
INLINE range next_part(lk_team *team, int64_t n, int backwards)
{
    return is_alone(team) ? (range){0, -1} : taken(team, n, backwards);
}
#define FOR_PARTS(part, team, n, backwards) \
    for (range part = first_part(team, n, backwards); part.to >= 0; part = next_part(team, n, backwards))

INLINE int is_over(const lk_team *team) { return team->over; }

#endif
