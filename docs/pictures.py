"""Draw the pictures of docs/: python docs/pictures.py [DIRECTORY] [--format svg|png].

Writes to docs/pictures by default. The same matplotlib writes the same bytes: no date, fixed ids.
What this file draws itself are those of lstm.md: the cell as a circuit, the stack, the order of packed weights.
"""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
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
    operation,
    panel,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from memory_pictures import draw_desk, draw_road, draw_whiteboard, example
from PIL import Image
from words_picture import draw_words

from lstmkernel.workbench.explain import example as explain_example
from lstmkernel.workbench.explain import flow as explain_flow
from lstmkernel.workbench.explain import gates as explain_gates
from lstmkernel.workbench.explain import grid as explain_grid

STYLE = {
    "svg.hashsalt": "lstmkernel",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "mathtext.fontset": "dejavusans",
    "hatch.linewidth": 0.6,
}


def draw_cell() -> Figure:
    """One step of one layer through the four moves."""
    figure, axes = canvas(13.4, 8.0)
    road, report, gates, product = 6.3, 4.05, 2.95, 1.25  # heights of c, h_t, the gate boxes and the gate matmul
    at = {"f": 2.6, "i": 4.7, "g": 6.8, "o": 8.9}
    forget, add, written, told = (2.6, road), (5.75, road), (5.75, 4.75), (10.6, report)

    panel(axes, (1.05, 2.2), 2.4, 1.75, GATE["f"])
    panel(axes, (3.75, 2.2), 4.0, 1.75, GATE["i"])
    panel(axes, (1.05, 4.2), 6.7, 3.3, CELL_STATE)
    panel(axes, (8.05, 2.2), 3.25, 3.75, GATE["o"])
    label(axes, (1.2, 3.67), "1  forget", ha="left")
    label(axes, (5.75, 3.67), "2  input")
    label(axes, (1.2, 7.2), "3  update    $c_t = f_t\\,c_{t-1} + i_t\\,g_t$", ha="left")
    label(axes, (8.2, 5.65), "4  output", ha="left")
    label(axes, (8.2, 5.2), "$h_t = o_t\\,\\tanh\\,c_t$", ha="left")

    arrow(axes, (0.75, road), (forget[0] - 0.27, road), color=CELL_STATE, width=4)
    arrow(axes, (forget[0] + 0.27, road), (add[0] - 0.27, road), color=CELL_STATE, width=4)
    arrow(axes, (add[0] + 0.27, road), (12.3, road), color=CELL_STATE, width=4)
    label(axes, (0.4, road), "$c_{t-1}$")
    label(axes, (12.7, road), "$c_t$")
    operation(axes, forget, "$\\times$")
    operation(axes, add, "+")
    operation(axes, written, "$\\times$")
    operation(axes, told, "$\\times$")

    box(axes, (5.75, product), 8.0, 0.8, "gate matmul     $z = x_t W_{ih}^T + b + h_{t-1} W_{hh}^T$")
    for gate, name in {"f": "sigmoid", "i": "sigmoid", "g": "tanh", "o": "sigmoid"}.items():
        arrow(axes, (at[gate], product + 0.4), (at[gate], gates - 0.3))
        label(axes, (at[gate] + 0.3, 1.95), f"$z_{gate}$", size=SMALL)
        box(axes, (at[gate], gates), 1.3, 0.6, name, edge=GATE[gate])
    arrow(axes, (0.75, product), (1.75, product), color=HIDDEN_STATE, width=3)
    label(axes, (0.4, product), "$h_{t-1}$")
    arrow(axes, (5.75, 0.5), (5.75, product - 0.4))
    label(axes, (5.75, 0.25), "$x_t$")

    top = gates + 0.3
    arrow(axes, (at["f"], top), (at["f"], road - 0.27), color=GATE["f"])
    label(axes, (at["f"] + 0.3, 4.75), "$f_t$")
    arrow(axes, (at["i"], top), (at["i"], written[1]), (written[0] - 0.27, written[1]), color=GATE["i"])
    label(axes, (at["i"] - 0.28, 4.75), "$i_t$")
    arrow(axes, (at["g"], top), (at["g"], written[1]), (written[0] + 0.27, written[1]), color=GATE["g"])
    label(axes, (at["g"] + 0.3, 4.75), "$g_t$")
    arrow(axes, (written[0], written[1] + 0.27), (add[0], road - 0.27))
    arrow(axes, (at["o"], top), (at["o"], report), (told[0] - 0.27, report), color=GATE["o"])
    label(axes, (at["o"] + 0.55, report + 0.28), "$o_t$")
    arrow(axes, (told[0], road), (told[0], 5.45), color=CELL_STATE, width=3)
    box(axes, (told[0], 5.15), 1.0, 0.6, "tanh")
    arrow(axes, (told[0], 4.85), (told[0], report + 0.27))
    arrow(axes, (told[0] + 0.27, report), (12.3, report), color=HIDDEN_STATE, width=3)
    label(axes, (12.7, report), "$h_t$")

    label(axes, (12.95, road + 0.5), "to step t + 1", size=SMALL, color=GREY, ha="right")
    for row, text in enumerate(("to step t + 1", "and to the", "layer above")):
        label(axes, (12.95, report - 0.5 - 0.35 * row), text, size=SMALL, color=GREY, ha="right")
    return figure


