"""The text of ``explain``: the four moves of one step, then all layers over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lstmkernel.backends.packing import Array
from lstmkernel.workbench.explain.explained import MOST_NUMBERS, Explained

#: Letters of a word that fit above a column.
WIDEST_WORD = 6
#: Styles of the results.
OUT, H_N, C_N = "bold cyan", "bold magenta", "bold yellow"


def moves(shown: Explained, k: int, step: int) -> RenderableType:
    """The cell of layer and direction k at one step: its four moves with their numbers."""
    title = Text(f"The four moves of the cell: {shown.label(k)} at step {step}")
    if shown.steps[step] != str(step):
        title.append(", ").append(shown.steps[step], style="bold")
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    for _ in range(MOST_NUMBERS):
        table.add_column(justify="right", no_wrap=True)
    for move, formula, values in _moves(shown, k, step):
        table.add_row(move, formula, *(f"{value:.3f}" for value in values[:MOST_NUMBERS]))
    H = shown.lstm.hidden_size
    remark = f"Columns are units 0 to {min(MOST_NUMBERS, H) - 1} of {H}. z is the gate matmul: z = W_ih x_t + b_ih + "
    return Group(title, table, Text(remark + "W_hh h_{t-1} + b_hh.", style="dim"))


def _moves(shown: Explained, k: int, step: int) -> Iterable[tuple[str, str, Array]]:
    """The lines of the table: the move, its formula or meaning, the numbers."""
    i, f, g, o, c, h = (values[k, step] for values in shown.trace)
    before = step + 1 if shown.reverse(k) else step - 1
    h_before, c_before = np.zeros_like(h), np.zeros_like(c)
    if 0 <= before < len(shown.steps):
        h_before, c_before = shown.trace.h[k, before], shown.trace.c[k, before]
    layer, D = k // shown.directions, shown.directions
    below = f"h of layer {layer - 1}" if layer else "the input"
    x_t = np.concatenate(shown.trace.h[D * (layer - 1) : D * layer, step]) if layer else shown.x[step]
    yield "given", f"x_t      {below}", x_t
    yield "", "h_{t-1}  h of the step before", h_before
    yield "", "c_{t-1}  c of the step before", c_before
    yield "1 forget", "f_t = sigmoid(z_f)", f
    yield "", "f_t * c_{t-1}  what is kept", f * c_before
    yield "2 input", "i_t = sigmoid(z_i)", i
    yield "", "g_t = tanh(z_g)", g
    yield "", "i_t * g_t  what is written", i * g
    yield "3 update", "c_t = f_t * c_{t-1} + i_t * g_t", c
    yield "4 output", "o_t = sigmoid(z_o)", o
    yield "", "tanh(c_t)", np.tanh(c)
    yield "", "h_t = W_hr (o_t * tanh(c_t))" if shown.lstm.proj_size else "h_t = o_t * tanh(c_t)", h


def grid(shown: Explained, step: int) -> RenderableType:
    """h of every layer and direction: time runs across, layers go up; out, h_n and c_n are marked."""
    window = shown.window(step)
    title = Text("h at every step (across) and layer (upwards), and c_n: ")
    for name, style in (("out", OUT), ("h_n", H_N), ("c_n", C_N)):
        title.append(f" {name} ", style=f"{style} reverse")
    table = Table(box=None, padding=0, show_header=False)
    for _ in range(2 * len(window) + 5):
        table.add_column(no_wrap=True, justify="center")
    words = [Text(_short(shown.steps[t]), style="bold reverse" if t == step else "bold") for t in window]
    table.add_row("", *_beside(words), "", Text("h_n", style=H_N), "", Text("c_n", style=C_N))
    for k in reversed(range(len(shown.trace.h))):
        table.add_row(*_layer(shown, k, window))
        if not shown.reverse(k):
            table.add_row("", *_beside([Text("↑", style="dim")] * len(window)))
    table.add_row(Text("x"), *_beside([_column(shown.x[t]) for t in window]))
    return Group(title, table)


def _layer(shown: Explained, k: int, window: range) -> list[Text]:
    on_top = k >= len(shown.trace.h) - shown.directions
    cells = [_column(shown.trace.h[k, t], OUT if on_top else "") for t in window]
    arrow = "←" if shown.reverse(k) else "→"
    before = "…" if window.start else " "
    after = "…" if window.stop < len(shown.steps) else " " if shown.reverse(k) else arrow
    label = Text(shown.label(k).replace(" reverse", "\nreverse"))
    last = (
        Text(f"\n {after} ", style="dim"),
        _column(shown.trace.h[k, shown.last(k)], H_N),
        Text("  "),
        _column(shown.trace.c[k, shown.last(k)], C_N),
    )
    return [label, *_beside(cells, before, arrow), *last]


def _beside(cells: Sequence[Text], before: str = " ", between: str = " ") -> list[Text]:
    """The cells of a row, with a mark on the second line: ``before`` the first cell, ``between`` the others."""
    row = []
    for mark, cell in zip((before, *[between] * (len(cells) - 1)), cells, strict=True):
        row += [Text(f"\n {mark} " if mark.strip() else "   ", style="dim"), cell]
    return row


def _column(values: Array, style: str = "") -> Text:
    """Numbers, one below the other."""
    return Text("\n".join(f"{value:5.2f}" for value in values[:MOST_NUMBERS]), style=style)


def _short(word: str) -> str:
    return word if len(word) <= WIDEST_WORD else f"{word[: WIDEST_WORD - 1]}…"


def results(shown: Explained) -> RenderableType:
    """What a call returns."""
    out, (h_n, c_n) = shown.lstm(shown.x)
    top = shown.lstm.num_layers - 1
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_row(Text("out", style=OUT), str(out.shape), f"h of layer {top} at every step")
    table.add_row(Text("h_n", style=H_N), str(h_n.shape), "h of every layer at its last step")
    table.add_row(Text("c_n", style=C_N), str(c_n.shape), "c of every layer at its last step")
    return Group(Text("out, (h_n, c_n) = lstm(x)"), table)
