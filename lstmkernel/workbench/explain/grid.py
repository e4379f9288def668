"""The drawing of ``explain``: time runs across, layers go up; out, h_n and c_n are marked."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from lstmkernel.backends.packing import Array
from lstmkernel.workbench.colours import BLACK, CELL_STATE, HIDDEN_STATE
from lstmkernel.workbench.explain.explained import MOST_NUMBERS, Explained

DARK_GREY = "#666666"

#: All lengths are in units of INCH inches. STEP: from step to step. LEVEL: from layer to layer. BOX: width and height
#: of a cell. SIDE, ROW: width and height of a number. C, H: left edges of the columns c and h in a cell.
INCH, STEP, LEVEL = 0.62, 2.45, 2.8
BOX, SIDE, ROW = (1.7, 1.95), 0.72, 0.37
H, C = 0.1, 0.88
#: Left edges of the columns h_n and c_n, from the place of a next cell.
H_N, C_N = 0.1, 1.02
#: Heights in a cell of the arrows of c and h. OVER: of the arrow to c_n, which goes over the numbers of h_n.
ACROSS_C, ACROSS_H, OVER = 1.25, 0.5, 1.82

Point = tuple[float, float]


def _shade(value: float) -> str:
    """The colour of a number from -1 to 1, pale enough for black letters on it."""
    return str(mpl.colors.to_hex(mpl.colormaps["PuOr"](0.5 + 0.3 * max(-1.0, min(1.0, value)))))


#: What is drawn, and its colour.
LEGEND = {
    "cell state c, to the next step": CELL_STATE,
    "hidden state h, to the next step and up": HIDDEN_STATE,
    "positive": _shade(1),
    "negative": _shade(-1),
}


def draw_grid(shown: Explained, step: int) -> Figure:
    """c and h of every layer and direction at some steps around ``step``."""
    window, states = shown.window(step), len(shown.trace.h)
    right, top = STEP * len(window), LEVEL * states
    places = _legend_places(-2.25, right + 2.15)
    width, height = right + 4.5, top + 4.6 + places[0][1]
    figure = Figure(figsize=(INCH * width, INCH * height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-2.35, width - 2.35), ylim=(-3.1, height - 3.1))
    axes.axis("off")
    if shown.directions == 2:
        for layer in range(shown.lstm.num_layers):
            _panel(axes, (-0.15, 2 * LEVEL * layer - 0.15), right - 0.45, LEVEL + BOX[1] + 0.3, DARK_GREY)
    _frame(axes, shown, right, top)
    _legend(axes, top + 1.0, places)
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
    _panel(axes, (-0.35, top - 0.35), right - 0.2, 0.7, HIDDEN_STATE)
    _write(axes, (-0.6, top), "out", ha="right", size=15)
    _write(axes, (-0.5, -1.8), "x", ha="right", size=15)
    for left, name, color in ((H_N, "h_n", HIDDEN_STATE), (C_N, "c_n", CELL_STATE)):
        for k in range(len(shown.trace.h)):
            _panel(axes, (right + left - 0.07, LEVEL * k), SIDE + 0.14, MOST_NUMBERS * ROW + 0.2, color)
        _write(axes, (right + left + SIDE / 2, -0.45), name, size=15)
    units, inputs = shown.trace.h.shape[-1], shown.x.shape[-1]
    if units > MOST_NUMBERS:
        _write(axes, (right + C_N - 0.05, -1.0), f"units 0 to {MOST_NUMBERS - 1}\nof {units}", size=12)
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
    for left, values, scale in ((C_N, trace.c[k, shown.last(k)], most), (H_N, trace.h[k, shown.last(k)], 1)):
        _numbers(axes, (right + left, y + MOST_NUMBERS * ROW + 0.1), values, scale)
    _arrows(axes, shown, k, window)


def _arrows(axes: Any, shown: Explained, k: int, window: range) -> None:
    """From cell to cell, and from the last cell to h_n and c_n."""
    y, reverse, right = LEVEL * k, shown.reverse(k), STEP * len(window)
    for place in range(1, len(window)):
        for height, color, width in ((ACROSS_C, CELL_STATE, 3.0), (ACROSS_H, HIDDEN_STATE, 2.5)):
            before, after = (STEP * (place - 1) + BOX[0], y + height), (STEP * place, y + height)
            start, end = (after, before) if reverse else (before, after)
            _arrow(axes, start, end, color, width)
    if window.start > 0:
        _write(axes, (-0.45, y + 1), "…", size=15)
    if window.stop < len(shown.steps):
        _write(axes, (right - 0.35, y + 1), "…", size=15)
    elif not reverse:
        edge, middle = right - STEP + BOX[0], right + C_N + SIDE / 2
        axes.plot((edge, middle), (y + OVER, y + OVER), color=CELL_STATE, lw=3.0, zorder=2)
        _arrow(axes, (middle, y + OVER), (middle, y + MOST_NUMBERS * ROW + 0.2), CELL_STATE, 3.0)
        _arrow(axes, (edge, y + ACROSS_H), (right + H_N - 0.07, y + ACROSS_H), HIDDEN_STATE, 2.5)


def _legend(axes: Any, y: float, places: list[tuple[float, float]]) -> None:
    """What the arrows carry, and what the colours of numbers mean."""
    for (text, color), (x, row) in zip(LEGEND.items(), places, strict=True):
        height = y + row
        if color in (CELL_STATE, HIDDEN_STATE):
            _arrow(axes, (x, height), (x + SIDE, height), color, 3.0)
        else:
            corner = (x, height - ROW / 2)
            axes.add_patch(Rectangle(corner, SIDE, ROW, fc=color, ec="white", lw=1, zorder=5))
        _write(axes, (x + SIDE + 0.15, height), text, size=13, ha="left")


def _legend_places(left: float, right: float) -> list[tuple[float, float]]:
    """Where each entry of the legend begins: across, and up from the lowest line. As many lines as the width needs."""
    places, x, line = [], left, 0
    for text in LEGEND:
        width = SIDE + 0.15 + 0.17 * len(text)
        if x > left and x + width > right:
            x, line = left, line + 1
        places.append((x, line))
        x += width + 0.6
    return [(x, 0.6 * (line - at)) for x, at in places]


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
        shade = _shade(float(value) / most)
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
