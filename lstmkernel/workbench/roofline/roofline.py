"""How near a kernel or a network comes to what one core can do: the roof that ``compare --roofline`` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel import backends
from lstmkernel.backends import Backend
from lstmkernel.backends.packing import empty
from lstmkernel.lstm import LSTM
from lstmkernel.workbench.cases import Problem
from lstmkernel.workbench.roofline.bounds import Peaks, least_time, packed_bytes, working_set
from lstmkernel.workbench.roofline.probes import Probes, least_seconds
from lstmkernel.workbench.shapes import Shape

ROUNDS = 3
#: Of a cell update that lasts long enough for Python's part to be a few percent of it. Its 768 KiB in float32 come from
#: L2, several times as fast as sigmoid and tanh can take them.
CELL_ROWS, CELL_UNITS = 256, 128


def lanes_of(backend: Backend, dtype: DTypeLike) -> int:
    column, bias = np.zeros((4, 1), dtype), np.zeros(4, dtype)
    return int(backend.pack_layer(column, column, bias, None).bias.shape[-1])


def cell_seconds(backend: Backend, dtype: DTypeLike) -> float:
    """The cell update of one unit of one row."""
    lanes = lanes_of(backend, dtype)
    z = empty((CELL_ROWS, CELL_UNITS // lanes, 4, lanes), dtype)
    z[:] = 0.5
    c, h = np.ones((CELL_ROWS, CELL_UNITS), dtype), np.empty((CELL_ROWS, CELL_UNITS), dtype)
    return least_seconds(lambda: backend.cell_update(z, c, h)) / c.size


class Roof:
    """The least times of kernels and networks on one core, by the best C kernels' vectors."""

    def __init__(self, subjects: Iterable[Problem], dtype: np.dtype[np.floating]) -> None:
        """Measure the peaks, for the weights of these problems. Raises BackendError without C kernels or compiler."""
        backend = backends.get("c")
        lanes = lanes_of(backend, dtype)
        probes = Probes(backend.name.removeprefix("c:"), dtype, lanes * dtype.itemsize)
        sizes = {size for subject in subjects for size in _working_sets(subject, lanes, dtype.itemsize)}
        flops, cell, reads = 0.0, float("inf"), dict.fromkeys(sizes, 0.0)
        for _ in range(ROUNDS):
            flops, cell = max(flops, probes.flops()), min(cell, cell_seconds(backend, dtype))
            for size in sizes:
                reads[size] = max(reads[size], probes.read(size))
        self._peaks = Peaks(lanes, dtype.itemsize, flops, cell, reads)

    def least(self, what: str, subject: Problem) -> float | None:
        """Seconds of that work; None where no bound is known."""
        bound = LEAST.get(what)
        return bound(subject, self._peaks) if bound and not subject.lstm.proj_size else None


def _layer(subject: Problem) -> Shape:
    """The first layer, forwards."""
    T, B, I = subject.x_steps.shape
    return Shape("", B, T, I, subject.lstm.hidden_size, 1, 1, "")


def _network(subject: Problem) -> Shape | None:
    net, (T, B, I) = subject.net, subject.x.shape
    if not isinstance(net, LSTM):
        return None
    return Shape("", B, T, I, net.hidden_size, net.num_layers, 1 + net.bidirectional, "")


def _working_sets(subject: Problem, lanes: int, itemsize: int) -> list[int]:
    shapes = [shape for shape in (_layer(subject), _network(subject)) if shape is not None]
    gates = packed_bytes(shapes[0], shapes[0].I, lanes, itemsize)
    return [*(working_set(shape, lanes, itemsize) for shape in shapes), gates]


def _least_of_network(subject: Problem, peaks: Peaks) -> float | None:
    shape = _network(subject)
    return None if shape is None else least_time(shape, peaks).total


def _least_of_gates(subject: Problem, peaks: Peaks) -> float:
    shape, N = _layer(subject), len(subject.x_rows)
    size = packed_bytes(shape, shape.I, peaks.lanes, peaks.itemsize)
    return max(8 * N * shape.I * shape.H / peaks.flops, size / peaks.read(size))


#: The bound of each work that has one; that of cells is the project's own kernel.
LEAST: dict[str, Callable[[Problem, Peaks], float | None]] = {
    "gate_matmul": _least_of_gates,
    "layer_forward": lambda subject, peaks: least_time(_layer(subject), peaks).total,
    "network": _least_of_network,
}
