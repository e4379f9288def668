"""One call of a network whose layers need several kernels, because their weights have different numbers of bits.

Neighbouring layers that need the same kernel are a part (weights.Network.parts). One part runs over all of time after
the other, each with a kernel call of its own. In one direction, every part but the first reads its input from out, and
writes over it. In two directions, parts alternate between out and ``between``, as layers do in run/forward.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from lstmkernel.backends.numba.arrays import Place, address, addresses
from lstmkernel.backends.numba.weights import Network
from lstmkernel.backends.packing import Array, empty


class Call(Protocol):
    """The kernel call of a part."""

    def run_at(self, places: Sequence[Place], /) -> None: ...


def part_strides(net: Network, B: int, strides: Sequence[int]) -> list[tuple[int, ...]]:
    """For each part the strides of its x and its out: of a step and of a row. strides: those of x and out."""
    x, out = tuple(strides[:2]), tuple(strides[2:])
    width = 2 * net.output_size
    between = out if net.directions == 1 else (B * width, width)
    written = [out if _is_to_out(net, place) else between for place in range(len(net.parts))]
    return [(*read, *write) for read, write in zip([x, *written], written, strict=False)]


def _is_to_out(net: Network, part: int) -> bool:
    return net.directions == 1 or (len(net.parts) - 1 - part) % 2 == 0


class LayersInTurn:
    """It is run as one call is."""

    def __init__(self, net: Network, calls: Sequence[Call], extent: tuple[int, int], state_rows: int) -> None:
        """calls: of each part. extent: T and B."""
        self._net, self._calls = net, calls
        self._between = (*extent, 2 * net.output_size) if net.directions == 2 else None
        #: Bytes of one layer's states, h and c, in all of its directions.
        rows = net.directions * state_rows * net.dtype.itemsize
        self._states = (rows * net.output_size, rows * net.hidden_size)

    def run_at(self, places: Sequence[Place]) -> None:
        x, *marks, h, c, out = addresses(places)
        between = None if self._between is None else empty(self._between, self._net.dtype)
        for place, (part, call) in enumerate(zip(self._net.parts, self._calls, strict=True)):
            to = out if between is None or _is_to_out(self._net, place) else address(between)
            call.run_at((x, *marks, h, c, to))
            x = to
            h, c = (at + part.num_layers * size for at, size in zip((h, c), self._states, strict=True))

    def prepared(self) -> Callable[[Array, Array, Array, Array], None]:
        """``run_at`` for contiguous arrays without lengths."""
        return lambda x, h, c, out: self.run_at((x, None, None, None, None, h, c, out))
