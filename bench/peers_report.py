"""The results of peers.py: as a Markdown table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from statistics import geometric_mean, median
from typing import Any

from contenders import BASELINE, OURS, PEERS
from samples import percentile

from lstmkernel.host import numbers_text
from lstmkernel.tuning import accuracy
from lstmkernel.workbench.shapes import Shape

#: lstmkernel on one thread, where all others have several.
ALONE = "lstmkernel, 1 thread"


@dataclass(frozen=True)
class Timing:
    """One contender on one shape; in seconds."""

    median: float
    p99: float  # of all calls of all rounds
    calls: int
    error: float  # in multiples of the tolerance

    @classmethod
    def of(cls, times: Sequence[float], error: float) -> Timing:
        return cls(median(times), percentile(times, 99), len(times), error)


@dataclass(frozen=True)
class Row:
    """All contenders on one shape."""

    shape: Shape
    timings: dict[str, Timing]
    failed: dict[str, str] = field(default_factory=dict)  # contenders without a timing, and why

    @property
    def ours(self) -> Timing:
        return self.timings[OURS]

    @property
    def best_peer(self) -> str | None:
        """The fastest of PEERS; None where there is none."""
        there = [name for name in PEERS if name in self.timings]
        return min(there, key=lambda name: self.timings[name].median, default=None)

    def times(self, contender: str) -> float:
        """The contender's time over lstmkernel's; above 1, lstmkernel is faster."""
        return self.timings[contender].median / self.ours.median

    @property
    def tail(self) -> float:
        """lstmkernel's p99 over its median."""
        return self.ours.p99 / self.ours.median

    def as_json(self) -> dict[str, Any]:
        return {
            "shape": self.shape.name,
            **dict(zip("BTIHLD", self.shape[1:7], strict=True)),
            "best_peer": self.best_peer,
            "p99_by_median": self.tail,
            "times": {name: self.times(name) for name in self.timings if name != OURS},
            "seconds": {name: asdict(timing) for name, timing in self.timings.items()},
            "failed": self.failed,
        }


@dataclass(frozen=True)
class Run:
    """All shapes with one number of threads."""

    threads: int
    contenders: Sequence[str]  # that took part
    rows: Sequence[Row]

    def mean_times(self) -> dict[str, float]:
        """Each contender's time over lstmkernel's: the geometric mean over the shapes that it could run."""
        times = {name: [row.times(name) for row in self.rows if name in row.timings] for name in self.contenders}
        return {name: geometric_mean(ratios) for name, ratios in times.items() if ratios and name != OURS}

    def best_times(self) -> dict[str, float]:
        """For each shape, the best peer's time over lstmkernel's."""
        return {row.shape.name: row.times(row.best_peer) for row in self.rows if row.best_peer}

    def as_json(self) -> dict[str, Any]:
        best = self.best_times()
        return {
            "threads": self.threads,
            "geometric_mean_best_peer": geometric_mean(best.values()) if best else None,
            "geometric_mean": self.mean_times(),
            "rows": [row.as_json() for row in self.rows],
        }


def heading(threads: int) -> str:
    return "One thread each, float32" if threads == 1 else f"{threads} threads each, float32"


def markdown(run: Run) -> str:
    """Microseconds; the best peer's and the baseline's time over lstmkernel's, bold where lstmkernel is slower."""
    names = [name for name in run.contenders if name != ALONE]
    columns: dict[str, list[str]] = {"shape": [row.shape.name for row in run.rows]}
    columns["B,T,I,H[,L[,D]]"] = [row.shape.sizes() for row in run.rows]
    for name in names:
        columns[f"{name}, us"] = [_microseconds(row.timings.get(name)) for row in run.rows]
    columns["best peer"] = [row.best_peer or "" for row in run.rows]
    columns[f"best peer / {OURS}"] = [_times(row, row.best_peer) for row in run.rows]
    columns[f"{BASELINE} / {OURS}"] = [_times(row, BASELINE) for row in run.rows]
    if ALONE in run.contenders:
        columns[f"1 thread / {run.threads} threads"] = [_times(row, ALONE) for row in run.rows]
    columns["p99 / median"] = [f"{row.tail:.2f}" for row in run.rows]
    columns["calls"] = [f"{row.ours.calls:,}" for row in run.rows]
    text = {"shape", "B,T,I,H[,L[,D]]", "best peer"}
    lines = [columns, ["---" if head in text else "---:" for head in columns], *zip(*columns.values(), strict=True)]
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), "", *_summary(run), *_footnotes(run)])


def _summary(run: Run) -> Iterable[str]:
    best = run.best_times()
    if best:
        worst = min(run.rows, key=lambda row: best.get(row.shape.name, inf))
        yield f"- Best peer / {OURS}, geometric mean: {geometric_mean(best.values()):.2f}"
        yield f"- Worst row: {worst.shape.name}, {best[worst.shape.name]:.2f} ({worst.best_peer})"
    means = [f"{name} {numbers_text.digits(mean)}" for name, mean in run.mean_times().items()]
    yield f"- Each / {OURS}, geometric mean: {', '.join(means)}"


def _footnotes(run: Run) -> Iterable[str]:
    for row in run.rows:
        for name, timing in row.timings.items():
            if not accuracy.agrees(timing.error):
                tolerance = accuracy.tolerance_text("float32")
                yield f"- {name} on {row.shape.name}: off by {timing.error:.2f} times {tolerance}"
        for name, reason in row.failed.items():
            yield f"- {name} on {row.shape.name}: not timed: {reason}"


def _microseconds(timing: Timing | None) -> str:
    if timing is None:
        return "failed"
    value = timing.median * 1e6
    return f"{value:,.0f}" if value >= 99.95 else numbers_text.digits(value)


def _times(row: Row, contender: str | None) -> str:
    if contender not in row.timings:
        return ""
    text = numbers_text.digits(row.times(contender))
    return f"**{text}**" if row.times(contender) < 1 else text
