/* team.c - how the threads of a team share the blocks of a layer, and meet when all are done.
 *
 * A layer's work is one phase after another: one or two for each step. A phase has n blocks, which any thread may compute, because
 * every output is a sum in its own fixed order. The blocks are divided into shares, and every share has an owner: the same
 * thread in every phase and every call, so that its weights stay in the cache of its core. A share is divided into a few
 * pieces. A thread claims a piece before it computes it:
 *
 *   1 its own pieces
 *   2 pieces of owners that were late before
 *   3 after a short wait, pieces of any owner that has not claimed them yet
 *   4 then it waits until the phase is done
 *
 * So a thread that the system does not let run delays the others by no more than the piece that it has claimed.
 *
 * Phases have numbers that only grow, over all calls. Counts within a share are a phase, times 2^16, plus the count: one of
 * an earlier phase counts as zero, and a thread that comes too late sees that by the number.
 *
 * Threads meet by signals. Whoever finishes a share sets its signal to the phase, and all threads look at the signals of all
 * shares. A signal has a cache line of its own, so a meeting takes as long as a line takes from one core to another, and all
 * lines go at the same time. A count that every thread adds to would go from core to core as often as there are threads.
 * With more than GROUP shares, whoever finishes a group sets the signal of the group, and all threads look at those. */
#include <stddef.h>
#include "kernels/sizes.h"
#include "run/team.h"

enum { GROUP = 8, GROUPS = LK_MOST_THREADS / GROUP, COUNT_BITS = 16, COUNTED = (1 << COUNT_BITS) - 1 };

/* PATIENCE: turns of waiting before a thread takes over pieces of an owner that was in time before. 3 to 6 us. */
enum { PATIENCE = 100 };

/* A piece takes PIECE_NS or more, because a product of few blocks is slower than one of many. */
enum { PIECE_NS = 4000, MOST_PIECES = 8 };

int lk_pieces(double ns)
{
    return ns < PIECE_NS ? 1 : ns / PIECE_NS < MOST_PIECES ? (int)(ns / PIECE_NS) : MOST_PIECES;
}

typedef _Atomic uint64_t count;

/* How many pieces of a share are claimed, and how many are finished. */
typedef struct {
    _Alignas(64) count claimed;
    count finished;
} share_counts;

/* late: a bit for each share whose first piece was claimed by another thread than its owner, when last claimed.
 * over: rank 0 has been through all phases. before: the phase before the job's first one. latest: the phase that rank 0 is in,
 * or was in. */
struct lk_meeting {
    share_counts shares[LK_MOST_THREADS];
    lk_signal done[LK_MOST_THREADS], groups[GROUPS];
    _Alignas(64) _Atomic uint64_t late;
    atomic_int over;
    uint64_t before;
    _Alignas(64) uint64_t latest;
};

static lk_meeting meetings[LK_MEETINGS];

static void open_meeting(lk_meeting *meeting)
{
    meeting->before = meeting->latest;
    atomic_store_explicit(&meeting->late, ~UINT64_C(1), memory_order_relaxed); /* all but the caller's */
    atomic_store_explicit(&meeting->over, 0, memory_order_relaxed);
}

void lk_open_meetings(void)
{
    for (int direction = 0; direction < LK_MEETINGS; direction++)
        open_meeting(&meetings[direction]);
}

void lk_end_meetings(void)
{
    for (int direction = 0; direction < LK_MEETINGS; direction++)
        atomic_store(&meetings[direction].over, 1);
}

/* Other threads may have been in a later phase than rank 0, and may have claimed pieces of the next one. */
void lk_forget_meetings(void)
{
    for (lk_meeting *meeting = meetings; meeting < meetings + LK_MEETINGS; meeting++)
        for (int share = 0; share < LK_MOST_THREADS; share++)
            if (lk_signal_value(&meeting->done[share]) >= meeting->latest)
                meeting->latest = lk_signal_value(&meeting->done[share]) + 1;
}

lk_team lk_join_team(int direction, int size, int share, int rank)
{
    lk_meeting *meeting = &meetings[direction];
    return (lk_team){.size = size,
                     .share = share,
                     .pieces = 1,
                     .next = lk_team_next,
                     .rank = rank,
                     .working_for = -1,
                     .phase = meeting->before,
                     .meeting = meeting};
}

/* ---------------------------------------------------------------- counting */

/* Count one more in this phase. Returns the count. */
static int64_t count_up(count *counted, uint64_t phase)
{
    uint64_t before = atomic_load_explicit(counted, memory_order_relaxed), after;
    do
        after = (before >> COUNT_BITS == phase ? before : phase << COUNT_BITS) + 1;
    while (!atomic_compare_exchange_weak_explicit(counted, &before, after, memory_order_acq_rel, memory_order_relaxed));
    return (int64_t)(after & COUNTED);
}

/* The same for the last of `of`: there is nothing to count where there is only one. */
static int is_last(count *counted, uint64_t phase, int64_t of) { return of == 1 || count_up(counted, phase) == of; }

/* Claim the next piece of a share. Returns it, or -1 where all are claimed or the phase is over. */
static int64_t claim(count *claimed, uint64_t phase, int64_t pieces)
{
    uint64_t before = atomic_load_explicit(claimed, memory_order_relaxed);
    for (;;) {
        const uint64_t seen = before >> COUNT_BITS;
        const int64_t piece = seen == phase ? (int64_t)(before & COUNTED) : 0;
        if (seen > phase || piece >= pieces)
            return -1;
        const uint64_t after = (phase << COUNT_BITS) + (uint64_t)piece + 1;
        if (atomic_compare_exchange_weak_explicit(claimed, &before, after, memory_order_acq_rel, memory_order_relaxed))
            return piece;
    }
}

