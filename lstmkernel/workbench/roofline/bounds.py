"""The least time of a call on one core, from the most that the core can do: the bound of the roofline.

Two things take time in any kernel:

- Arithmetic. The matrix products run at the peak of fused multiply-adds. The cell update of every unit runs at the
  speed that its kernel has in L1.
- Weights. They must come from the cache that holds them.

A call of several steps: the input product of many steps is one large matrix product, so it costs its arithmetic. The
recurrent product cannot wait for other steps: W_hh of one layer and direction, packed, is read at every step, because
layers and directions run one after the other over many steps. A step takes the larger of its arithmetic and that
reading, from the smallest cache that holds this W_hh.

A call of one step: the packed weights of every layer are read once. A layer takes the larger of its arithmetic and that
reading, from the smallest cache that holds the weights of all layers, because the next call reads all of them again.

Weights of fewer bits: a weight has 2 bytes or 1. Products of float16 weights run at the peak of fused multiply-adds,
those of 8-bit weights at the peak of the kernels' own dot products; activations of 16 bits may need two for one.

The bound leaves out: the wait of a small layer's step for H dependent additions and a cell update, before the next step
can begin (this limits one row of a small layer); the units of zeros that fill the last block; reading x and writing
out; scales of 8-bit weights, and making integers of x and h; the call itself from Python.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lstmkernel.workbench.shapes import Shape


class Peaks(NamedTuple):
    """The most that one core was seen to do."""

    lanes: int
    itemsize: int
    flops: float  # a second; with 8-bit weights, operations on integers
    cell: float  # seconds of the cell update of one unit of one row
    reads: dict[int, float]  # bytes a second, by the bytes of the working set

    def read(self, size: int) -> float:
        """Bytes a second from a working set of that size. A smaller set cannot be slower than a larger one."""
        return max(rate for measured, rate in self.reads.items() if measured >= size)

    def as_json(self) -> dict[str, Any]:
        """Plain values. The keys are public and stay as they are."""
        reads = [{"bytes": size, "bytes_per_second": rate} for size, rate in sorted(self.reads.items())]
        return {"flops_per_second": self.flops, "cell_seconds": self.cell, "reads": reads}


class Bound(NamedTuple):
    """The least seconds of each kind of work; their sum is the bound."""

    products: float
    cells: float
    weights: float

    @property
    def total(self) -> float:
        return sum(self)

    @property
    def bound_by(self) -> str:
        """The field with the most seconds."""
        return max(self._fields, key=lambda field: float(getattr(self, field)))


def widths(shape: Shape) -> list[int]:
    """The input size of every layer and direction."""
    return [shape.D * shape.H if layer else shape.I for layer in range(shape.L) for _ in range(shape.D)]


def packed_bytes(shape: Shape, columns: int, lanes: int, itemsize: int) -> int:
    """Bytes of so many columns of a layer's weights, with the units of zeros that fill the last block."""
    blocks = -(-shape.H // lanes)
    return blocks * lanes * 4 * columns * itemsize


def working_set(shape: Shape, lanes: int, itemsize: int) -> int:
    """Bytes of the weights that are read again and again."""
    if shape.T > 1:
        return packed_bytes(shape, shape.H, lanes, itemsize)
    return sum(packed_bytes(shape, I + shape.H + 1, lanes, itemsize) for I in widths(shape))


def bytes_read(shape: Shape, lanes: int, itemsize: int) -> int:
    """Bytes of weights that one call must read: at every step, W_hh of every layer and direction."""
    again = shape.T * shape.L * shape.D if shape.T > 1 else 1
    return again * working_set(shape, lanes, itemsize)


def bound(shape: Shape, peaks: Peaks) -> Bound:
    """The bound of one call, in the dtype of the peaks."""
    B, T, H = shape.B, shape.T, shape.H
    rate = peaks.read(working_set(shape, peaks.lanes, peaks.itemsize))
    products = cells = weights = 0.0
    for I in widths(shape):
        input_product, recurrent = (8 * B * H * columns / peaks.flops for columns in (I, H))  # of a step
        cell = B * H * peaks.cell
        if T > 1:
            products += T * input_product
            arithmetic, columns = recurrent, H
        else:
            arithmetic, columns = input_product + recurrent, I + H + 1
        reading = packed_bytes(shape, columns, peaks.lanes, peaks.itemsize) / rate
        if reading > arithmetic + cell:
            weights += T * reading
        else:
            products += T * arithmetic
            cells += T * cell
    return Bound(products, cells, weights)
