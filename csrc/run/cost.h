/* cost.h - how long things take and how much the caches hold. The choices of how to run a call rest on these numbers.
 *
 * The numbers do not change a result, because no choice changes the order of a sum. All of them are rough. Limits were
 * found by timing calls on both sides of them, on x86-64. */
#ifndef LK_COST_H
#define LK_COST_H
#include <stdint.h>

/* Speed. A step of one layer and direction takes 8 H (I + R) operations for each row.
 *
 * GFLOPS_FORWARD: of the forward pass in float on one core; double takes twice as long. One row takes as long as
 * MIN_COST_ROWS, because it waits for the weights.
 * GFLOPS_TRAINING: of a recording forward pass and of a backward pass, both counted as the operations of the forward
 * pass. */
enum { GFLOPS_FORWARD = 100, GFLOPS_TRAINING = 50, MIN_COST_ROWS = 2 };

/* The cost of several threads. To start them takes some microseconds, and a team waits for its slowest thread in every
 * step.
 *
 * MIN_SHARED_NS: the work of a call from which on a second thread pays.
 * MIN_TEAM_NS, MIN_TEAM_STEP_NS: the work of a call, and of a step of its quickest layer, from which on a team pays.
 * MIN_TRAINING_NS, MIN_TRAINING_STEP_NS: the same for training, the second where threads share units. */
enum {
    MIN_SHARED_NS = 12000,
    MIN_TEAM_NS = 30000,
    MIN_TEAM_STEP_NS = 1000,
    MIN_TRAINING_NS = 50000,
    MIN_TRAINING_STEP_NS = 1500
};

/* Caches.
 *
 * L1_BYTES: an L1 data cache; most have 32 or 48 KiB.
 * NEARLY_L1_BYTES: of weights up to here, L1 keeps a good part from one step to the next.
 * FAR_BYTES: weights of more bytes do not stay in L2.
 * CHUNK_BYTES: this much of z stays in L2, which has 512 KiB or more on most CPUs.
 * CHUNK_ROWS: W_ih should be read once for this many rows of z. With more rows, the product gets hardly faster.
 * HANDOVER_BYTES: this much output of a layer stays in L2 or L3 until the layer above reads it.
 * TEAM_BYTES: if all W_hh of a call are more than this, one L2 does not hold them. Then each thread of a team reads its
 * own share of them from its own cache, which beats tasks of whole layers: on two threads, 32 rows of five layers of
 * 1024 units took 1/2.00 of the time of one thread instead of 1/1.75.
 * TRAINING_TEAM_BYTES: the same in training, for W_hh of one layer. */
enum {
    L1_BYTES = 48 << 10,
    NEARLY_L1_BYTES = 192 << 10,
    FAR_BYTES = 1 << 20,
    CHUNK_BYTES = 1 << 18,
    CHUNK_ROWS = 96,
    HANDOVER_BYTES = 1 << 20,
    TEAM_BYTES = 1 << 20,
    TRAINING_TEAM_BYTES = 3 << 19
};

/* A step of a whole vector, in cycles, with lanes that are units or rows (transposed.h): VECTOR_CYCLES for the four
 * FMAs of each input, two a cycle, and CELL_CYCLES for the cell. Transposing takes one cycle for
 * TRANSPOSED_PER_CYCLE elements (0.3 cycles an element were measured). Where L1 does not hold a block's weights and
 * the states, the products take longer by one part in FAR_PARTS (14% were measured). */
enum { VECTOR_CYCLES = 2, CELL_CYCLES = 46, TRANSPOSED_PER_CYCLE = 3, FAR_PARTS = 7 };

/* Nanoseconds of one step of some rows through one layer and direction. */
static inline int64_t lk_step_ns(int64_t rows, int64_t I, int64_t H, int64_t R, int64_t gflops)
{
    return rows * 8 * H * (I + R) / gflops;
}

/* Bytes of W_hh of one layer and direction. */
static inline int64_t lk_w_hh_bytes(int64_t H, int64_t R, int64_t itemsize) { return 4 * H * R * itemsize; }

#endif
