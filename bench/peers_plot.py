"""The results of peers.py as a picture: a bar for each contender and shape, a panel for each number of threads."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
from contenders import BASELINE, CONTENDERS, OURS, PEERS
from matplotlib.axes import Axes
from peers_report import ALONE, Run, heading

from lstmkernel.workbench.colours import GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

OTHERS = (ORANGE, SKY, GREEN, PURPLE)
COLOUR = {OURS: VERMILION, ALONE: "#F2B48F", **dict(zip(PEERS, OTHERS, strict=True)), BASELINE: GREY}
ORDER = (OURS, ALONE, *(name for name in CONTENDERS if name != OURS))

#: Width of a group of bars, as a part of the distance between two groups.
GROUP = 0.84


def draw(runs: Sequence[Run], where_and_when: str, file: str) -> None:
    """Write the picture, in the format of the file's suffix."""
    width = max(10.0, 0.85 * len(runs[0].rows) + 1.5)
    figure, panels = plt.subplots(len(runs), 1, figsize=(width, 6.4 * len(runs)), squeeze=False, layout="constrained")
    for run, axes in zip(runs, panels[:, 0], strict=True):
        _panel(axes, run)
        axes.set_title(f"{heading(run.threads)}, {where_and_when}", loc="left", size=13, weight="bold", pad=34)
    figure.savefig(file, dpi=130, facecolor="white")
    plt.close(figure)


def _panel(axes: Axes, run: Run) -> None:
    names = [name for name in ORDER if name in run.contenders]
    step = GROUP / len(names)
    for place, name in enumerate(names):
        there = [(index, row.timings[name].median * 1e6) for index, row in enumerate(run.rows) if name in row.timings]
        left = [index - GROUP / 2 + (place + 0.5) * step for index, _ in there]
        axes.bar(left, [time for _, time in there], 0.9 * step, color=COLOUR[name], label=name, zorder=2)
    _ratios(axes, run)
    axes.set_yscale("log")
    axes.set_ylabel("microseconds a call; shorter is faster\nabove: the best peer's time / lstmkernel's", size=11)
    axes.set_xlim(-0.6, len(run.rows) - 0.4)
    axes.set_ylim(top=1.8 * axes.get_ylim()[1])
    labels = [f"{row.shape.name}\n{row.shape.sizes()}" for row in run.rows]
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor", size=10)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.grid(axis="y", color="#DDDDDD", zorder=0)
    axes.tick_params(which="both", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(ncols=len(names), loc="lower left", bbox_to_anchor=(-0.006, 1.0), frameon=False, borderpad=0.2)


def _ratios(axes: Axes, run: Run) -> None:
    """Above each group, the best peer's time over lstmkernel's; red where lstmkernel is slower."""
    best = run.best_times()
    for index, row in enumerate(run.rows):
        if row.shape.name in best:
            ratio, top = best[row.shape.name], max(timing.median for timing in row.timings.values()) * 1e6
            colour = "#B00000" if ratio < 1 else "#333333"
            axes.annotate(
                f"{ratio:.2f}x", (index, top), (0, 4), textcoords="offset points", ha="center", color=colour, size=10
            )
