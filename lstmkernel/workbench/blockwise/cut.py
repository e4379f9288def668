"""Which blocks a run takes: small ones, so that memory is bounded and the progress bar moves."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from lstmkernel.lstm import LSTM
from lstmkernel.workbench.blockwise.arrays import Index, Shape
from lstmkernel.workbench.networks import Net, layers, lstms

#: Bytes of a block: its input, its output and what is between the layers. Such arrays are reused by the C library's
#: allocator, where those of more than 32 MB come from the system each time.
BLOCK_BYTES = 1 << 24
#: A block's multiplications and additions, so that the bar moves at least about once a second ...
BLOCK_FLOPS = 8e9
#: ... but at least so many steps of rows, so that the cost of a call does not show.
LEAST_STEPS = 1024
#: At least so many rows are taken together, because single rows are slow; and of an array with time first so many
#: steps, because each step of some rows is a piece of the file for itself.
LEAST_ROWS, LEAST_TIMES = 256, 64
#: What Python, NumPy and the kernels take themselves.
OWN_BYTES = 1 << 28

BACKWARDS = "a layer runs backwards, so each row is taken whole"


class Grid(NamedTuple):
    """The first axes of an array: T steps of B rows. An array that is not batched has one row and no axis for it."""

    T: int
    B: int
    batched: bool
    rows_first: bool

    @classmethod
    def of(cls, shape: Shape, rows_first: bool) -> Grid:
        """shape: (T, I), (T, B, I), or (B, T, I) where the rows come first."""
        if len(shape) == 2:
            return cls(shape[0], 1, False, rows_first)
        return cls(shape[1], shape[0], True, True) if rows_first else cls(shape[0], shape[1], True, False)

    def part(self, times: slice, rows: slice) -> Index:
        """The index of these times of these rows."""
        if not self.batched:
            return (times,)
        return (rows, times) if self.rows_first else (times, rows)

    def leading(self) -> Shape:
        """The sizes of the first axes."""
        if not self.batched:
            return (self.T,)
        return (self.B, self.T) if self.rows_first else (self.T, self.B)


class Cut(NamedTuple):
    """Rows are taken ``rows`` at a time; and of these, one after the other, ``times`` steps."""

    rows: int
    times: int


def needs_whole_rows(net: Net) -> bool:
    """Whether a layer runs backwards: it begins at each row's end."""
    return any(any(lstm.shape.backwards) for lstm in lstms(net))


def bytes_a_step(net: Net, itemsize: int) -> int:
    """What one step of one row takes while it is computed: input of that itemsize, and what the layers give.

    The output counts twice: that of the block before is being written.
    """
    widths = [lstm.out_features * (lstm.num_layers if isinstance(lstm, LSTM) else 1) for lstm in layers(net)]
    return itemsize * net.input_size + net.dtype.itemsize * (net.input_size + sum(widths) + 2 * net.out_features)


def steps_a_block(net: Net, itemsize: int) -> int:
    """How many steps of rows a block has."""
    flops = 2 * sum(prod(shape) for shape in net.parameter_shapes().values())
    return max(LEAST_STEPS, min(BLOCK_BYTES // bytes_a_step(net, itemsize), int(BLOCK_FLOPS // flops)))


def cut(net: Net, grid: Grid, itemsize: int, memory: float) -> Cut:
    """How to cut the grid. ValueError if a row that must be taken whole needs more than ``memory`` bytes."""
    T, B, steps = max(grid.T, 1), max(grid.B, 1), steps_a_block(net, itemsize)
    if needs_whole_rows(net):
        require_memory(net, T, itemsize, memory, BACKWARDS)
        return Cut(_rows(max(1, steps // T), B), T)
    together = T if grid.rows_first else min(T, LEAST_TIMES)
    rows = _rows(max(LEAST_ROWS, steps // together), B)
    return Cut(rows, min(T, max(1, steps // rows)))


def require_memory(net: Net, T: int, itemsize: int, memory: float, why: str) -> None:
    """ValueError, with a way out, if T steps at once need more than ``memory`` bytes. why: they are not divided."""
    needed = T * bytes_a_step(net, itemsize) + OWN_BYTES
    if needed > memory:
        raise ValueError(
            f"{why}, and {T} steps need about {needed / 1e9:.1f} GB; "
            f"allow that with --memory {needed / 1e9 + 0.1:.1f}, or cut the rows into shorter ones"
        )


def _rows(wanted: int, B: int) -> int:
    """Full vectors of rows where there are many."""
    return min(B, wanted - wanted % 64 if wanted > 64 else wanted)


def slices(size: int, most: int) -> Iterator[slice]:
    """0..size in slices of at most ``most``; an empty one where size is 0."""
    for start in range(0, size, most) if size else [0]:
        yield slice(start, min(start + most, size))
