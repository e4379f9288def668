/* cost.h - how long things take and how much the caches hold. The choices of how to run a call rest on these numbers.
 *
 * The numbers do not change a result, because no choice changes the order of a sum. All of them are rough. Limits were
 * found by timing calls on both sides of them, on x86-64. */
#ifndef LK_COST_H
#define LK_COST_H
#include <stdint.h>

/* Speed of one core. A step of one layer and direction takes 8 H (I + R) operations for each row.
 *
 * FLOPS_PER_LANE: operations a nanosecond and lane of a vector; 12 are the peak of two FMAs a cycle at 3 GHz.
 * INTEGER_GAIN: with 8-bit weights, divided by the bits of an activation, how many times as many products of integers.
 * TRAINING_PARTS: a recording forward pass and a backward pass take so many times as long as a forward pass.
 * A step takes PHASE_NS or more beside its products, and CELL_NS_PER_100 for the cells of 100 units. */
enum { FLOPS_PER_LANE = 10, INTEGER_GAIN = 32, TRAINING_PARTS = 2, PHASE_NS = 60, CELL_NS_PER_100 = 40 };

/* Weights: bytes a nanosecond of one core, by where they are. OWN_CACHE_BYTES: this many stay in a core's own cache,
 * SHARED_CACHE_BYTES in the one that it shares. ALL_CORES: all together get at most so many times as much from memory as
 * one. EXCHANGE_SPEED: of states that another core has just written. The system mostly says how large the caches are. */
enum {
    OWN_CACHE_SPEED = 50,
    SHARED_CACHE_SPEED = 25,
    MEMORY_SPEED = 12,
    EXCHANGE_SPEED = 3,
    OWN_CACHE_BYTES = 3 << 18,
    SHARED_CACHE_BYTES = 24 << 20,
    ALL_CORES = 10
};

/* The cost of several threads.
 *
 * JOIN_NS: until a thread that spins has joined a job.
 * CLAIM_NS, MEETING_NS: in each phase, threads of a team claim blocks, and meet; the second for each doubling of a team.
 * TAKING_NS: to take a task's next steps.
 * GAIN: one thread more must save one part in GAIN of the time. */
enum { JOIN_NS = 8000, CLAIM_NS = 80, MEETING_NS = 350, TAKING_NS = 500, GAIN = 20 };

/* Caches.
 *
 * L1_BYTES: an L1 data cache; most have 32 or 48 KiB.
 * NEARLY_L1_BYTES: of weights up to here, L1 keeps a good part from one step to the next.
 * FAR_BYTES: weights of more bytes do not stay in L2.
 * CHUNK_BYTES: this much of z stays in L2, which has 512 KiB or more on most CPUs.
 * CHUNK_ROWS: W_ih should be read once for this many rows of z. With more rows, the product gets hardly faster.
 * HANDOVER_BYTES: this much output of a layer stays in L2 or L3 until the layer above reads it. */
enum {
    L1_BYTES = 48 << 10,
    NEARLY_L1_BYTES = 192 << 10,
    FAR_BYTES = 1 << 20,
    CHUNK_BYTES = 1 << 18,
    CHUNK_ROWS = 96,
    HANDOVER_BYTES = 1 << 20
};

/* A step of a whole vector, in cycles, with lanes that are units or rows (transposed.h): VECTOR_CYCLES for the four
 * FMAs of each input, two a cycle, and CELL_CYCLES for the cell. Transposing takes one cycle for
 * TRANSPOSED_PER_CYCLE elements (0.3 cycles an element were measured). Where L1 does not hold a block's weights and
 * the states, the products take longer by one part in FAR_PARTS (14% were measured). */
enum { VECTOR_CYCLES = 2, CELL_CYCLES = 46, TRANSPOSED_PER_CYCLE = 3, FAR_PARTS = 7 };

#endif
