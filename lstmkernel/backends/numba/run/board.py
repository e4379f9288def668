"""What threads know of each other is in one array of 64-bit words, the board. Here are its places.

In C they are structs (csrc/run/team.c, csrc/run/threads.c). What one thread writes often has a cache line of its own.
"""

from __future__ import annotations

#: At most so many threads take part in a job. A phase has at most as many shares.
MOST_THREADS = 64

#: Words of a cache line.
LINE = 8

#: 1 while a call has the board; the largest rank of a helper.
TAKEN, HELPERS = 0, LINE

#: JOB counts up: it is odd while a job runs. Then of that job: its function, what it is given, how many threads may
#: take part, how many shares a phase has at most, and the phase before its first one.
JOB, FUNCTION, GIVEN, SIZE, SHARE_COUNT, BEFORE = range(2 * LINE, 2 * LINE + 6)

#: The last phase that is done. How many shares of a phase are finished: the phase times 2^COUNT_BITS, plus the count.
DONE, FINISHED, COUNT_BITS = 3 * LINE, 4 * LINE, 16

#: A line for each share. In it, the phase for which the share was last claimed, and last claimed by its owner.
SHARES, CLAIMED, OWNED = 5 * LINE, 0, 1

#: Two lines for each rank. RUNNING: whether the thread may touch the job's memory. AWAKE: whether a helper looks for
#: jobs. Then the thread's own view of its team, which no other reads.
THREADS, THREAD_WORDS = SHARES + LINE * MOST_THREADS, 2 * LINE
RUNNING, AWAKE = 0, 1
BOARD, RANK, OF_JOB, OF_SHARES, PHASE, WORKING_FOR, OVER = range(LINE, LINE + 7)

WORDS = THREADS + THREAD_WORDS * MOST_THREADS
