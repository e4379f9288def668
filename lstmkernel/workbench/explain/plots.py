"""The plots of ``explain``: gates and states over time, and how far a gradient flows."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
    """Heat maps of units over time: a column for each gate and state, a row for each layer and direction, top first."""
    rows = len(shown.trace.h)
    figure = Figure(figsize=(15, 1.6 + 1.9 * rows), layout="constrained")
    panels = figure.subplots(rows, len(FIELDS), sharex=True, squeeze=False)
    for column, (name, title) in enumerate(FIELDS.items()):
        values = getattr(shown.trace, name)
        most = 1.0 if name != "c" else float(np.abs(values).max()) or 1.0
        least = 0.0 if name in "fio" else -most
        for row, axes in enumerate(panels[:, column]):
            units = values[rows - 1 - row].T
            image = axes.imshow(
                units,
                aspect="auto",
                cmap=SHARE if name in "fio" else SIGNED,
                vmin=least,
                vmax=most,
                interpolation="none",
            )
            _unit_ticks(axes, len(units))
        panels[0, column].set_title(title, fontsize=13)
        figure.colorbar(image, ax=panels[:, column], location="bottom", aspect=14, pad=0.02).ax.tick_params(
            labelsize=10
        )
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
        axes.set_xlabel("step", fontsize=11)


# ---------------------------------------------------------------- how far a gradient flows

#: The range that is drawn: a smaller gradient is lost, a larger one is useless.
LOST, BEYOND = 1e-15, 1e6
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
    for axes, (title, found) in zip(grid.flat, panels.items(), strict=False):
        for sizes, line in zip(found.values(), LINES, strict=False):
            # A logarithmic axis has no 0: a curve ends where its gradient is 0.
            axes.semilogy(np.where(sizes > 0, sizes, np.nan), **line)
        axes.set_title(title, fontsize=14, loc="left", weight="bold")
        axes.set(ylim=(LOST, BEYOND), xlim=(0, max(1, len(sizes) - 1)))
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
