"""The pictures of how_an_lstm_remembers.md that tell its story: the whiteboard, the desk of analysts, the road back."""

from __future__ import annotations

import numpy as np
from drawing import (
    CELL_STATE,
    GATE,
    GREY,
    HIDDEN_STATE,
    INK,
    SMALL,
    TEXT,
    Point,
    arrow,
    box,
    canvas,
    label,
    line,
    operation,
    panel,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle, Wedge

from lstmkernel.workbench.explain import example as explain_example
from lstmkernel.workbench.explain.example import FORGET_BIAS, LAYERS, SENTENCE, WIDTH
from lstmkernel.workbench.explain.explained import Explained, explained

BOARD_FRAME, NOTE = "#8A8A8A", "#F7E3EE"


def example() -> Explained:
    """What ``lstmkernel explain`` shows."""
    words = explain_example.words(SENTENCE)
    x = np.stack([explain_example.embedded(word, WIDTH) for word in words])
    return explained(explain_example.network(WIDTH, WIDTH, LAYERS, FORGET_BIAS), x, words)


def whiteboard(axes: Axes, corner: Point, width: float, height: float, lw: float = 4) -> None:
    """A board with its tray, where the marker lies."""
    x, y = corner
    axes.add_patch(Rectangle(corner, width, height, fc="white", ec=BOARD_FRAME, lw=lw, zorder=4))
    axes.add_patch(Rectangle((x + 0.15 * width, y - 0.14), 0.7 * width, 0.1, fc=BOARD_FRAME, ec="none", zorder=4))
    axes.add_patch(Rectangle((x + 0.25 * width, y - 0.05), 0.2 * width, 0.07, fc=CELL_STATE, ec="none", zorder=5))


def sticky_note(axes: Axes, corner: Point, width: float, height: float) -> None:
    """A note with a folded corner."""
    x, y = corner
    fold = 0.22 * min(width, height)
    outline = [(x, y), (x + width - fold, y), (x + width, y + fold), (x + width, y + height), (x, y + height)]
    axes.add_patch(Polygon(outline, fc=NOTE, ec=HIDDEN_STATE, lw=2, zorder=4))
    corner_points = [(x + width - fold, y), (x + width - fold, y + fold), (x + width, y + fold)]
    axes.add_patch(Polygon(corner_points, fc=HIDDEN_STATE, ec=HIDDEN_STATE, lw=1, zorder=5))


def person(axes: Axes, feet: Point, size: float) -> None:
    """Head and shoulders."""
    x, y = feet
    axes.add_patch(Wedge((x, y), 0.5 * size, 0, 180, fc=GREY, ec="none", zorder=3))
    axes.add_patch(Circle((x, y + 0.72 * size), 0.27 * size, fc=GREY, ec="none", zorder=3))


# ---------------------------------------------------------------- the whiteboard


def draw_whiteboard() -> Figure:
    """One step of one layer in the numbers of ``lstmkernel explain``: wipe, write, report."""
    figure, axes = canvas(15.0, 6.7)
    trace = example().trace
    i, f, g, o, c, h = (part[0, 3] for part in trace)
    before = trace.c[0, 2]
    height, width, low = 2.6, 1.6, 3.2
    middle, top = low + height / 2, low + height + 0.3
    for left, name, values in ((0.3, "$c_{t-1}$", before), (4.1, "$f_t\\,c_{t-1}$", f * before), (8.9, "$c_t$", c)):
        whiteboard(axes, (left, low), width, height)
        _numbers(axes, left + width / 2, low, values)
        label(axes, (left + width / 2, top), name)
    for x, gate, values in ((2.97, "f", f), (6.68, "i", i), (7.83, "g", g), (12.6, "o", o)):
        _numbers(axes, x, low, values, GATE[gate])
        label(axes, (x, top), f"${gate}_t$")
    for x, sign in ((2.25, "$\\times$"), (6.02, "+"), (7.25, "$\\times$"), (11.95, "$\\times$")):
        operation(axes, (x, middle), sign, size=0.22)
    for x in (3.45, 8.3):
        arrow(axes, (x, middle), (x + 0.5, middle), color=CELL_STATE, width=4)
    line(axes, (10.5, middle), (11.75, middle), color=CELL_STATE)
    box(axes, (11.2, middle), 0.85, 0.5, "tanh")
    arrow(axes, (13.05, middle), (13.42, middle), color=HIDDEN_STATE, width=3)
    sticky_note(axes, (13.5, low + 0.1), 1.25, height - 0.2)
    _numbers(axes, 14.12, low, h)
    label(axes, (14.12, top), "$h_t$")
    told = (
        (1.1, "", "", "the whiteboard", "so far"),
        (2.97, "1  forget", "$f_t\\,c_{t-1}$", "how much of each", "line is kept"),
        (4.9, "", "", "wiped in part"),
        (7.25, "2  input", "$i_t\\,g_t$", "the candidate g, and", "i, how much is written"),
        (9.7, "3  update", "$c_t = f_t\\,c_{t-1} + i_t\\,g_t$", "what was kept,", "plus what is new"),
        (12.95, "4  output", "$h_t = o_t\\,\\tanh\\,c_t$", "the sticky note: of each line,", "o says how much is told"),
    )
    for x, *lines in told:
        for y, size, text in zip((2.55, 2.12, 1.65, 1.27), (TEXT, TEXT, SMALL, SMALL), lines, strict=False):
            label(axes, (x, y), text, size=size)
    person(axes, (2.6, 0.08), 0.7)
    heard = "the note-taker of layer 0 hears “attack”: these are the numbers of lstmkernel explain, step 3"
    label(axes, (3.2, 0.31), heard, ha="left", size=SMALL)
    return figure


def _numbers(axes: Axes, x: float, low: float, values: np.ndarray, color: str = INK) -> None:
    """One line for each unit."""
    for row, value in enumerate(values):
        label(axes, (x, low + 2.2 - 0.6 * row), f"{value:.2f}", size=15, color=color)


# ---------------------------------------------------------------- the desk


def draw_desk() -> Figure:
    """Three analysts and a telegram: boards stay with their analysts, notes go up at every word."""
    figure, axes = canvas(13.4, 8.7)
    words = explain_example.words(SENTENCE)
    places = [2.4 + 1.28 * n for n in range(len(words))]
    levels, top, half = (2.1, 3.95, 5.8), 7.3, (0.46, 0.55)
    ends = [*(x - half[0] for x in places[1:]), 11.4]
    axes.add_patch(Rectangle((1.7, 0.35), 9.0, 0.55, fc="#FFF6DC", ec=GREY, lw=1, zorder=1))
    panel(axes, (1.7, top - 0.4), 9.0, 0.8, HIDDEN_STATE)
    for x, word in zip(places, words, strict=True):
        label(axes, (x, 0.62), word)
        arrow(axes, (x, 0.9), (x, levels[0] - half[1]))
        sticky_note(axes, (x - 0.46, top - 0.2), 0.4, 0.4)
    for level, y in enumerate(levels):
        person(axes, (0.85, y - 0.1), 0.9)
        label(axes, (0.85, y - 0.4), f"layer {level}", size=SMALL)
        above = levels[level + 1] - half[1] if level < 2 else top - 0.25
        for x, end in zip(places, ends, strict=True):
            box(axes, (x, y), 2 * half[0], 2 * half[1], edge=GREY)
            _desk_icons(axes, (x, y))
            last = end == ends[-1]
            arrow(axes, (x + half[0], y + 0.2), (12.35 if last else end, y + 0.2), color=CELL_STATE, width=3)
            arrow(axes, (x + half[0], y - 0.32), (end, y - 0.32), color=HIDDEN_STATE)
            arrow(axes, (x - 0.26, y + half[1]), (x - 0.26, above), color=HIDDEN_STATE)
        sticky_note(axes, (11.45, y - 0.52), 0.4, 0.4)
        whiteboard(axes, (12.4, y - 0.1), 0.46, 0.62, lw=2.5)
    for x, y, text in (
        (0.85, top, "out"),
        (0.85, 0.62, "telegram"),
        (11.65, 1.15, "$h_n$"),
        (12.65, 1.15, "$c_n$"),
    ):
        label(axes, (x, y), text)
    label(axes, (11.55, 0.75), "last notes", size=SMALL)
    label(axes, (12.75, 0.75), "boards", size=SMALL)
    legend = (
        (0.4, CELL_STATE, "whiteboard c: each analyst keeps it, from word to word"),
        (7.05, HIDDEN_STATE, "sticky note h: handed up, and kept for the next word"),
    )
    for x, color, text in legend:
        arrow(axes, (x, 8.3), (x + 0.6, 8.3), color=color, width=3)
        label(axes, (x + 0.75, 8.3), text, ha="left", size=SMALL)
    return figure


def _desk_icons(axes: Axes, center: Point) -> None:
    x, y = center
    whiteboard(axes, (x - 0.06, y - 0.16), 0.46, 0.62, lw=2.5)
    sticky_note(axes, (x - 0.4, y - 0.48), 0.28, 0.34)


# ---------------------------------------------------------------- the road back


def draw_road() -> Figure:
    """The gradient of an LSTM's states, and of a plain RNN's hidden state, from step t back to step t - 3."""
    figure, axes = canvas(13.6, 7.4)
    places, names = [12.0, 8.6, 5.2, 1.8], ["t", "t-1", "t-2", "t-3"]
    road, note, plain = 5.75, 3.5, 0.95
    for y, text, size, color in (
        (7.1, "LSTM: on the straight road, every step multiplies by a gate, line by line of the board", TEXT, INK),
        (2.65, "Gradients are added where arrows meet. Grey: the gates that a way goes through.", SMALL, GREY),
        (1.8, "plain RNN: every step multiplies by the same matrix", TEXT, INK),
    ):
        label(axes, (0.2, y), text, ha="left", size=size, color=color)
    for n, (x, name) in enumerate(zip(places, names, strict=True)):
        for y, state, edge in ((road, "c", CELL_STATE), (note, "h", HIDDEN_STATE), (plain, "h", HIDDEN_STATE)):
            box(axes, (x, y), 1.4, 0.7, f"$dL/d{state}_{{{name}}}$", edge=edge)
        arrow(axes, (x + 0.3, note + 0.35), (x + 0.3, road - 0.35), color=HIDDEN_STATE)
        label(axes, (x + 0.4, (road + note) / 2), "o, tanh", size=SMALL, color=GREY, ha="left")
        if n < len(places) - 1:
            _back_by_road(axes, (x, road), places[n + 1], name)
            _back_by_notes(axes, (x, note), places[n + 1], road)
            _back_in_plain(axes, (x, plain), places[n + 1], name)
    return figure


def _back_by_road(axes: Axes, at: Point, before: float, name: str) -> None:
    """From dL/dc at a step, whose name is given, to the step before it."""
    x, y = at
    middle = (x + before) / 2
    arrow(axes, (x - 0.7, y), (before + 0.7, y), color=CELL_STATE, width=5)
    operation(axes, (middle, y), "$\\times$")
    label(axes, (middle, y + 0.5), f"$f_{{{name}}}$")


def _back_by_notes(axes: Axes, at: Point, before: float, road: float) -> None:
    """From dL/dc and dL/dh at a step, through the product with h of the step before, to its dL/dh."""
    x, y = at
    middle, turn = (x + before) / 2, (road + y) / 2
    arrow(axes, (x - 0.3, road - 0.35), (x - 0.3, turn), (middle, turn), (middle, y + 0.27), color=HIDDEN_STATE)
    label(axes, ((x - 0.3 + middle) / 2, turn + 0.25), "i, f, g", size=SMALL, color=GREY)
    arrow(axes, (x - 0.7, y), (middle + 0.45, y), color=HIDDEN_STATE)
    label(axes, (middle + 0.72, y + 0.25), "o", size=SMALL, color=GREY)
    box(axes, (middle, y), 0.9, 0.54, "$W_{hh}$", edge=INK)
    arrow(axes, (middle - 0.45, y), (before + 0.7, y), color=HIDDEN_STATE)


def _back_in_plain(axes: Axes, at: Point, before: float, name: str) -> None:
    """From dL/dh of the plain RNN at a step, whose name is given, to the step before it."""
    x, y = at
    middle = (x + before) / 2
    arrow(axes, (x - 0.7, y), (before + 0.7, y), color=HIDDEN_STATE)
    box(axes, (middle, y), 0.9, 0.54, "$W_{hh}$", edge=INK)
    label(axes, (middle, y - 0.55), f"and $1 - h_{{{name}}}^2$", size=SMALL, color=GREY)