def draw_stack() -> Figure:
    """Layers up, time across; what is out, h_n and c_n."""
    figure, axes = canvas(13.4, 8.0)
    times, layers = [3.2, 5.4, 7.6, 9.8], [2.0, 3.75, 5.5]
    steps = ["0", "1", "…", "T $-$ 1"]
    half_width, half_height, off = 0.65, 0.5, 0.2

    panel(axes, (2.3, 6.62), 8.4, 0.76, HIDDEN_STATE)
    label(axes, (2.1, 7.0), "out", ha="right")
    label(axes, (10.9, 7.0), "(T, B, R)", ha="left", size=SMALL, color=GREY)
    for x, name, shape in ((11.65, "h_n", "(L, B, R)"), (12.65, "c_n", "(L, B, H)")):
        label(axes, (x, 0.98), name)
        label(axes, (x, 0.65), shape, size=9, color=GREY)

    for level, y in enumerate(layers):
        label(axes, (0.15, y), f"layer {level}", ha="left")
        label(axes, (1.75, y + off), f"$c_0$[{level}]", size=SMALL)
        label(axes, (1.75, y - off), f"$h_0$[{level}]", size=SMALL)
        starts = [2.2, *(x + half_width for x in times)]
        ends = [*(x - half_width for x in times), 11.25]
        for start, end in zip(starts, ends, strict=True):
            last = end == 11.25
            arrow(axes, (start, y + off), (12.25 if last else end, y + off), color=CELL_STATE, width=3)
            arrow(axes, (start, y - off), (end, y - off), color=HIDDEN_STATE)
        for x, height, name, color in ((11.25, y - off, "h_n", HIDDEN_STATE), (12.25, y + off, "c_n", CELL_STATE)):
            panel(axes, (x, height - 0.17), 0.8, 0.34, color)
            label(axes, (x + 0.4, height), f"{name}[{level}]", size=9.5)
        for x, step in zip(times, steps, strict=True):
            box(axes, (x, y), 2 * half_width, 2 * half_height, "…" if step == "…" else "cell")
            above = layers[level + 1] - half_height if level < 2 else 6.75
            arrow(axes, (x, y + half_height), (x, above), color=HIDDEN_STATE)
    for x, step in zip(times, steps, strict=True):
        for y, text, size in ((7.68, f"t = {step}", SMALL), (7.0, f"out[{step}]", TEXT), (0.88, f"x[{step}]", TEXT)):
            label(axes, (x, y), "…" if step == "…" else text, size=size, color=GREY if y > 7.5 else INK)
        arrow(axes, (x, 1.08), (x, layers[0] - half_height))
        label(axes, (x + 0.14, 4.62), "$h$", size=SMALL, ha="left")
        label(axes, (x + 0.14, 2.87), "$h$", size=SMALL, ha="left")
    arrow(axes, (2.3, 0.35), (10.7, 0.35), color=GREY)
    label(axes, (2.1, 0.35), "time", ha="right", size=SMALL, color=GREY)
    arrow(axes, (0.35, 6.1), (0.35, 7.3), color=GREY)
    label(axes, (0.5, 6.7), "layers", ha="left", size=SMALL, color=GREY)
    return figure


#: The packed picture's example: a small layer whose last block is not full.
UNITS, INPUTS, LANES = 6, 3, 4


def weight_cell(axes: Axes, corner: Point, side: float, gate: str, unit: int) -> None:
    """One number of a weight: full colour in block 0, pale in block 1, hatched where it is a zero past H."""
    padding = unit >= UNITS
    alpha = 0.75 if unit < LANES else 0.3
    face = "white" if padding else (*mpl.colors.to_rgb(GATE[gate]), alpha)
    hatch = "////" if padding else None
    axes.add_patch(Rectangle(corner, side, side, fc=face, ec=GREY, lw=0.7, hatch=hatch, zorder=3))


