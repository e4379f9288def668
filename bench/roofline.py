"""The roofline: the least time that one core needs for every shape, and what part of it lstmkernel reaches.

    python bench/roofline.py                                     # the grid, float32, the best C kernels here
    python bench/roofline.py --backend c:avx2 --dtype float64 --shape pyannote --shape silero_step --seconds 20

In rounds, on one core, the peaks are measured (fused multiply-adds, reads from every level of the caches, in vectors of
the backend's width) and lstmkernel runs. The best peaks of all rounds give the least time; see
lstmkernel/workbench/roofline/bounds.py. It is compared with the median of all calls. Needs a C compiler.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np
from samples import last_cores, timed

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.host.compile_c import CompileError
from lstmkernel.workbench import progress, shapes
from lstmkernel.workbench.roofline.bounds import Bound, Peaks, bound, working_set
from lstmkernel.workbench.roofline.probes import Probes
from lstmkernel.workbench.roofline.roofline import cell_seconds, lanes_of
from lstmkernel.workbench.shapes import Shape

ROUNDS = 5
#: Working sets for the table of reads: 16 KiB to 128 MiB. Every shape's own working set is read as well.
SIZES = tuple(1 << power for power in range(14, 28))


@dataclass(frozen=True)
class Row:
    """One shape."""

    shape: Shape
    least: Bound
    weights: int  # bytes that are read again and again
    read: float  # bytes a second, from the cache that holds its weights
    seconds: float  # median of a call
    calls: int

    @property
    def reached(self) -> float:
        """The least time as a part of the time taken: 1 is the bound."""
        return self.least.total / self.seconds

    def as_json(self) -> dict[str, Any]:
        sizes = dict(zip("BTIHLD", self.shape[1:7], strict=True))
        least = {**self.least._asdict(), "total": self.least.total, "bound_by": self.least.bound_by}
        measured = {
            "weights": self.weights,
            "bytes_per_second": self.read,
            "seconds": self.seconds,
            "calls": self.calls,
            "reached": self.reached,
        }
        return {"shape": self.shape.name, **sizes, "least": least, **measured}


def prepared(shape: Shape, backend: str, dtype: str) -> Callable[[], object]:
    """A call of lstmkernel with a network of that shape."""
    directions = {"bidirectional": shape.D == 2}
    lstm = lk.LSTM(shape.I, shape.H, shape.L, **directions, dtype=dtype, backend=backend, num_threads=1, seed=0)
    x = np.random.default_rng(1).standard_normal((shape.T, shape.B, shape.I)).astype(dtype)
    return lambda: lstm(x)


def measure(chosen: Sequence[Shape], name: str, dtype: str, seconds: float) -> tuple[Peaks, list[Row]]:
    """Measure the peaks and every shape in turns; ``seconds`` for all shapes together."""
    backend, itemsize = backends.get(name), np.dtype(dtype).itemsize
    lanes = lanes_of(backend, dtype)
    probes = Probes(backend.name.removeprefix("c:"), dtype, lanes * itemsize)
    calls = [prepared(shape, name, dtype) for shape in chosen]
    times: list[list[float]] = [[] for _ in chosen]
    sets = [working_set(shape, lanes, itemsize) for shape in chosen]
    flops, cell, reads = 0.0, float("inf"), dict.fromkeys([*SIZES, *sets], 0.0)
    with progress.bar() as bar:
        for _ in bar.track(range(ROUNDS), description="rounds"):
            for size in SIZES:
                reads[size] = max(reads[size], probes.read(size))
            for call, taken, size in zip(calls, times, sets, strict=True):
                flops, cell = max(flops, probes.flops()), min(cell, cell_seconds(backend, dtype))
                reads[size] = max(reads[size], probes.read(size))
                taken += timed(call, seconds / (len(chosen) * ROUNDS))
    peaks = Peaks(lanes, itemsize, flops, cell, reads)
    rows = [
        Row(shape, bound(shape, peaks), size, peaks.read(size), median(taken), len(taken))
        for shape, size, taken in zip(chosen, sets, times, strict=True)
    ]
    return peaks, rows


def markdown(peaks: Peaks, rows: Sequence[Row]) -> str:
    """The peaks, then every shape."""
    lines = [f"Fused multiply-adds {peaks.flops / 1e9:.0f} GFLOP/s, cell update {peaks.cell * 1e9:.3f} ns a unit.", ""]
    sizes = [size for size in SIZES if size in peaks.reads]
    lines += [_line(["read from", *map(_bytes, sizes)]), _line(["---", *["---:"] * len(sizes)])]
    lines += [_line(["GB/s", *(f"{peaks.reads[size] / 1e9:.0f}" for size in sizes)]), ""]
    heads = ["shape", "B,T,I,H[,L[,D]]", "weights", "at GB/s", "bound by", "least, us", "lstmkernel, us", "reached"]
    lines += [_line(heads), _line(["---", "---", "---:", "---:", "---", "---:", "---:", "---:"])]
    for row in rows:
        known = [row.shape.name, row.shape.sizes(), _bytes(row.weights), f"{row.read / 1e9:.0f}", row.least.bound_by]
        times = [f"{seconds * 1e6:,.1f}" for seconds in (row.least.total, row.seconds)]
        lines.append(_line([*known, *times, f"{row.reached:.0%}"]))
    worst = min(rows, key=lambda row: row.reached)
    lines += ["", f"- Reached, geometric mean: {geometric_mean(row.reached for row in rows):.0%}"]
    return "\n".join([*lines, f"- Worst row: {worst.shape.name}, {worst.reached:.0%}"])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _bytes(size: int) -> str:
    """ "256 KiB" """
    return f"{size / (1 << 10):.0f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.3g} MiB"


def plain(backend: str, dtype: str, peaks: Peaks, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything, for JSON."""
    about = {"date": date.today().isoformat(), "machine": lk.info(), "backend": backend, "dtype": dtype, "threads": 1}
    return {**about, "rounds": ROUNDS, "peaks": peaks._asdict(), "rows": [row.as_json() for row in rows]}


def main() -> None:
    here = [name for name in backends.usable() if name.startswith("c:")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", type=shapes.parse, help="a name of the grid, or B,T,I,H[,L[,D]]")
    parser.add_argument("--backend", choices=here, default="c", help="(the best one here)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(float32)")
    parser.add_argument("--seconds", type=float, default=60, help="to spend on timing the shapes, in all (60)")
    parser.add_argument("--json", metavar="FILE", help="also write all that was measured")
    options = parser.parse_args()
    backend = backends.get(options.backend).name
    try:
        with last_cores(1):
            peaks, rows = measure(options.shape or shapes.GRID, backend, options.dtype, options.seconds)
    except (backends.BackendError, CompileError) as reason:
        parser.error(str(reason))
    print(f"{backend}, {options.dtype}, one thread, {lk.info()['cpu']}, {date.today()}\n\n{markdown(peaks, rows)}")
    if options.json:
        Path(options.json).write_text(json.dumps(plain(backend, options.dtype, peaks, rows), indent=2))


if __name__ == "__main__":
    main()
