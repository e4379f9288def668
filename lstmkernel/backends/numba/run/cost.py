"""How long things take and how much the caches hold.

Sizes of caches, and cycles, are those of csrc/run/cost.h. How long a call takes is estimated more simply than in
csrc/run/plan.c: without the caches. The numbers do not change a result, because no choice changes the order of a sum.
"""

from __future__ import annotations

#: Speed of the forward pass in float32 on one core; float64 takes twice as long. One row takes as long as
#: MIN_COST_ROWS, because it waits for the weights. A recording forward pass and a backward pass take TRAINING_PARTS
#: times as long as a forward pass.
GFLOPS_FORWARD, MIN_COST_ROWS, TRAINING_PARTS = 100, 2, 2

#: The cost of several threads. MIN_SHARED_NS: calls of less work run alone. WAKING_NS: calls of less work wake no
#: helper that sleeps, unless the program is busy (threads.py). JOIN_NS: until a helper that is awake has joined a job.
#: CLAIM_NS, MEETING_NS: in each phase, threads of a team claim blocks, and meet; the second for each doubling of a
#: team. GAIN: one thread more must save one part in GAIN of the time.
MIN_SHARED_NS, WAKING_NS, JOIN_NS, CLAIM_NS, MEETING_NS, GAIN = 100_000, 1_000_000, 8_000, 80, 350, 20

#: L1_BYTES: an L1 data cache. FAR_BYTES: more weights than these do not stay in L2. CHUNK_BYTES: this much of z stays
#: in L2. CHUNK_ROWS: W_ih should be read once for this many rows of z. HANDOVER_BYTES: this much output of a layer
#: stays in L2 or L3 until the layer above reads it.
L1_BYTES, FAR_BYTES, CHUNK_BYTES, CHUNK_ROWS, HANDOVER_BYTES = 48 << 10, 1 << 20, 1 << 18, 96, 1 << 20

#: A step of a whole vector, in cycles, with lanes that are units or rows (kernels/transposed.py): VECTOR_CYCLES for the
#: four FMAs of each input, two a cycle, and CELL_CYCLES for the cell. Transposing takes one cycle for
#: TRANSPOSED_PER_CYCLE elements. Where L1 does not hold a block's weights and the states, the products take longer by
#: one part in FAR_PARTS.
VECTOR_CYCLES, CELL_CYCLES, TRANSPOSED_PER_CYCLE, FAR_PARTS = 2, 46, 3, 7


def step_ns(rows: int, I: int, H: int, R: int, item_size: int) -> float:
    """Of one step of so many rows through one layer and direction."""
    return max(rows, MIN_COST_ROWS) * 8 * H * (I + R) / GFLOPS_FORWARD * item_size / 4


def meeting_ns(threads: int) -> float:
    """Of a phase of a team, beside its work."""
    return CLAIM_NS + MEETING_NS * (threads - 1).bit_length()
