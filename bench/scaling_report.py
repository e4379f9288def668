"""The results of scaling.py: as a Markdown table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import geometric_mean
from typing import Any

from contenders import OURS
from peers_report import Timing

from lstmkernel.host import numbers_text
from lstmkernel.workbench.shapes import Shape

#: A contender and its number of threads.
Key = tuple[str, int]

#: More threads may take this many times the time of fewer ones; above that, the table has the number in bold.
SLOWER = 1.05


@dataclass(frozen=True)
class Scaling:
    """All contenders on one shape, with each number of threads."""

    shape: Shape
    timings: dict[Key, Timing]
    failed: dict[Key, str] = field(default_factory=dict)  # contenders without a timing, and why

    @property
    def counts(self) -> list[int]:
        return sorted({threads for name, threads in self.timings if name == OURS})

    def seconds(self, threads: int) -> float:
        """lstmkernel's median."""
        return self.timings[OURS, threads].median

    def speedup(self, threads: int) -> float:
        """lstmkernel's time on one thread over that on so many."""
        return self.seconds(1) / self.seconds(threads)

    def by_fewer(self, threads: int) -> float | None:
        """lstmkernel's time over its best time on fewer threads; None for one thread."""
        fewer = [self.seconds(count) for count in self.counts if count < threads]
        return self.seconds(threads) / min(fewer) if fewer else None

    def best_peer(self, threads: int) -> tuple[str, float] | None:
        """The fastest peer on so many threads, and its time over lstmkernel's; None where there is none."""
        peers = {
            name: timing.median for (name, count), timing in self.timings.items() if count == threads and name != OURS
        }
        if not peers:
            return None
        name = min(peers, key=peers.__getitem__)
        return name, peers[name] / self.seconds(threads)


def markdown(found: Sequence[Scaling]) -> str:
    """A line for each shape and number of threads; then what holds for all shapes."""
    head = ["shape", "threads", f"{OURS}, us", "p99 / median", "speedup", "efficiency", "/ best of fewer"]
    head += ["best peer", f"best peer / {OURS}"]
    lines = [head, ["---" if column in ("shape", "best peer") else "---:" for column in head]]
    lines += [_line(scaling, threads) for scaling in found for threads in scaling.counts]
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), "", *_summary(found)])


def _line(scaling: Scaling, threads: int) -> list[str]:
    timing, speedup = scaling.timings[OURS, threads], scaling.speedup(threads)
    by_fewer, peer = scaling.by_fewer(threads), scaling.best_peer(threads)
    cells = [scaling.shape.name, str(threads), f"{timing.median * 1e6:,.1f}", f"{timing.p99 / timing.median:.2f}"]
    cells += [f"{speedup:.2f}", f"{speedup / threads:.0%}"]
    cells.append("" if by_fewer is None else _bold(by_fewer, by_fewer > SLOWER))
    return [*cells, *(("", "") if peer is None else (peer[0], _bold(peer[1], peer[1] < 1)))]


def _bold(ratio: float, lost: bool) -> str:
    return f"**{ratio:.2f}**" if lost else f"{ratio:.2f}"


def _summary(found: Sequence[Scaling]) -> Iterable[str]:
    for threads in found[0].counts:
        peers = {scaling.shape.name: peer for scaling in found if (peer := scaling.best_peer(threads))}
        speedup = geometric_mean(scaling.speedup(threads) for scaling in found)
        line = f"- {threads} {'thread' if threads == 1 else 'threads'}: speedup {speedup:.2f}"
        if peers:
            worst = min(peers, key=lambda name: peers[name][1])
            mean = numbers_text.digits(geometric_mean(ratio for _, ratio in peers.values()))
            line += f"; best peer / {OURS} {mean}, worst row {worst}, {peers[worst][1]:.2f} ({peers[worst][0]})"
        yield f"{line} (geometric means)"
    for scaling in found:
        for (name, threads), reason in scaling.failed.items():
            yield f"- {name} on {scaling.shape.name}, threads: {threads}: not timed: {reason}"


def as_json(found: Sequence[Scaling]) -> list[dict[str, Any]]:
    return [
        {
            "shape": scaling.shape.name,
            **dict(zip("BTIHLD", scaling.shape[1:7], strict=True)),
            "timings": [
                {"contender": name, "threads": threads, **asdict(timing)}
                for (name, threads), timing in scaling.timings.items()
            ],
            "failed": [
                {"contender": name, "threads": threads, "reason": reason}
                for (name, threads), reason in scaling.failed.items()
            ],
        }
        for scaling in found
    ]
