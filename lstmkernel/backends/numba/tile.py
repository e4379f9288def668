"""The register tile under every matrix product, and the sweep that covers a matrix with tiles: csrc/tile.h.

A tile function has the signature ``tile(rows, panels, row, block, start, stop, job)``: rows from `row` on, blocks from
`block` on, and inputs start .. stop - 1. `rows` and `panels` are tuples of numbers, for their lengths (registers.py).
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

import numpy as np

from lstmkernel.backends.numba.jit import spliced
from lstmkernel.backends.numba.memory import at, item_size
from lstmkernel.backends.numba.registers import fma_tile, quad
from lstmkernel.backends.numba.target import TILE_PANELS, TILE_ROWS

ROWS_1, ROWS_2, ROWS_3, ROWS_4, ROWS_5, ROWS_6 = (tuple(range(rows)) for rows in range(1, 7))
PANELS_1, PANELS = (0,), tuple(range(TILE_PANELS))

#: Numba compiles a function anew for an argument that is a literal; a NumPy number is a plain int64 to it.
ZERO = np.int64(0)

#: Half of L1, for the weights of a block.
SLICE_BYTES = 1 << 14


@spliced
def slice_of(p):
    """SLICE: as many inputs k as keep the weights of a block in SLICE_BYTES."""
    return SLICE_BYTES // (quad(p) * item_size(p))


@spliced
def accumulate(tile, x, start, stop, w, panel_stride, panels):
    """tile[r, p, g] += sum over k = start .. stop - 1, in order, of x[r][k] * w[p][k][g].

    w is packed [panel][K][4][LANES], panels panel_stride apart.
    """
    w = at(w, start * quad(w))
    for k in range(start, stop):
        tile = fma_tile(tile, x, k, w, panel_stride, panels)
        w = at(w, quad(w))
    return tile


@spliced
def sweep(N, blocks, K, slice_, tile, job):
    """Call `tile` on tiles that cover N rows, `blocks` blocks and K inputs.

    Blocks are the outer loop, so that a slice of a block's weights is read once from L2 or beyond, and then from L1 for
    every tile of rows; a tile of a later slice carries the sums of the earlier ones on, in the same order. Rows are
    split evenly (8 rows are 4 + 4, not 6 + 2).
    """
    if N == 1:  # every weight is used once: no slices, but several blocks for enough accumulators
        block = ZERO
        while block + TILE_PANELS <= blocks:
            tile(ROWS_1, PANELS, ZERO, block, ZERO, K, job)
            block += TILE_PANELS
        while block < blocks:
            tile(ROWS_1, PANELS_1, ZERO, block, ZERO, K, job)
            block += 1
        return
    tiles = (N + TILE_ROWS - 1) // TILE_ROWS
    least = N // tiles if tiles else 0
    taller = N % tiles if tiles else 0
    for block in range(blocks):
        start = ZERO
        while start < K:  # a range would check its step, and raise
            stop = min(start + slice_, K)
            row = ZERO
            for t in range(tiles):
                rows = least + (t < taller)
                _tile_of_height(rows, tile, row, block, start, stop, job)
                row += rows
            start = stop


@spliced
def _tile_of_height(rows, tile, row, block, start, stop, job):
    if rows == 1:
        tile(ROWS_1, PANELS_1, row, block, start, stop, job)
    elif rows == 2:
        tile(ROWS_2, PANELS_1, row, block, start, stop, job)
    elif rows == 3:
        tile(ROWS_3, PANELS_1, row, block, start, stop, job)
    # Taller ones are compiled only where TILE_ROWS, a constant to Numba, lets them be used.
    if TILE_ROWS > 3:
        if rows == 4:
            tile(ROWS_4, PANELS_1, row, block, start, stop, job)
        elif rows == 5:
            tile(ROWS_5, PANELS_1, row, block, start, stop, job)
        elif rows == 6:
            tile(ROWS_6, PANELS_1, row, block, start, stop, job)
