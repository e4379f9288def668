"""The least time of a call on one core, from what the core can do at most: the roofline's roof.

Two things cost time whatever the kernels do. Arithmetic: the matrix products at the peak of fused multiply-adds, and
the cell update of every unit at the speed that its kernel has in L1. And the weights, which must come from the cache
that holds them:

- Several steps: the input product of many steps is one large matrix product and costs its arithmetic. The recurrent one
  cannot wait for others: W_hh of one layer and direction, packed, is read at every step, as layers and directions run
  one after the other over many steps. A step takes the larger of its arithmetic and that reading, from the smallest
  cache that holds this W_hh.
- One step: every layer's weights, all of them packed, are read once a call. A layer takes the larger of its arithmetic
  and that reading, from the smallest cache that holds the weights of all layers, for the next call reads them again.

Not in it: that a step of a small layer waits for H dependent additions and a cell update before the next can begin
(which bounds one row of a small layer), the units of zeros that fill the last block, reading x and writing out, and the
call itself from Python.
"""

from __future__ import annotations

from typing import NamedTuple

from lstmkernel.workbench.shapes import Shape


class Peaks(NamedTuple):
    """What one core was seen to do at most."""

    lanes: int
    itemsize: int
    flops: float  # a second
    cell: float  # seconds of the cell update of one unit of one row
    reads: dict[int, float]  # bytes a second, by the bytes of the working set

    def read(self, size: int) -> float:
        """Bytes a second from a working set of that size; one that is smaller cannot be slower than a larger one."""
        return max(rate for measured, rate in self.reads.items() if measured >= size)


class LeastTime(NamedTuple):
    """Seconds, by what they are spent on; their sum is the bound."""

    products: float
    cells: float
    weights: float

    @property
    def total(self) -> float:
        return sum(self)

    @property
    def bound_by(self) -> str:
        """The field that has most of it."""
        return max(self._fields, key=lambda field: float(getattr(self, field)))


def widths(shape: Shape) -> list[int]:
    """The inputs of every layer and direction."""
    return [shape.D * shape.H if layer else shape.I for layer in range(shape.L) for _ in range(shape.D)]


def packed_bytes(shape: Shape, columns: int, lanes: int, itemsize: int) -> int:
    """Of so many columns of a layer's weights, with the units that fill the last block."""
    blocks = -(-shape.H // lanes)
    return blocks * lanes * 4 * columns * itemsize


def working_set(shape: Shape, lanes: int, itemsize: int) -> int:
    """The bytes of weights that are read again and again."""
    if shape.T > 1:
        return packed_bytes(shape, shape.H, lanes, itemsize)
    return sum(packed_bytes(shape, I + shape.H + 1, lanes, itemsize) for I in widths(shape))


def least_time(shape: Shape, peaks: Peaks) -> LeastTime:
    """Of one call, in float32 or float64 as the peaks are."""
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
    return LeastTime(products, cells, weights)
