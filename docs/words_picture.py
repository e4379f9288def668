"""The picture of words.md: how the work of a layer is divided, for vectors, caches and threads."""

from __future__ import annotations

import matplotlib as mpl
from drawing import GATE, GREY, INK, SMALL, Point, arrow, canvas, label
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

UNITS, LANES, BLOCKS = 20, 8, 3
ROWS, GROUP, STEPS, CHUNK = 6, 3, 12, 4
SIDE = 0.22
THREADS = ("#0072B2", "#D55E00", "#009E73")


def draw_words() -> Figure:
    """Units in blocks of lanes, shared by a team; rows in groups and steps in chunks, which make tasks."""
    figure, axes = canvas(13.6, 6.4)
    label(axes, (0.3, 6.05), f"units of a layer (H = {UNITS}), with their gates", ha="left")
    _blocks(axes, (0.9, 4.1))
    label(axes, (0.3, 2.2), "a team: threads share the units of one layer", ha="left")
    _team(axes, (0.9, 0.85))
    label(axes, (7.3, 6.05), f"a batch of {ROWS} rows, {STEPS} steps, two layers", ha="left")
    _time(axes, (9.0, 3.5), 1)
    _time(axes, (9.0, 1.0), 0)
    return figure


def _blocks(axes: Axes, corner: Point) -> None:
    x, y = corner
    width = LANES * SIDE
    for row, gate in enumerate("ifgo"):
        label(axes, (x - 0.2, y + (3.5 - row) * SIDE), gate, size=9)
        for unit in range(BLOCKS * LANES):
            left = x + unit * SIDE + unit // LANES * 0.2
            face = (*mpl.colors.to_rgb(GATE[gate]), 0.5) if unit < UNITS else "white"
            hatch = None if unit < UNITS else "////"
            place = (left, y + (3 - row) * SIDE)
            axes.add_patch(Rectangle(place, SIDE, SIDE, fc=face, ec=GREY, lw=0.7, hatch=hatch, zorder=3))
    for block in range(BLOCKS):
        left = x + block * (width + 0.2)
        _bracket(axes, left, left + width, y + 4 * SIDE + 0.12)
        label(axes, (left + width / 2, y + 4 * SIDE + 0.42), f"block {block}")
    label(axes, (x + 2.5 * width + 0.4, y - 0.3), f"zeros past H = {UNITS}", size=SMALL, color=GREY)
    label(axes, (x + width / 2, y - 0.3), f"{LANES} lanes", size=SMALL)
    for row, text in enumerate(
        ("lanes: the elements of one vector register, here one unit each", "(transposed: one row each)")
    ):
        label(axes, (x - 0.6, y - 0.75 - 0.35 * row), text, size=SMALL, ha="left", color=GREY)


def _team(axes: Axes, corner: Point) -> None:
    x, y = corner
    width = LANES * SIDE
    for block, color in enumerate(THREADS):
        left = x + block * (width + 0.2)
        axes.add_patch(Rectangle((left, y), width, 0.5, fc=(*mpl.colors.to_rgb(color), 0.25), ec=color, lw=2, zorder=3))
        label(axes, (left + width / 2, y + 0.25), f"block {block}")
        label(axes, (left + width / 2, y + 0.75), f"thread {block}", size=SMALL)
    end = x + BLOCKS * (width + 0.2) - 0.2
    axes.plot((x, end), (y - 0.25, y - 0.25), color=INK, lw=3)
    label(axes, ((x + end) / 2, y - 0.55), "all threads meet after every step", size=SMALL)


def _time(axes: Axes, corner: Point, layer: int) -> None:
    """Rows and steps of one layer; the tasks that two threads do at this moment."""
    x, y = corner
    side = 0.32
    label(axes, (x - 1.6, y + ROWS * side / 2), f"layer {layer}", ha="left")
    for row in range(ROWS):
        for step in range(STEPS):
            left, low = x + step * side + step // CHUNK * 0.1, y + row * side + row // GROUP * 0.1
            axes.add_patch(Rectangle((left, low), side, side, fc="white", ec=GREY, lw=0.5, zorder=2))
    chunk, color = (1 - layer), THREADS[layer]
    left, low = x + chunk * (CHUNK * side + 0.1), y + GROUP * side + 0.1
    size = (CHUNK * side, GROUP * side)
    axes.add_patch(Rectangle((left, low), *size, fc=(*mpl.colors.to_rgb(color), 0.25), ec=color, lw=2.5, zorder=4))
    label(axes, (left + size[0] / 2, low + size[1] / 2 + 0.15), "a task")
    label(axes, (left + size[0] / 2, low + size[1] / 2 - 0.2), f"of thread {layer}", size=SMALL)
    if layer == 0:
        for part in range(STEPS // CHUNK):
            start = x + part * (CHUNK * side + 0.1)
            label(axes, (start + CHUNK * side / 2, y - 0.25), "chunk", size=SMALL)
        arrow(axes, (x, y - 0.6), (x + STEPS * side + 0.2, y - 0.6), color=GREY)
        label(axes, (x - 0.15, y - 0.6), "time", ha="right", size=SMALL, color=GREY)
    for group in range(ROWS // GROUP):
        middle = y + group * (GROUP * side + 0.1) + GROUP * side / 2
        label(axes, (x - 0.15, middle), "row\ngroup", size=9, ha="right")


def _bracket(axes: Axes, left: float, right: float, y: float) -> None:
    axes.plot((left, left, right, right), (y - 0.08, y, y, y - 0.08), color=INK, lw=1)