/* ---------------------------------------------------------------- shares of n blocks */

static int64_t begin_of(int64_t n, int64_t share, int64_t shares) { return n * share / shares; }
static int64_t pieces_of(const lk_team *team, int64_t n, int64_t share)
{
    return smaller(team->pieces, begin_of(n, share + 1, team->shares) - begin_of(n, share, team->shares));
}

/* ---------------------------------------------------------------- what is done */

static int are_done(const lk_signal *signals, int64_t n, uint64_t phase)
{
    int done = 1;
    for (int64_t i = 0; i < n; i++) /* all, so that the core asks for all lines at the same time */
        done &= lk_signal_value(&signals[i]) >= phase;
    return done;
}

static int is_group_done(const lk_team *team, int64_t group)
{
    const int64_t left = team->shares - group * GROUP;
    return are_done(&team->meeting->done[group * GROUP], smaller(GROUP, left), team->phase);
}

/* The condition that a phase is over. */
static int is_phase_done(const void *team_)
{
    const lk_team *team = team_;
    if (team->shares <= GROUP)
        return is_group_done(team, 0);
    return are_done(team->meeting->groups, divide_up(team->shares, GROUP), team->phase);
}

/* The piece at hand is finished. Whoever finishes the last one of a share, or of a group of shares, says so. */
static void finish_piece(lk_team *team, int64_t n)
{
    lk_meeting *meeting = team->meeting;
    const int64_t share = team->working_for, group = share / GROUP;
    team->working_for = -1;
    if (!is_last(&meeting->shares[share].finished, team->phase, pieces_of(team, n, share)))
        return;
    lk_set_signal(&meeting->done[share], team->phase);
    if (team->shares > GROUP && is_group_done(team, group))
        lk_raise_signal_to(&meeting->groups[group], team->phase);
}

/* ---------------------------------------------------------------- the next piece */

static uint64_t late_owners(const lk_team *team)
{
    return atomic_load_explicit(&team->meeting->late, memory_order_relaxed);
}

/* Remember whether the owner of a share was late. Mostly it is as it was, and nothing is written. */
static void note_owner(lk_team *team, int64_t share)
{
    const uint64_t bit = UINT64_C(1) << share;
    const int late = share != team->share;
    if (late == (int)(late_owners(team) >> share & 1))
        return;
    if (late)
        atomic_fetch_or_explicit(&team->meeting->late, bit, memory_order_relaxed);
    else
        atomic_fetch_and_explicit(&team->meeting->late, ~bit, memory_order_relaxed);
}

static const lk_blocks NO_BLOCKS = {0, -1};

/* The next piece of a share, if one is left. */
static lk_blocks take_from(lk_team *team, int64_t share, int64_t n, int backwards)
{
    const int64_t shares = team->shares, pieces = pieces_of(team, n, share);
    int64_t piece = claim(&team->meeting->shares[share].claimed, team->phase, pieces);
    if (piece < 0)
        return NO_BLOCKS;
    if (piece == 0)
        note_owner(team, share);
    if (backwards)
        piece = pieces - 1 - piece;
    const int64_t begin = begin_of(n, share, shares), blocks = begin_of(n, share + 1, shares) - begin;
    team->working_for = (int)share;
    lk_test_delay();
    return (lk_blocks){begin + begin_of(blocks, piece, pieces), begin + begin_of(blocks, piece + 1, pieces)};
}

enum { OWN, LATE_OWNERS, ANY_OWNER, NONE };

/* The shares of which pieces may be taken at this stage, as bits. */
static uint64_t open_shares(const lk_team *team)
{
    const uint64_t all = ~UINT64_C(0) >> (64 - team->shares);
    const uint64_t own = team->share >= 0 ? UINT64_C(1) << team->share : 0;
    if (team->stage == OWN)
        return all & own;
    return all & ~own & (team->stage == LATE_OWNERS ? late_owners(team) : ~UINT64_C(0));
}

static lk_blocks take_at_stage(lk_team *team, int64_t n, int backwards)
{
    const uint64_t open = open_shares(team);
    lk_blocks blocks = NO_BLOCKS;
    int share = (team->share >= 0 ? team->share : team->rank) % team->shares;
    for (int left = open ? team->shares : 0; left > 0 && blocks.to < 0; left--) {
        if (open >> share & 1)
            blocks = take_from(team, share, n, backwards);
        share = share + 1 < team->shares ? share + 1 : 0;
    }
    return blocks;
}

/* Begin the next phase. Returns 0 if it is done already: this thread came late. */
static int begin_phase(lk_team *team, int64_t n)
{
    lk_test_delay();
    team->phase++;
    team->shares = (int)smaller(team->size, n);
    team->stage = OWN;
    if (team->rank == 0)
        team->meeting->latest = team->phase;
    if (!is_phase_done(team))
        return 1;
    team->over = atomic_load_explicit(&team->meeting->over, memory_order_relaxed);
    return 0;
}

lk_blocks lk_team_next(lk_team *team, int64_t n, int backwards)
{
    if (team->over)
        return NO_BLOCKS;
    if (team->working_for >= 0)
        finish_piece(team, n);
    else if (n == 0 || !begin_phase(team, n))
        return NO_BLOCKS;
    for (; team->stage < NONE; team->stage++) {
        if (team->stage == ANY_OWNER && lk_spin_until(is_phase_done, team, PATIENCE))
            return NO_BLOCKS;
        const lk_blocks blocks = take_at_stage(team, n, backwards);
        if (blocks.to >= 0)
            return blocks;
    }
    team->over = !lk_wait_until(is_phase_done, team, team->rank);
    return NO_BLOCKS;
}
