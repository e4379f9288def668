"""What the pictures of docs/ are drawn with: a canvas, labels, boxes, arrows, and colours that mean the same in all."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

# Okabe and Ito's colours, which the colour-blind can tell apart. One colour means one thing in all pictures.
INK, GREY = "#000000", "#666666"
GATE = {"i": "#0072B2", "f": "#D55E00", "g": "#56B4E9", "o": "#009E73"}
CELL_STATE, HIDDEN_STATE = "#E69F00", "#CC79A7"

TEXT, SMALL = 12, 10.5  # points; a picture's unit is INCH inches
INCH = 0.72

Point = tuple[float, float]


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A white figure of width by height units."""
    figure = plt.figure(figsize=(width * INCH, height * INCH), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def label(axes: Axes, at: Point, text: str, *, size: float = TEXT, color: str = INK, ha: str = "center") -> None:
    axes.text(*at, text, size=size, color=color, ha=ha, va="center", zorder=6)


def box(
    axes: Axes, center: Point, width: float, height: float, text: str = "", *, edge: str = INK, face: str = "white"
) -> None:
    x, y = center[0] - width / 2, center[1] - height / 2
    style = "round,pad=0,rounding_size=0.12"
    axes.add_patch(FancyBboxPatch((x, y), width, height, style, fc=face, ec=edge, lw=2, zorder=4))
    label(axes, center, text)


def panel(axes: Axes, corner: Point, width: float, height: float, color: str) -> None:
    """A tinted area behind what belongs together."""
    style = "round,pad=0,rounding_size=0.15"
    axes.add_patch(FancyBboxPatch(corner, width, height, style, fc=color, ec="none", alpha=0.16, zorder=0))


def operation(axes: Axes, center: Point, sign: str, size: float = 0.27) -> None:
    axes.add_patch(Circle(center, size, fc="white", ec=INK, lw=2, zorder=4))
    label(axes, center, sign, size=15)


def line(axes: Axes, *points: Point, color: str = INK, width: float = 2) -> None:
    axes.plot(
        *zip(*points, strict=True), color=color, lw=width, solid_capstyle="butt", solid_joinstyle="miter", zorder=2
    )


def arrow(axes: Axes, *points: Point, color: str = INK, width: float = 2) -> None:
    """Along the points; the tip touches the last one."""
    if len(points) > 2:
        line(axes, *points[:-1], color=color, width=width)
    tip = FancyArrowPatch(
        points[-2],
        points[-1],
        arrowstyle="-|>",
        mutation_scale=14,
        lw=width,
        color=color,
        shrinkA=0,
        shrinkB=0,
        zorder=3,
    )
    tip.set_joinstyle("miter")
    axes.add_patch(tip)
