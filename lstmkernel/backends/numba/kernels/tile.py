"""The register tile under every matrix product, and the sweep that covers a matrix with tiles: csrc/kernels/tile.h.

A tile function has the signature ``tile(rows, blocks, row, block, line, job)``. It works on the rows from `row` on and
the blocks from `block` on. `rows` and `blocks` are tuples, and their lengths say how many (vec/registers.py).
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

import numpy as np

from lstmkernel.backends.numba.jit import spliced
from lstmkernel.backends.numba.memory import at, item_size, prefetch
from lstmkernel.backends.numba.run.cost import FAR_BYTES
from lstmkernel.backends.numba.target import VECTOR_BYTES
from lstmkernel.backends.numba.vec.registers import block_size, multiply_add

ROWS_1, ROWS_2, ROWS_3, ROWS_4, ROWS_5, ROWS_6 = (tuple(range(rows)) for rows in range(1, 7))
BLOCKS_1, BLOCKS_2, BLOCKS_3 = (tuple(range(blocks)) for blocks in range(1, 4))

#: Numba compiles a function anew for an argument that is a literal; a NumPy number is a plain int64 to it.
ZERO, NO_LINE = np.int64(0), np.int64(-1)

#: Layers of at most so many units sum over h in two parts; see csrc/lstmkernel.h.
FEW_UNITS = 16

#: INPUT_BYTES: the weights of one input of a block. LINES: their cache lines.
INPUT_BYTES = 4 * VECTOR_BYTES
LINE_BYTES = 64
LINES = max(1, INPUT_BYTES // LINE_BYTES)


@spliced
def accumulate(tile, x, K, w, line, blocks):
    """tile[r, b, g] += sum over k = 0 .. K - 1, in order, of x[r][k] * w[b][k][g].

    w is packed [block][K][4][LANES]. line: which cache line of each input of the next block to prefetch meanwhile; -1
    for none, and always where there is one row.
    """
    ahead = K * block_size(w) + line * (LINE_BYTES // item_size(w)) if line >= 0 else 0
    for k in range(K):
        if len(x) > 1:
            prefetch(w, ahead)
        tile = multiply_add(tile, x, k, w, K * block_size(w), blocks)
        w = at(w, block_size(w))
    return tile


@spliced
def sweep_row(part, backwards, tile, job):
    """One row: every weight is used once, so what counts is that they stream, and that enough sums run side by side.

    Small layers take all their blocks at once, which hides the latency of an FMA. Last block first where `backwards`:
    what was read last is still in the nearest cache when a step that goes the other way begins with it.

    C takes single blocks on AVX-512 where the weights come from L2. Numba was measured to be faster with pairs there
    too, so it always takes them and has no use for C's NEARLY_L1_BYTES.
    """
    blocks = part[1] - part[0]
    if blocks == 3:
        tile(ROWS_1, BLOCKS_3, ZERO, part[0], NO_LINE, job)
        return
    pairs = blocks // 2
    done = ZERO
    while done < blocks:
        width = 2 if done < 2 * pairs else 1
        block = part[1] - done - width if backwards else part[0] + done
        if width == 2:
            tile(ROWS_1, BLOCKS_2, ZERO, block, NO_LINE, job)
        else:
            tile(ROWS_1, BLOCKS_1, ZERO, block, NO_LINE, job)
        done += width


@spliced
def sweep_rows(most_rows, N, part, K, tile, job):
    """Several rows, in tiles of at most `most_rows`, a constant to Numba.

    Blocks are the outer loop, so that a block's weights come from far away once, and for every further tile of rows
    from L1 or L2. Where all weights are more than L2 holds and there are tiles enough, they prefetch the next block
    meanwhile, each another line of every input. Rows are split evenly (8 rows are 4 + 4, not 6 + 2).
    """
    tiles = (N + most_rows - 1) // most_rows
    least = N // tiles if tiles else 0
    taller = N % tiles if tiles else 0
    far = (part[1] - part[0]) * K * INPUT_BYTES > FAR_BYTES and tiles >= LINES
    for block in range(part[0], part[1]):
        row = ZERO
        for t in range(tiles):
            line = t % LINES if far else NO_LINE
            rows = least + (t < taller)
            _tile_of_height(most_rows, rows, tile, row, block, line, job)
            row += rows


@spliced
def _tile_of_height(most_rows, rows, tile, row, block, line, job):
    # most_rows is a constant to Numba, which compiles only the heights that an even split of two rows or more comes to.
    if most_rows <= 2 and rows == 1:
        tile(ROWS_1, BLOCKS_1, row, block, line, job)
    elif most_rows >= 2 and rows == 2:
        tile(ROWS_2, BLOCKS_1, row, block, line, job)
    elif most_rows >= 3 and rows == 3:
        tile(ROWS_3, BLOCKS_1, row, block, line, job)
    elif most_rows >= 4 and rows == 4:
        tile(ROWS_4, BLOCKS_1, row, block, line, job)
    elif most_rows >= 5 and rows == 5:
        tile(ROWS_5, BLOCKS_1, row, block, line, job)
    elif most_rows >= 6 and rows == 6:
        tile(ROWS_6, BLOCKS_1, row, block, line, job)


@spliced
def sweep(most_rows, N, part, K, backwards, tile, job):
    """Call `tile` on tiles that cover N rows and blocks part[0] .. part[1] - 1; K inputs each."""
    if N == 1:
        sweep_row(part, backwards, tile, job)
    else:
        sweep_rows(most_rows, N, part, K, tile, job)
