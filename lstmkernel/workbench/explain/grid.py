"""The drawing of ``explain``: time runs across, layers go up; out, h_n and c_n are marked."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from lstmkernel.backends.packing import Array
from lstmkernel.workbench.colours import BLACK
from lstmkernel.workbench.explain.explained import MOST_NUMBERS, Explained
from lstmkernel.workbench.explain.plots import CELL_STATE, HIDDEN_STATE

DARK_GREY = "#666666"

#: All lengths are in units of INCH inches. STEP: from step to step. LEVEL: from layer to layer. BOX: width and height
#: of a cell. SIDE, ROW: width and height of a number. C, H: left edges of the columns c and h in a cell.
INCH, STEP, LEVEL = 0.62, 2.45, 2.8
BOX, SIDE, ROW = (1.7, 1.95), 0.72, 0.37
H, C = 0.1, 0.88

Point = tuple[float, float]


def draw_grid(shown: Explained, step: int) -> Figure:
    """c and h of every layer and direction at some steps around ``step``."""
    window, states = shown.window(step), len(shown.trace.h)
    right, top = STEP * len(window), LEVEL * states
    width, height = right + 4.4, top + 3.65
    figure = Figure(figsize=(INCH * width, INCH * height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-2.35, width - 2.35), ylim=(-3.1, height - 3.1))
    axes.axis("off")
    if shown.directions == 2:
        for layer in range(shown.lstm.num_layers):
            _panel(axes, (-0.15, 2 * LEVEL * layer - 0.15), right - 0.45, LEVEL + BOX[1] + 0.3, DARK_GREY)
    _frame(axes, shown, right, top)
    for k in range(states):
        _row(axes, shown, k, window)
        if not shown.reverse(k):
            _up(axes, window, LEVEL * (k - 1) + BOX[1] if k else -1.0, LEVEL * k)
    _up(axes, window, top - LEVEL + BOX[1], top - 0.35)
    for place, t in enumerate(window):
        middle, word = STEP * place + H + SIDE / 2, shown.steps[t]
        _numbers(axes, (middle - SIDE / 2, -1.0), shown.x[t], 1)
        word = word if len(word) < 11 else f"{word[:9]}…"
        _write(axes, (middle, -2.8), word, size=15, weight="bold" if t == step else "normal")
        _write(axes, (middle, top), f"out[{t}]", size=13)
    return figure


def _frame(axes: Any, shown: Explained, right: float, top: float) -> None:
    """The labels, and the areas of out, h_n and c_n."""
    _panel(axes, (-0.2, top - 0.35), right - 0.35, 0.7, HIDDEN_STATE)
    _write(axes, (-0.5, top), "out", ha="right", size=15)
    _write(axes, (-0.5, -1.8), "x", ha="right", size=15)
    for left, name, color in ((H, "h_n", HIDDEN_STATE), (C, "c_n", CELL_STATE)):
        _panel(axes, (right + left - 0.03, -0.1), SIDE + 0.06, top - LEVEL + BOX[1] + 0.2, color)
        _write(axes, (right + left + SIDE / 2, -0.45), name, size=15)
    units, inputs = shown.trace.h.shape[-1], shown.x.shape[-1]
    if units > MOST_NUMBERS:
        _write(axes, (right + C - 0.05, -1.0), f"units 0 to {MOST_NUMBERS - 1}\nof {units}", size=12)
    if inputs > MOST_NUMBERS:
        _write(axes, (-0.5, -2.4), f"0 to {MOST_NUMBERS - 1}\nof {inputs}", ha="right", size=12)
    for k in range(len(shown.trace.h)):
        _write(axes, (-2.25, LEVEL * k + 1), shown.label(k).replace(" reverse", "\nreverse"), ha="left", size=14)


def _row(axes: Any, shown: Explained, k: int, window: range) -> None:
    """One layer and direction: its cells, the arrows from step to step, and its last states."""
    y, trace, most = LEVEL * k, shown.trace, float(abs(shown.trace.c).max()) or 1.0
    for place, t in enumerate(window):
        _box(axes, (STEP * place, y))
        for left, name, values, scale in ((H, "h", trace.h[k, t], 1), (C, "c", trace.c[k, t], most)):
            _numbers(axes, (STEP * place + left, y + MOST_NUMBERS * ROW + 0.1), values, scale)
            _write(axes, (STEP * place + left + SIDE / 2, y + BOX[1] - 0.2), name, size=13)
    right = STEP * len(window)
    for left, values, scale in ((C, shown.trace.c[k, shown.last(k)], most), (H, shown.trace.h[k, shown.last(k)], 1)):
        _numbers(axes, (right + left, y + MOST_NUMBERS * ROW + 0.1), values, scale)
    begins, ends, reverse = window.start == 0, window.stop == len(shown.steps), shown.reverse(k)
    last = len(window) - 1 if reverse else len(window)
    for gap in range(1, last + 1):
        if gap <= len(window) - 1 or ends:
            _across(axes, (STEP * (gap - 1) + BOX[0], y), STEP * gap + (C - 0.05 if gap == len(window) else 0), reverse)
    if not begins:
        _write(axes, (-0.45, y + 1), "…", size=15)
    if not ends:
        _write(axes, (right - 0.35, y + 1), "…", size=15)


def _across(axes: Any, start: Point, end: float, reverse: bool) -> None:
    """Arrows of c (above) and h from one step to the next."""
    x, y = start
    for height, color, width in ((1.25, CELL_STATE, 3.0), (0.5, HIDDEN_STATE, 2.5)):
        left, right = (x, y + height), (end, y + height)
        _arrow(axes, right if reverse else left, left if reverse else right, color, width)


def _up(axes: Any, window: range, start: float, end: float) -> None:
    """Arrows of h from one layer to the next, at every step."""
    for place in range(len(window)):
        middle = STEP * place + H + SIDE / 2
        _arrow(axes, (middle, start), (middle, end), BLACK if start < 0 else HIDDEN_STATE, 2.5)


def _numbers(axes: Any, corner: Point, values: Array, most: float) -> None:
    """The first numbers, downwards from the upper left corner; purple is positive, orange negative."""
    shown = values[:MOST_NUMBERS]
    for row, value in enumerate(shown):
        x, y = corner[0], corner[1] - (row + 1) * ROW
        shade = mpl.colormaps["PuOr"](0.5 + 0.3 * max(-1.0, min(1.0, float(value) / most)))
        axes.add_patch(Rectangle((x, y), SIDE, ROW, fc=shade, ec="white", lw=1, zorder=5))
        _write(axes, (x + SIDE / 2, y + ROW / 2 - 0.02), f"{value:.2f}", size=11)


def _box(axes: Any, corner: Point) -> None:
    style = "round,pad=0,rounding_size=0.12"
    axes.add_patch(FancyBboxPatch(corner, *BOX, style, fc="white", ec=BLACK, lw=1.8, zorder=4))


def _panel(axes: Any, corner: Point, width: float, height: float, color: str) -> None:
    style = "round,pad=0,rounding_size=0.12"
    axes.add_patch(FancyBboxPatch(corner, width, height, style, fc=color, ec="none", alpha=0.2, zorder=0))


def _arrow(axes: Any, start: Point, end: Point, color: str, width: float) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=15, lw=width, color=color, shrinkA=0, shrinkB=0, zorder=3
        )
    )


def _write(axes: Any, at: Point, text: str, *, size: float, ha: str = "center", weight: str = "normal") -> None:
    axes.text(*at, text, size=size, ha=ha, va="center", weight=weight, color=BLACK, zorder=6)
