"""The plot of ``explain``: how far a gradient flows back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lstmkernel.backends.packing import Array
from lstmkernel.workbench.colours import BLACK, BLUE, CELL_STATE, GREY, HIDDEN_STATE, SKY
from lstmkernel.workbench.explain.example import Curves

#: Below or above these, a gradient is lost, or useless: the axes end there, or where the lines end.
LOST, BEYOND = 1e-15, 1e6
#: What is written beside the lines, in their order.
SHORT = ("in total", "road", "other ways", "plain RNN", "RNN, larger weights")
#: "Other ways" often lie on "in total": a thin line within a thick one.
LINES: tuple[dict[str, Any], ...] = (
    {"color": BLACK, "lw": 6},
    {"color": CELL_STATE, "lw": 3, "ls": (0, (4, 1.5))},
    {"color": HIDDEN_STATE, "lw": 2.5},
    {"color": BLUE, "lw": 2.5},
    {"color": SKY, "lw": 2.5, "ls": (0, (7, 1.5))},
)


class Limits(NamedTuple):
    """The axes of all panels: steps back, and sizes."""

    steps: int
    least: float
    most: float


def draw_flow(panels: dict[str, Curves]) -> Figure:
    """Sizes of gradients over the steps back, on one logarithmic axis; a panel for each title."""
    rows = -(-len(panels) // 3)
    columns = -(-len(panels) // rows)
    figure = Figure(figsize=(max(8.5, 4.7 * columns), 1.9 + 3.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    limits = flow_limits(panels)
    size = (figure.get_figwidth() - 1) / columns, 3.2
    for axes, (title, found) in zip(grid.flat, panels.items(), strict=False):
        for sizes, line in zip(found.values(), LINES, strict=False):
            # A logarithmic axis has no 0: a curve ends where its gradient is 0.
            axes.semilogy(np.where(sizes > 0, sizes, np.nan), **line)
        axes.set_title(title, fontsize=14, loc="left", weight="bold")
        axes.set(xlim=(0, limits.steps), ylim=(limits.least, limits.most))
        _name_lines(axes, list(found.values()), limits, size)
        axes.axhline(1, color=GREY, lw=1, zorder=0)
        axes.tick_params(labelsize=11, labelbottom=True)
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=4)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("steps back from the last one", fontsize=13)
    figure.supylabel("what of dL/dc is left (root-mean-square gain)", fontsize=13)
    names = list(next(iter(panels.values())))
    handles = [Line2D([], [], **line) for line in LINES[: len(names)]]
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=12, handlelength=3.5)
    return figure


def flow_limits(panels: dict[str, Curves]) -> Limits:
    """As far as there is something to see in any panel: back in time, down and up."""
    seen = [
        np.where((sizes >= LOST) & (sizes <= BEYOND), sizes, np.nan)
        for found in panels.values()
        for sizes in found.values()
    ]
    steps = max(1, *(int(np.flatnonzero(np.isfinite(sizes))[-1]) for sizes in seen if np.isfinite(sizes).any()))
    every = np.concatenate(seen)
    return Limits(steps, max(LOST, min(0.1, np.nanmin(every) / 2)), min(BEYOND, max(3.0, 3 * np.nanmax(every))))


# ---------------------------------------------------------------- a name beside each line

#: A name's size in the plot, in points: of a letter, and of a line of text.
LETTER, HIGH, NAME_SIZE = 6.6, 13, 11
#: From a name to a line, in shares of the panel.
GAP = 0.01
#: Where along a line its name may stand, the best place first.
PLACES = (0.5, 0.55, 0.45, 0.6, 0.4, 0.65, 0.35, 0.7, 0.3, 0.75, 0.25, 0.8, 0.2, 0.85, 0.15, 0.9, 0.1)


class Box(NamedTuple):
    """In shares of the panel."""

    left: float
    low: float
    right: float
    high: float

    def inside(self) -> bool:
        """Whether it is all in the panel."""
        return min(self) > 0 and max(self) < 1

    def near(self, points: Array) -> bool:
        """Whether one of the points (N, 2) is in it, or nearer than GAP."""
        x, y = points[:, 0], points[:, 1]
        beside = (x > self.left - GAP) & (x < self.right + GAP)
        return bool(np.any(beside & (y > self.low - GAP) & (y < self.high + GAP)))

    def meets(self, other: Box) -> bool:
        """Whether the two have something in common."""
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high


def _name_lines(axes: Any, curves: list[Array], limits: Limits, size: tuple[float, float]) -> None:
    """Each line's name at the first free place beside it; where there is none, only the legend names it.

    size: the panel's width and height, in inches.
    """
    across = np.linspace(0, 1, 400)
    heights = [_heights(sizes, across, limits) for sizes in curves]
    one = np.full(len(across), _height(np.ones(1), limits)[0])  # the grey line
    drawn = np.concatenate([np.column_stack([across, y])[(y > 0) & (y < 1)] for y in (*heights, one)])
    taken: list[Box] = []
    for name, y, line in zip(SHORT, heights, LINES, strict=False):
        width, high = LETTER * len(name) / 72 / size[0], HIGH / 72 / size[1]
        for box in _boxes_beside(across, y, (width, high), above=name == SHORT[0]):
            if box.inside() and not box.near(drawn) and not any(box.meets(other) for other in taken):
                axes.text(*box[:2], name, transform=axes.transAxes, fontsize=NAME_SIZE, color=line["color"])
                taken.append(box)
                break


def _boxes_beside(across: Array, y: Array, size: tuple[float, float], above: bool) -> list[Box]:
    """Places for a name of this size along a line, the best one first: above the line, or below it."""
    seen, (width, high) = np.flatnonzero((y > 0) & (y < 1)), size
    return [
        Box(x, low, x + width, low + high)
        for away in (1.5 * GAP, 5 * GAP)
        for k in (seen[int(share * len(seen))] for share in PLACES if len(seen))
        for low in sorted((y[k] + away, y[k] - away - high), reverse=above)
        for x in (across[k] - away - width, across[k] + away, across[k] - width / 2)
    ]


def _heights(sizes: Array, across: Array, limits: Limits) -> Array:
    """A line as shares of the panel's height; -1 where there is nothing."""
    known = np.flatnonzero(sizes > 0)
    if not len(known):
        return np.full(len(across), -1.0)
    heights: Array = np.interp(across, known / limits.steps, _height(sizes[known], limits), left=-1.0, right=-1.0)
    return heights


def _height(sizes: Array, limits: Limits) -> Array:
    heights: Array = np.log(sizes / limits.least) / np.log(limits.most / limits.least)
    return heights
