"""How the Numba backend divides its work: which tiles a sweep visits, and the groups and chunks of a layer.

Results do not depend on any of it, so the tests that compare bits cannot see it; speed does.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from itertools import product

import numpy as np
import pytest
from helpers import ROOT

pytest.importorskip("numba")

from numba import int64, njit
from numba.types import int8, int16

from lstmkernel.backends.numba import jit
from lstmkernel.backends.numba.kernels import layout, quantized, tile
from lstmkernel.backends.numba.memory import at, pointer
from lstmkernel.backends.numba.target import TILE_ROWS, VECTOR_BYTES
from lstmkernel.backends.numba.vec.dot import levels_of
from lstmkernel.backends.packing import part_inputs

NONE = tile.NO_LINE


@jit.inlined
def note(rows, blocks, row, block, line, job):
    """A tile function that writes down how it was called. job: an address, of the number of calls and then of them."""
    calls = pointer(job, int64)
    call = at(calls, 1 + 5 * calls[0])
    call[0], call[1], call[2], call[3], call[4] = len(rows), len(blocks), row, block, line
    calls[0] += 1


@cache
def compiled_sweep(most_rows):
    @njit(error_model="numpy")
    def sweep(N, first, blocks, K, backwards, job):
        tile.sweep(most_rows, N, (first, first + blocks), K, backwards, note, job)

    return sweep


def tiles(most_rows, N, blocks, K=5, backwards=False, first=0):
    """[(rows, blocks, row, block, line), ...] in the order of the sweep."""
    calls = np.zeros(1 + 5 * 1000, np.int64)
    compiled_sweep(most_rows)(N, first, blocks, K, backwards, calls.ctypes.data)
    return [tuple(map(int, call)) for call in calls[1:].reshape(-1, 5)[: calls[0]]]


@pytest.mark.slow
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("blocks", range(8))
def test_a_row_takes_each_block_once(blocks, backwards):
    visited = tiles(3, 1, blocks, backwards=backwards)
    from_first = visited[::-1] if backwards else visited
    assert [block + b for _, width, _, block, _ in from_first for b in range(width)] == list(range(blocks))
    assert all((rows, row, line) == (1, 0, NONE) for rows, _, row, _, line in visited)


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize(
    ("blocks", "widths"), [(1, [1]), (2, [2]), (3, [3]), (4, [2, 2]), (5, [2, 2, 1]), (6, [2, 2, 2]), (7, [2, 2, 2, 1])]
)
def test_a_row_takes_several_blocks_at_once(blocks, widths, backwards):
    assert [call[1] for call in tiles(3, 1, blocks, backwards=backwards)] == widths


@pytest.mark.slow
@pytest.mark.parametrize("most_rows", [1, 3, 6])
def test_rows_are_split_evenly_for_each_block(most_rows):
    for N in (0, *range(2, 30)):
        visited = tiles(most_rows, N, 3)
        covered = [(block, row + r) for rows, _, row, block, _ in visited for r in range(rows)]
        heights = [call[0] for call in visited] or [0]
        assert covered == list(product(range(3), range(N)))
        assert len(visited) == 3 * -(-N // most_rows)
        assert max(heights) - min(heights) <= 1
        assert all((width, line) == (1, NONE) for _, width, _, _, line in visited)


@pytest.mark.parametrize(("N", "backwards"), [(1, False), (1, True), (7, False)])
@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
def test_a_part_of_the_blocks(blocks, N, backwards):
    """As it takes the first ones, but further on."""
    whole, part = (tiles(3, N, blocks, backwards=backwards, first=first) for first in (0, 4))
    assert part == [(rows, width, row, block + 4, line) for rows, width, row, block, line in whole]


def test_tiles_prefetch_a_line_each_of_weights_that_are_far():
    lines = 4 * VECTOR_BYTES // 64
    near = tile.FAR_BYTES // (2 * 4 * VECTOR_BYTES)  # inputs of two blocks that are just near enough
    for N, K, expected in (
        (3 * lines, near + 1, [*range(lines)]),
        (3 * lines + 3, near + 1, [*range(lines), 0]),
        (3 * lines, near, [NONE] * lines),
        (3 * lines - 3, near + 1, [NONE] * (lines - 1)),  # too few tiles for all lines
    ):
        assert [call[4] for call in tiles(3, N, 2, K)] == 2 * expected


@pytest.mark.parametrize(
    ("H", "B", "rows", "steps"),
    [
        (128, 1, 1, 128),  # 256 KiB of z
        (128, 32, 32, 4),
        (128, 100, 50, 2),  # two groups of even size
        (1024, 1, 1, 96),  # 96 rows of z
        (1024, 32, 32, 3),
        (4096, 1, 1, 32),  # 2 MiB of z
        (4096, 64, 16, 2),
        (128, 0, 1, 128),
    ],
)
def test_groups_and_chunks(H, B, rows, steps):
    for T in (1000, 2):
        divided = plan_group(H, H, 0, T, B, 16, 4)
        assert (divided.rows, divided.steps, divided.transposed) == (rows, min(steps, T), False)


@njit
def plan_group(I, H, P, T, B, lanes, item_size):
    return layout.plan_group(I, H, P, T, B, lanes, item_size)


@pytest.mark.parametrize("vectors", [1, 5, 6, 7, 12, 13])
def test_groups_of_transposed_rows(vectors):
    """20 units would use 63% of two vectors of 16 lanes."""
    groups = -(-vectors // TILE_ROWS)
    rows = -(-vectors // groups)
    for B in (16 * vectors, 16 * vectors - 3):
        divided = plan_group(15, 20, 0, 365, B, 16, 4)
        assert (divided.transposed, divided.steps, divided.rows) == (True, 1, 16 * rows)
    assert not plan_group(15, 20, 5, 365, 16 * vectors, 16, 4).transposed  # a projection
    assert not plan_group(15, 32, 0, 365, 16 * vectors, 16, 4).transposed  # nothing to save


#: Constants of Numba's that differ from C's, or that C does not have, and why.
OTHER = {
    "GFLOPS_FORWARD": "C predicts with lanes",
    "MIN_COST_ROWS": "C predicts with the caches",
    "MIN_SHARED_NS": "C asks JOIN_NS",
    "WAKING_NS": "C's threads wake without the GIL",
    "MOST_PACKED": "C has it in Python",
    "MIN_ROWS_PER_TASK": "Numba's tasks are all of time",
    "TILE_ROWS": "C's depends on the instruction set, in vec/",
    "SMALL_TILE_ROWS": "follows from TILE_ROWS",
    "VECTOR_BYTES": "C has LANES",
    "INPUT_BYTES": "follows from VECTOR_BYTES",
    "LINES": "follows from VECTOR_BYTES",
    "LINE_BYTES": "C has LINE, in elements",
    "MOST_VECTORS": "taller tiles take long to compile",
    "RUN": "LLVM",
    "WORD": "C has sizeof",
}


def constants_of_c():
    """{name: values}: every NAME = number in csrc, whichever file it stands in."""
    found = {}
    for source in (ROOT / "csrc").rglob("*.[ch]"):
        for name, base, shift in re.findall(r"\b([A-Z][A-Z0-9_]+) = (\d+)(?: << (\d+))?[ ,;\n]", source.read_text()):
            found.setdefault(name, set()).add(int(base) << int(shift or 0))
    return found


def constants_of_numba():
    """{name: value}: every whole number with a name in capitals, in the modules that mirror csrc."""
    found = {}
    for folder in ("kernels", "run"):
        for path in sorted((ROOT / "lstmkernel/backends/numba" / folder).glob("*.py")):
            if path.stem == "board":  # places of words, where C has structs
                continue
            module = importlib.import_module(f"lstmkernel.backends.numba.{folder}.{path.stem}")
            found |= {
                name: value
                for name, value in vars(module).items()
                if re.fullmatch("[A-Z][A-Z0-9_]+", name) and type(value) is int
            }
    return found


def test_constants_are_those_of_c():
    of_c = constants_of_c()
    if not of_c:
        pytest.skip("no C sources")
    of_numba = constants_of_numba()
    assert set(OTHER) <= set(of_numba)
    for name in set(of_numba) - set(OTHER):
        assert of_c.get(name, of_c.get(f"LK_{name}")) == {of_numba[name]}, name


def test_constants_of_8_bit_weights_are_those_of_c():
    """They depend on the bits of an activation, or are not whole."""
    path = ROOT / "csrc/kernels/quantized.h"
    if not path.exists():
        pytest.skip("no C sources")
    source = path.read_text()
    levels = [levels_of(kind) for kind in (int16, int8)]
    shorts, large = map(part_inputs, levels)
    assert "LEVELS = LK_I8 == 16 ? {} : {},".format(*levels) in source
    assert f"PART_INPUTS = LK_I8 == 16 ? {shorts} : 1 << {large.bit_length() - 1} }}" in source
    assert large.bit_count() == 1
    assert f"NEARLY_ONE = 1 + 0x1p{np.log2(float(quantized.NEARLY_ONE) - 1):.0f}f;" in source
    assert f"LEAST_AMPLITUDE = 0x1p{np.log2(float(quantized.LEAST_AMPLITUDE)):.0f}f;" in source
