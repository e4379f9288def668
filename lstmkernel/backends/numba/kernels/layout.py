"""How many rows run through time together, how many steps make a chunk, and where both lie in the workspace.

The Numba form of csrc/kernels/layout.h. A row group is at most MOST_GROUP_ROWS rows that run through all of time
together. A chunk is some steps of a row group whose z is made by one matrix product. `plan_group` runs compiled;
`workspace` runs the same functions as plain Python, so the two cannot disagree.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple
from functools import lru_cache

from numba import int64

from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.kernels.quantized import Integers
from lstmkernel.backends.numba.memory import at, cast, item_size, lanes, pointer, pointer_to_rows
from lstmkernel.backends.numba.run.cost import (
    CELL_CYCLES,
    CHUNK_BYTES,
    CHUNK_ROWS,
    FAR_PARTS,
    L1_BYTES,
    TRANSPOSED_PER_CYCLE,
    VECTOR_CYCLES,
)
from lstmkernel.backends.numba.target import DOT, TILE_ROWS

#: Rows of a group: at most MOST_GROUP_ROWS, and fewer where z of one step would be more than GROUP_Z_BYTES, so that the
#: workspace of wide layers stays small. Rows of z of a chunk: as many as CHUNK_BYTES hold; of wide layers at least
#: CHUNK_ROWS, but never more than MOST_CHUNK_BYTES hold.
MOST_GROUP_ROWS, GROUP_Z_BYTES, MOST_CHUNK_BYTES = 96, 1 << 20, 1 << 21

#: Bytes of a pointer, a row number, a length.
WORD = 8

#: Padded widths of a row; rows of a group; steps of a chunk; whether lanes are rows (transposed.py).
Plan = namedtuple("Plan", "c_stride h_stride z_stride rows steps transposed")

#: A plan, and the workspace. row: each row's place in the batch; length: its number of steps; x: a pointer for each row
#: of z; hidden: o * tanh(c), where a projection makes h of it.
RowGroup = namedtuple("RowGroup", "c_stride h_stride z_stride rows steps transposed row length x z c h h_next hidden")

#: A row group of a layer with 8-bit weights. integers: what this thread multiplies in the phase at hand.
IntegerGroup = namedtuple("IntegerGroup", (*RowGroup._fields, "integers"))


@spliced
def worth_transposing(I, H, P, B, lanes, item_size):
    """Whether a step costs less with lanes that are rows, by the cycles of cost.py."""
    vector = VECTOR_CYCLES * (I + H) + CELL_CYCLES
    near = (I + H) * (4 + TILE_ROWS) * lanes * item_size <= L1_BYTES
    as_units = B * ((H + lanes - 1) // lanes) * vector
    as_rows = (B + lanes - 1) // lanes * H * vector + B * (I + H) // TRANSPOSED_PER_CYCLE
    return not P and (as_rows if near else as_rows + as_rows // FAR_PARTS) < as_units


@spliced
def most_rows(z_bytes):
    """Of a group, where a row of z has so many bytes."""
    return max(1, min(MOST_GROUP_ROWS, GROUP_Z_BYTES // z_bytes))


@spliced
def most_z_rows(z_bytes):
    """Of a chunk."""
    return max(CHUNK_BYTES // z_bytes, min(CHUNK_ROWS, MOST_CHUNK_BYTES // z_bytes))


@spliced
def plan_group(I, H, P, T, B, lanes, item_size, can_transpose=True):
    c_stride = (H + lanes - 1) // lanes * lanes
    h_stride = P or c_stride
    z_stride = 4 * c_stride
    if can_transpose and worth_transposing(I, H, P, B, lanes, item_size):
        vectors = (B + lanes - 1) // lanes
        tiles = (vectors + TILE_ROWS - 1) // TILE_ROWS
        return Plan(c_stride, h_stride, z_stride, (vectors + tiles - 1) // tiles * lanes, 1, True)
    z_bytes = z_stride * item_size
    groups = max(1, (B + most_rows(z_bytes) - 1) // most_rows(z_bytes))
    rows = max(1, (B + groups - 1) // groups)
    steps = max(1, min(T, most_z_rows(z_bytes) // rows))
    return Plan(c_stride, h_stride, z_stride, rows, steps, False)


@lru_cache  # a call should cost what the kernel costs
def workspace(I: int, H: int, P: int, T: int, B: int, lanes: int, item_size: int) -> int:
    """Bytes. Enough for fewer steps and fewer rows, too, which may be grouped in another way."""
    c_stride = (H + lanes - 1) // lanes * lanes
    z_bytes = 4 * c_stride * item_size
    rows, transposed_rows = min(B, most_rows.py_func(z_bytes)), min((B + lanes - 1) // lanes, TILE_ROWS) * lanes
    z_rows = max(rows, min(T * rows, most_z_rows.py_func(z_bytes)))
    reals = max(z_rows * 4 * c_stride + rows * 2 * (c_stride + (P or c_stride)), transposed_rows * (I + 3 * H))
    words = max(z_rows, transposed_rows) + 2 * max(rows, transposed_rows)
    return int(_whole_words.py_func(reals * item_size) + words * WORD)


def integer_bytes(I: int, H: int, P: int, T: int, B: int, lanes: int, item_size: int, bits: int) -> int:
    """What a layer with 8-bit weights takes beside its workspace. bits: of an activation."""
    z_bytes = -(-H // lanes) * lanes * 4 * item_size
    rows = min(B, most_rows.py_func(z_bytes))
    z_rows = max(rows, min(T * rows, most_z_rows.py_func(z_bytes)))
    of_x, of_h = (-(-width // lanes) * lanes * DOT[bits].bytes for width in (I, max(H, P)))
    return int(z_rows * (of_x + item_size) + rows * of_h)


@spliced
def _whole_words(size):
    return (size + WORD - 1) // WORD * WORD


@internal
def lay_out(layer, T, B, work, own_work, real, can_transpose):
    """What vectors are loaded from comes first, so that it stays within cache lines.

    work: of the threads that share the layer. own_work: of this one. They are the same where it is alone.
    """
    I, H, P = layer.input_size, layer.hidden_size, layer.proj_size
    c_stride, h_stride, z_stride, rows, steps, transposed = plan_group(
        I, H, P, T, B, lanes(layer.bias), item_size(layer.bias), can_transpose
    )
    z = pointer(work, real)
    c = at(z, steps * rows * z_stride)
    hidden = at(c, rows * c_stride)
    h = at(hidden, rows * c_stride)
    h_next = at(h, rows * h_stride)
    reals = rows * (I + 3 * H) if transposed else rows * (steps * z_stride + 2 * c_stride + 2 * h_stride)
    words = own_work + _whole_words(reals * item_size(z))
    row, length = pointer(words, int64), pointer(words + rows * WORD, int64)
    x = pointer_to_rows(words + 2 * rows * WORD, real)
    return RowGroup(c_stride, h_stride, z_stride, rows, steps, transposed, row, length, x, z, c, h, h_next, hidden)


@spliced
def add_integers(group, kind, real):
    """The group with room for integers, after its pointers. kind: the type of an activation."""
    z_rows = group.rows * group.steps
    amplitude = cast(at(group.x, z_rows), real)
    return IntegerGroup(*group[:], Integers(cast(at(amplitude, z_rows), kind), amplitude))
