"""The plots of ``explain``: gates and states over time, and how far a gradient flows."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lstmkernel.backends.packing import Array
from lstmkernel.workbench.colours import BLACK, BLUE, ORANGE, PURPLE, SKY
from lstmkernel.workbench.explain.example import Curves
from lstmkernel.workbench.explain.explained import Explained

#: The states' colours in all pictures of ``explain``.
CELL_STATE, HIDDEN_STATE = ORANGE, PURPLE
#: Colour maps: of numbers from 0 to 1, and of numbers with a sign.
SHARE, SIGNED = "Blues", "PuOr"

#: The heat maps and their titles, in the order of the moves.
FIELDS = {
    "f": "forget gate f\nwhat is kept",
    "i": "input gate i\nthe share written",
    "g": "candidate g\nwhat to write",
    "c": "cell state c\nthe memory",
    "o": "output gate o\nthe share reported",
    "h": "hidden state h\nthe report",
}


def save(figure: Figure, file: BinaryIO) -> None:
    """Write the picture as PNG."""
    figure.savefig(file, format="png", dpi=110, facecolor="white")


# ---------------------------------------------------------------- gates and states over time


def draw_gates(shown: Explained) -> Figure:
    """A heat map of units over time for each gate and state (across) of each layer and direction (top layer first).

    f, i and o are shares, from 0 to 1. g, c and h have a scale for each map, because in upper layers and with many
    units their numbers are small.
    """
    rows = len(shown.trace.h)
    figure = Figure(figsize=(15, 1.6 + 1.9 * rows), layout="constrained")
    panels = figure.subplots(rows, len(FIELDS), sharex=True, squeeze=False)
    for column, (name, title) in enumerate(FIELDS.items()):
        values, signed = getattr(shown.trace, name), name not in "fio"
        colours = SIGNED if signed else SHARE
        for row, axes in enumerate(panels[:, column]):
            units = values[rows - 1 - row].T
            most = (float(np.abs(units).max()) or 1.0) if signed else 1.0
            least = -most if signed else 0
            axes.imshow(units, aspect="auto", cmap=colours, vmin=least, vmax=most, interpolation="none")
            if signed:
                axes.set_xlabel(f"max {most:.2g}", fontsize=10, loc="right", labelpad=1)
            _unit_ticks(axes, len(units))
        panels[0, column].set_title(title, fontsize=13)
        scale = ScalarMappable(Normalize(-1 if signed else 0, 1), colours)
        bar = figure.colorbar(scale, ax=panels[:, column], location="bottom", aspect=14, pad=0.02)
        if signed:
            bar.set_ticks([-1, 0, 1], labels=["-max", "0", "max"])
        bar.ax.tick_params(labelsize=10)
    for row, axes in enumerate(panels[:, 0]):
        axes.set_ylabel(f"{shown.label(rows - 1 - row)}\nunit", fontsize=12)
    for axes in panels[-1]:
        _step_ticks(axes, shown.steps)
    return figure


def _unit_ticks(axes: Any, units: int) -> None:
    axes.tick_params(labelsize=10)
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=min(units, 5))


def _step_ticks(axes: Any, steps: list[str]) -> None:
    if len(steps) <= 12:
        axes.set_xticks(range(len(steps)), steps, rotation=90, fontsize=11)
    else:
        axes.set_xlabel(f"step    {axes.get_xlabel()}".rstrip(), fontsize=11)


# ---------------------------------------------------------------- how far a gradient flows

#: Below or above it, a gradient is lost, or useless. The axis ends at ENOUGH where nothing is larger.
LOST, ENOUGH, BEYOND = 1e-15, 10, 1e6
#: What is written beside the lines, in their order.
SHORT = ("in total", "road", "other ways", "plain RNN", "RNN, larger weights")
LINES: tuple[dict[str, Any], ...] = (
    {"color": BLACK, "lw": 3},
    {"color": CELL_STATE, "lw": 3, "ls": (0, (4, 1.5))},
    {"color": HIDDEN_STATE, "lw": 3, "ls": (0, (1, 1.2))},
    {"color": BLUE, "lw": 2.5},
    {"color": SKY, "lw": 2.5, "ls": (0, (7, 1.5))},
)


def draw_flow(panels: dict[str, Curves]) -> Figure:
    """Sizes of gradients over the steps back, on one logarithmic axis; a panel for each title."""
    rows = -(-len(panels) // 3)
    columns = -(-len(panels) // rows)
    figure = Figure(figsize=(max(8.5, 4.7 * columns), 1.9 + 3.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    largest = max(float(np.nanmax(sizes)) for found in panels.values() for sizes in found.values())
    top = min(BEYOND, max(ENOUGH, 3 * largest))
    for axes, (title, found) in zip(grid.flat, panels.items(), strict=False):
        for sizes, line in zip(found.values(), LINES, strict=False):
            # A logarithmic axis has no 0: a curve ends where its gradient is 0.
            axes.semilogy(np.where(sizes > 0, sizes, np.nan), **line)
        axes.set_title(title, fontsize=14, loc="left", weight="bold")
        axes.set(ylim=(LOST, top), xlim=(0, max(1, len(sizes) - 1)))
        _label_lines(axes, found, top)
        axes.axhline(1, color="#BBBBBB", lw=1, zorder=0)
        axes.tick_params(labelsize=11, labelbottom=True)
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=4)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("steps back from the last one", fontsize=13)
    figure.supylabel("what of dL/dc is left (root-mean-square gain)", fontsize=13)
    names = list(next(iter(panels.values())))
    handles = [Line2D([], [], **line) for line in LINES[: len(names)]]
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=12, handlelength=3.5)
    return figure


def _label_lines(axes: Any, found: Curves, top: float) -> None:
    """Each line's name beside it, at the first free place. Where there is none, only the legend names it."""
    across = np.linspace(0, 1, 400)
    heights = [_heights(sizes, across, top) for sizes in found.values()]
    drawn = np.concatenate([np.column_stack([across, y])[(y > 0) & (y < 1)] for y in heights])
    taken: list[tuple[float, float, float, float]] = []
    for name, y, line in zip(SHORT, heights, LINES, strict=False):
        width, height, gap = 0.024 * len(name), 0.055, 0.015
        seen = np.flatnonzero((y > 0) & (y < 1))
        places = (
            (across[k] + right, y[k] + above)
            for k in (seen[int(share * len(seen))] for share in (0.5, 0.6, 0.4, 0.7, 0.3, 0.8, 0.2, 0.9) if len(seen))
            for right in (gap, -gap - width, -width / 2)
            for above in (gap, -gap - height)
        )
        for left, low in places:
            box = (left, low, left + width, low + height)
            if (
                min(box) > 0
                and max(box) < 1
                and not _holds(box, drawn)
                and not any(_meet(box, other) for other in taken)
            ):
                axes.text(left, low, name, transform=axes.transAxes, fontsize=11, color=line["color"], va="bottom")
                taken.append(box)
                break


def _heights(sizes: Array, across: Array, top: float) -> Array:
    """A line as shares of the plot's height; -1 where there is nothing."""
    known = np.flatnonzero(sizes > 0)
    if not len(known):
        return np.full(len(across), -1.0)
    logarithms = np.log(sizes[known] / LOST) / np.log(top / LOST)
    heights: Array = np.interp(across, known / max(1, len(sizes) - 1), logarithms, right=-1.0)
    return heights


def _holds(box: tuple[float, float, float, float], points: Array) -> bool:
    x, y = points.T
    return bool(np.any((x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])))


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
