"""The results of ``bench stream`` as a picture: a histogram for each subject, a panel for each kind of subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from lstmkernel.host import numbers_text
from lstmkernel.workbench.colours import SERIES
from lstmkernel.workbench.latency import Latency

BINS_A_DECADE = 60
#: Of the longest bar, as a part of a row's height.
HEIGHT = 0.85


def draw(found: Sequence[Latency], file: BinaryIO) -> None:
    """Write the picture as PNG."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys(latency.subject.kind for latency in found))
    of = [[latency for latency in found if latency.subject.kind == kind] for kind in kinds]
    rows = [len(group) for group in of]
    figure, panels = plt.subplots(
        len(kinds), 1, figsize=(9, 1.6 + 0.55 * sum(rows)), squeeze=False, layout="constrained", height_ratios=rows
    )
    for kind, group, axes in zip(kinds, of, panels[:, 0], strict=True):
        _panel(axes, group)
        axes.set_title(kind, loc="left", weight="bold")
    panels[-1, 0].set_xlabel("time of a call; | marks p50, p99, p99.9 and the maximum")
    figure.savefig(file, format="png", dpi=130, facecolor="white")
    plt.close(figure)


def _panel(axes: Any, group: Sequence[Latency]) -> None:
    for row, latency in enumerate(reversed(group)):
        times, colour = np.array(latency.times), SERIES[row % 6]
        decades = np.log10(times)
        low, high = decades[0], max(decades[-1], decades[0] + 1 / BINS_A_DECADE)
        edges = np.linspace(low, high, int((high - low) * BINS_A_DECADE) + 2)
        counts, _ = np.histogram(decades, edges)
        # With the square root, a few slow calls are visible beside many quick ones.
        heights = np.sqrt(counts / counts.max()) * HEIGHT
        axes.bar(10 ** edges[:-1], heights, np.diff(10**edges), row, align="edge", color=colour)
        marks = [latency.p50, latency.p99, latency.p999, latency.most]
        axes.plot(marks, [row] * len(marks), "|", color="black", markersize=9)
    axes.set_xscale("log")
    axes.set_yticks(range(len(group)), [latency.subject.name for latency in reversed(group)])
    axes.set_ylim(-0.2, len(group))
    axes.xaxis.set_major_formatter(lambda value, _: numbers_text.duration(value))
    axes.grid(axis="x", color="#DDDDDD")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
