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
    text = "time of a call; | marks p50, p99, p99.9 and the maximum"
    if any(latency.subject.audio_seconds is not None for latency in found):
        text += "\nthe orange line is the deadline, when the next block comes"
    panels[-1, 0].set_xlabel(text)
    figure.savefig(file, format="png", dpi=130, facecolor="white")
    plt.close(figure)


def _panel(axes: Any, group: Sequence[Latency]) -> None:
    for row, latency in enumerate(reversed(group)):
        times = np.array(latency.times)
        decades = np.log10(times)
        low, high = decades[0], max(decades[-1], decades[0] + 1 / BINS_A_DECADE)
        edges = np.linspace(low, high, int((high - low) * BINS_A_DECADE) + 2)
        counts, _ = np.histogram(decades, edges)
        # With the square root, a few slow calls are visible beside many quick ones.
        heights = np.sqrt(counts / counts.max()) * HEIGHT
        axes.bar(10 ** edges[:-1], heights, np.diff(10**edges), row, align="edge", color=SERIES[1])
        marks = [latency.p50, latency.p99, latency.p999, latency.most]
        axes.plot(marks, [row] * len(marks), "|", color="black", markersize=9)
        deadline = latency.subject.audio_seconds
        if deadline is not None:
            axes.plot([deadline] * 2, [row, row + HEIGHT], color=SERIES[0], linewidth=2)
            text = f"{_duration(deadline)}: {latency.missed} of {latency.calls} missed"
            axes.annotate(text, (deadline, row + HEIGHT / 2), (-4, 0), textcoords="offset points", ha="right")
    axes.set_xscale("log")
    axes.set_yticks(range(len(group)), [latency.subject.name for latency in reversed(group)])
    axes.set_ylim(-0.2, len(group))
    axes.xaxis.set_major_formatter(lambda value, _: _duration(value))
    axes.grid(axis="x", color="#DDDDDD")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _duration(seconds: float) -> str:
    """As in text, with the sign for micro, which pictures can show."""
    return numbers_text.duration(seconds).replace(" us", " µs")
