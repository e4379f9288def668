"""The bounds that ``compare --roofline`` holds kernels and networks against, from measured peaks of one core."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel import backends
from lstmkernel.backends import Backend
from lstmkernel.backends.packing import empty
from lstmkernel.engine.precision import Precision
from lstmkernel.lstm import LSTM
from lstmkernel.workbench.cases import Case
from lstmkernel.workbench.roofline.bounds import Peaks, bound, bytes_read, packed_bytes, working_set
from lstmkernel.workbench.roofline.probes import INTEGERS, DotProbe, Probes, least_seconds
from lstmkernel.workbench.shapes import Shape

ROUNDS = 3
#: Working sets whose reading is measured whatever the cases are: one for each kind of cache, and one for memory.
SIZES = (1 << 14, 1 << 18, 1 << 22, 1 << 26)
#: The cell update that is measured lasts so long that the call from Python is a few percent of it. Its 768 KiB in
#: float32 come from L2, which is several times as fast as sigmoid and tanh.
CELL_ROWS, CELL_UNITS = 256, 128


def lanes_of(backend: Backend, dtype: DTypeLike) -> int:
    """The lanes of a vector: the units of a block."""
    column, bias = np.zeros((4, 1), dtype), np.zeros(4, dtype)
    return int(backend.pack_layer(column, column, bias, None).bias.shape[-1])


def cell_seconds(backend: Backend, dtype: DTypeLike) -> float:
    """Seconds of the cell update of one unit of one row."""
    lanes = lanes_of(backend, dtype)
    z = empty((CELL_ROWS, CELL_UNITS // lanes, 4, lanes), dtype)
    z[:] = 0.5
    c, h = np.ones((CELL_ROWS, CELL_UNITS), dtype), np.empty((CELL_ROWS, CELL_UNITS), dtype)
    return least_seconds(lambda: backend.cell_update(z, c, h)) / c.size


class Roofline:
    """Bounds of kernels and networks on one core, in the vectors of the best C kernels."""

    def __init__(
        self, cases: Iterable[Case], dtype: np.dtype[np.floating], precisions: Mapping[str, Precision]
    ) -> None:
        """Measure the peaks, for the weights of these cases. precisions: others than that of the dtype, by their names.

        Raises BackendError without the C kernels, CompileError without a C compiler.
        """
        backend = backends.get("c")
        lanes = lanes_of(backend, dtype)
        probes = Probes(backend.name.removeprefix("c:"), dtype, lanes * dtype.itemsize)
        products, itemsizes = {dtype.name: probes.flops}, {dtype.name: dtype.itemsize}
        for name, precision in precisions.items():
            if measured := products_of(probes, precision):
                products[name], itemsizes[name] = measured, weight_size(precision)
        sizes = {*SIZES}
        for itemsize in itemsizes.values():
            sizes |= {size for case in cases for size in _working_sets(case, lanes, itemsize)}
        rates, cell, reads = dict.fromkeys(products.values(), 0.0), float("inf"), dict.fromkeys(sizes, 0.0)
        for _ in range(ROUNDS):
            rates = {measured: max(rate, measured()) for measured, rate in rates.items()}
            cell = min(cell, cell_seconds(backend, dtype))
            for size in sizes:
                reads[size] = max(reads[size], probes.read(size))
        #: By the name of the precision, that of the dtype first. Those whose products cannot be measured are left out.
        self.peaks = {
            name: Peaks(lanes, itemsizes[name], rates[measured], cell, reads) for name, measured in products.items()
        }

    def bounds(self, cases: Sequence[Case], workloads: Sequence[str]) -> dict[tuple[str, str, str], float | None]:
        """The least seconds of each precision, case (its name) and workload; None where no bound is known."""
        return {
            (name, case.name, workload): self._bound(case, workload, peaks)
            for name, peaks in self.peaks.items()
            for workload in workloads
            for case in cases
        }

    def _bound(self, case: Case, workload: str, peaks: Peaks) -> float | None:
        known = BOUNDS.get(workload)
        return known(case, peaks) if known and not case.lstm.proj_size else None


def weight_size(precision: Precision) -> int:
    """Bytes of a weight."""
    return np.dtype(precision.weights).itemsize


def products_of(probes: Probes, precision: Precision) -> Callable[[], float] | None:
    """What measures the operations a second of a product; None where that cannot be measured."""
    if not precision.is_int8:
        return probes.flops  # weights of 16 bits are widened where they are loaded
    kernels = backends.int8_kernels()
    if kernels not in INTEGERS:
        return None
    return DotProbe(kernels, 8 * np.dtype(precision.activations).itemsize).operations


def _layer(case: Case) -> Shape:
    """The first layer, forwards."""
    T, B, I = case.x_steps.shape
    return Shape("", B, T, I, case.lstm.hidden_size, 1, 1, "")


def _network(case: Case) -> Shape | None:
    net, (T, B, I) = case.net, case.x.shape
    if not isinstance(net, LSTM):
        return None
    return Shape("", B, T, I, net.hidden_size, net.num_layers, 1 + net.bidirectional, "")


def _working_sets(case: Case, lanes: int, itemsize: int) -> list[int]:
    shapes = [shape for shape in (_layer(case), _network(case)) if shape is not None]
    gates = packed_bytes(shapes[0], shapes[0].I, lanes, itemsize)
    return [*(working_set(shape, lanes, itemsize) for shape in shapes), gates]


def _bound_of_network(case: Case, peaks: Peaks) -> float | None:
    shape = _network(case)
    return None if shape is None else bound(shape, peaks).total


def weight_bytes(case: Case, workload: str, peaks: Peaks) -> float | None:
    """Bytes of weights that a call reads as the bound has it; None where there is no bound."""
    if workload not in BOUNDS:
        return None
    shape = _network(case) if workload == "network" else _layer(case)
    if shape is None:
        return None
    if workload == "gate_matmul":
        return packed_bytes(shape, shape.I, peaks.lanes, peaks.itemsize)
    return bytes_read(shape, peaks.lanes, peaks.itemsize)


def _bound_of_gates(case: Case, peaks: Peaks) -> float:
    shape, N = _layer(case), len(case.x_rows)
    size = packed_bytes(shape, shape.I, peaks.lanes, peaks.itemsize)
    return max(8 * N * shape.I * shape.H / peaks.flops, size / peaks.read(size))


#: The bound of each workload that has one. The cell update has none: its peak is this project's own kernel.
BOUNDS: dict[str, Callable[[Case, Peaks], float | None]] = {
    "gate_matmul": _bound_of_gates,
    "layer_forward": lambda case, peaks: bound(_layer(case), peaks).total,
    "network": _bound_of_network,
}
