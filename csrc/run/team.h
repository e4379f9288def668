/* team.h - threads that share one layer: how they divide its blocks, and how they meet. See team.c. */
#ifndef LK_RUN_TEAM_H
#define LK_RUN_TEAM_H
#include "run/threads.h"

/* A place where the threads of one team meet. There is one for each direction. */
typedef struct lk_meeting lk_meeting;
enum { LK_MEETINGS = 2 };

typedef struct lk_team lk_team;

/* Blocks from .. to - 1. */
typedef struct {
    int64_t from, to;
} lk_blocks;

/* The next blocks of n for this thread; `to` is -1 when all n are done, by whichever thread. Then the next call begins the
 * next phase, with an n of its own. All threads go through the same phases with the same n.
 * backwards: 1 takes this thread's blocks in the order last to first. */
typedef lk_blocks lk_next_function(lk_team *team, int64_t n, int backwards);
lk_next_function lk_team_next;

/* The threads that share a layer, as one of them sees them.
 *   size          how many have a share of the blocks
 *   share         which share is this thread's own, 0 .. size - 1; -1 for a visitor: it only takes over what is left
 *   pieces        most parts of a share; a thread takes one at a time
 *   over          1: the job is over for this thread. It must return at once, and touch none of the job's memory
 *   next          lk_team_next, or NULL: the thread is alone, and all else is 0 but size, which is 1. It is called through a pointer, so that kernels that are compiled at run time need
 *                 nothing of this library
 *   rank          the thread's rank in its job
 *   the rest      team.c's */
struct lk_team {
    int size, share, pieces, over;
    lk_next_function *next;
    int rank, shares, stage, working_for;
    uint64_t phase;
    lk_meeting *meeting;
};

/* lk_run opens all meetings before a job. Rank 0 ends them after its own last phase. A child of fork may have been made
 * during a phase; it forgets that phase, and its next job begins after it. */
void lk_open_meetings(void);
void lk_end_meetings(void);
void lk_forget_meetings(void);

/* A thread's view of the team of a direction; `size` and `share` as above. A share has one piece. */
lk_team lk_join_team(int direction, int size, int share, int rank);

/* How many pieces a share should have that takes so many nanoseconds. */
int lk_pieces(double ns);

#endif
