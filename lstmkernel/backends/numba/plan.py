"""How layer_forward divides its work, and what it needs of memory for that: plan_group of csrc/group.h.

``plan_group`` runs compiled, and as plain Python for ``workspace``: one definition, so that they cannot disagree.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple
from functools import lru_cache

from numba import int64

from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.memory import at, item_size, lanes, pointer, pointer_to_rows

MOST_GROUP_ROWS = 96
GROUP_Z_BYTES = 1 << 20  # of z for one step: wide layers take fewer rows a group, and the workspace stays small
CHUNK_BYTES = 1 << 18  # of z for a chunk of several steps: stays in L2 (512 KiB and more on most CPUs),
CHUNK_ROWS = 96  # unless that were fewer rows than W_ih should be read for,
MOST_CHUNK_BYTES = 1 << 21  # within reason
WORD = 8  # bytes of a pointer, a row number, a length

#: Padded widths of a row; rows of a group; steps of a chunk of time.
Plan = namedtuple("Plan", "c_stride h_stride z_stride rows steps")

#: A plan, and the workspace. row: each row's place in the batch; length: its number of steps; x: a pointer for each row
#: of z; hidden: o * tanh(c), where a projection makes h of it.
Group = namedtuple("Group", "c_stride h_stride z_stride rows steps row length x z c h h_next hidden")


@spliced
def plan_group(H, P, T, B, lanes, item_size):
    c_stride = (H + lanes - 1) // lanes * lanes
    h_stride = P or c_stride
    z_stride = 4 * c_stride
    z_bytes = z_stride * item_size
    most = max(1, min(MOST_GROUP_ROWS, GROUP_Z_BYTES // z_bytes))
    groups = max(1, (B + most - 1) // most)
    rows = max(1, (B + groups - 1) // groups)
    z_rows = max(CHUNK_BYTES // z_bytes, min(CHUNK_ROWS, MOST_CHUNK_BYTES // z_bytes))
    steps = max(1, min(T, z_rows // rows))
    return Plan(c_stride, h_stride, z_stride, rows, steps)


@lru_cache  # a call should cost what the kernel costs
def workspace(H: int, P: int, T: int, B: int, lanes: int, item_size: int) -> int:
    """Bytes."""
    plan = plan_group.py_func(H, P, T, B, lanes, item_size)
    z_rows = plan.steps * plan.rows
    reals = z_rows * plan.z_stride + plan.rows * 2 * (plan.c_stride + plan.h_stride)
    words = z_rows + 2 * plan.rows
    return int(_whole_words.py_func(reals * item_size) + words * WORD)


@spliced
def _whole_words(size):
    return (size + WORD - 1) // WORD * WORD


@internal
def lay_out(layer, T, B, work, real):
    """First what vectors are loaded from, to keep those within cache lines."""
    c_stride, h_stride, z_stride, rows, steps = plan_group(
        layer.hidden_size, layer.proj_size, T, B, lanes(layer.bias), item_size(layer.bias)
    )
    z = pointer(work, real)
    c = at(z, steps * rows * z_stride)
    hidden = at(c, rows * c_stride)
    h = at(hidden, rows * c_stride)
    h_next = at(h, rows * h_stride)
    reals = (steps * z_stride + 2 * c_stride + 2 * h_stride) * rows
    words = work + _whole_words(reals * item_size(z))
    row, length = pointer(words, int64), pointer(words + rows * WORD, int64)
    x = pointer_to_rows(words + 2 * rows * WORD, real)
    return Group(c_stride, h_stride, z_stride, rows, steps, row, length, x, z, c, h, h_next, hidden)