def draw_packed() -> Figure:
    """[blocks][K][4][lanes], and the sweep over k that fills four registers."""
    figure, axes = canvas(13.4, 8.0)
    side = 0.22
    left, top = 1.0, 6.55
    label(axes, (0.15, 7.65), "weight_ih (4H, K)", ha="left")
    label(axes, (0.15, 7.25), f"H = {UNITS}, K = {INPUTS}", ha="left", size=SMALL, color=GREY)
    for g, gate in enumerate("ifgo"):
        gate_top = top - g * (UNITS * side + 0.08)
        for unit in range(UNITS):
            for k in range(INPUTS):
                weight_cell(axes, (left + k * side, gate_top - (unit + 1) * side), side, gate, unit)
        label(axes, (left - 0.2, gate_top - UNITS * side / 2), gate, color=INK)
    for k in range(INPUTS):
        label(axes, (left + (k + 0.5) * side, top + 0.17), str(k), size=8, color=GREY)
    label(axes, (left - 0.25, top + 0.17), "k", size=8, color=GREY)

    start = 2.85
    vector = LANES * side
    group = 4 * vector
    label(axes, (start, 7.65), "in memory: [blocks][K][4][lanes]", ha="left")
    note = f"lanes = {LANES}; each row is contiguous in memory"
    label(axes, (start + 4.6, 7.65), note, ha="left", size=SMALL, color=GREY)
    for block, y in enumerate((6.2, 4.85)):
        units = f"units {block * LANES} … {(block + 1) * LANES - 1}"
        text = f"block {block}:  {units}" + (f",  zeros past H = {UNITS}" if block else "")
        label(axes, (start, y + 0.95), text, ha="left", size=SMALL)
        for k in range(INPUTS):
            x = start + k * (group - 0.1)
            for g, gate in enumerate("ifgo"):
                for lane in range(LANES):
                    corner = (x + (g * LANES + lane) * side * 0.96, y)
                    weight_cell(axes, corner, side * 0.96, gate, block * LANES + lane)
                label(axes, (x + (g + 0.5) * vector * 0.96, y + 0.37), gate, size=SMALL)
            label(axes, (x + 2 * vector * 0.96, y + 0.66), f"k = {k}", size=SMALL, color=GREY)

    read, lane_width = 1, 0.5
    frame = (start + read * (group - 0.1) - 0.02, 6.2 - 0.06)
    axes.add_patch(Rectangle(frame, group * 0.96 + 0.04, 0.92, fc="none", ec=INK, lw=2, zorder=5))
    label(axes, (start, 3.85), f"the sweep over k, block 0, at k = {read} (framed above)", ha="left")
    y = 1.55
    for g, gate in enumerate("ifgo"):
        x = start + 0.55 + g * (LANES * lane_width + 0.35)
        middle = x + LANES * lane_width / 2
        for lane in range(LANES):
            corner = (x + lane * lane_width, y)
            face = (*mpl.colors.to_rgb(GATE[gate]), 0.35)
            axes.add_patch(Rectangle(corner, lane_width, 0.5, fc=face, ec=INK, lw=1, zorder=3))
            label(axes, (corner[0] + lane_width / 2, y + 0.25), f"{lane}", size=SMALL)
        label(axes, (middle, y - 0.25), f"acc[{gate}]", size=SMALL)
        label(axes, (middle, y + 1.6), f"w[{read}][{gate}]  $\\times$  x[{read}]", size=SMALL)
        arrow(axes, (middle, y + 1.38), (middle, y + 0.5), color=GATE[gate])
        label(axes, (middle + 0.15, y + 0.95), "fma", size=SMALL, ha="left", color=GREY)
    summary = (
        "Four loads that follow each other in memory, x[k] copied to all lanes, four fused multiply-adds.",
        "After the last k, lane u of the four holds z_i, z_f, z_g and z_o of unit u: all that the cell update needs.",
    )
    for row, text in enumerate(summary):
        label(axes, (start, 0.75 - 0.38 * row), text, ha="left", size=SMALL)
    return figure


PICTURES = {
    "whiteboard": draw_whiteboard,
    "cell": draw_cell,
    "stack": draw_stack,
    "desk": draw_desk,
    "road": draw_road,
    "flow": lambda: explain_flow.draw_flow(explain_example.experiment()),
    "packed": draw_packed,
    "words": draw_words,
}
#: Those of very many marks, which are smaller as pixels.
DENSE = {
    "gates": lambda: explain_gates.draw_gates(example()),
    "grid": lambda: explain_grid.draw_grid(example(), 3),
}


def write_svg(figure: Figure, path: Path) -> None:
    """Text as text, two decimals, no metadata, no indentation: half the bytes of letters as outlines.

    Where DejaVu Sans is missing, Verdana takes its place, whose letters are as wide.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", file.getvalue(), flags=re.DOTALL)
    text = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), text)
    path.write_text(re.sub(r"\s*\n\s*", " ", text).replace("> <", "><").strip() + "\n")


def write_png(figure: Figure, path: Path) -> None:
    """In 256 colours, which makes a third of the file; but not gates, whose colour bars have more."""
    pixels = io.BytesIO()
    figure.savefig(pixels, format="png", dpi=110)
    image = Image.open(pixels).convert("RGB")
    (image if path.stem == "gates" else image.quantize(256, kmeans=1)).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent / "pictures")
    parser.add_argument("--format", choices=("svg", "png"), default="svg", help="of all but gates and grid (svg)")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, draw in (PICTURES | DENSE).items():
            figure = draw()
            if options.format == "png" or name in DENSE:
                write_png(figure, options.directory / f"{name}.png")
            else:
                write_svg(figure, options.directory / f"{name}.svg")
            plt.close(figure)


if __name__ == "__main__":
    main()
