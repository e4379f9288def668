"""The results of scaling.py as a picture: a panel for each shape, a line for each contender."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
from contenders import CONTENDERS, OURS
from matplotlib.axes import Axes
from peers_plot import COLOUR
from scaling_report import Scaling

COLUMNS = 4


def draw(found: Sequence[Scaling], title: str, file: str) -> None:
    """Write the picture, in the format of the file's suffix."""
    columns = min(COLUMNS, len(found))
    rows = ceil(len(found) / columns)
    size = (max(7.0, 3.4 * columns), 2.8 * rows + 1)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axes, scaling in zip(panels.flat, found, strict=False):
        _panel(axes, scaling)
    for axes in panels.flat[len(found) :]:
        axes.set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    lines, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=len(names), frameon=False)
    figure.savefig(file, dpi=130, facecolor="white")
    plt.close(figure)


def _panel(axes: Axes, scaling: Scaling) -> None:
    counts = scaling.counts
    ideal = [scaling.seconds(1) * 1e6 / count for count in counts]
    axes.plot(counts, ideal, ":", color="#999999", label=f"{OURS} on 1 thread / threads")
    for name in CONTENDERS:
        there = [count for count in counts if (name, count) in scaling.timings]
        times = [scaling.timings[name, count].median * 1e6 for count in there]
        if there:
            axes.plot(there, times, "o-", color=COLOUR[name], label=name, lw=2.4 if name == OURS else 1.4, ms=4)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_title(scaling.shape.name, loc="left", size=10)
    axes.set_xlabel("threads", size=9)
    axes.set_ylabel("microseconds", size=9)
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.grid(color="#E4E4E4")
    axes.spines[["top", "right"]].set_visible(False)
