"""The heat maps of ``explain``: every gate and state over time."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lstmkernel.backends.packing import Array
from lstmkernel.workbench.explain.explained import Explained

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

#: Of a layer with more units than this, so many are drawn: more rows would be too thin to see.
MOST_UNITS = 32


def draw_gates(shown: Explained) -> Figure:
    """A heat map of units over time for each gate and state (across) of each layer and direction (top layer first).

    f, i and o are shares, from 0 to 1. g, c and h have a scale for each map, because in upper layers and with many
    units their numbers are small.
    """
    rows = len(shown.trace.h)
    layout = ConstrainedLayoutEngine(rect=(0, 0, 0.992, 1))  # the last label of the colour bar stands out a little
    figure = Figure(figsize=(15, 1.8 + 2.1 * rows), layout=layout)
    panels = figure.subplots(rows, len(FIELDS), sharex=True, squeeze=False)
    for column, (name, title) in enumerate(FIELDS.items()):
        signed = name not in "fio"
        for row, axes in enumerate(panels[:, column]):
            k = rows - 1 - row
            values, c = getattr(shown.trace, name)[k], shown.trace.c[k]
            # With a projection, the numbers of h are not those of single units.
            _map(axes, values.T, chosen_units(c if values.shape == c.shape else values), signed)
        panels[0, column].set_title(title, fontsize=13, pad=20)
        scale = ScalarMappable(Normalize(-1 if signed else 0, 1), SIGNED if signed else SHARE)
        bar = figure.colorbar(scale, ax=panels[:, column], location="bottom", aspect=14, pad=0.02)
        if signed:
            bar.set_ticks([-1, 0, 1], labels=["-max", "0", "max"])
        bar.ax.tick_params(labelsize=10)
    for row, axes in enumerate(panels[:, 0]):
        axes.set_ylabel(f"{shown.label(rows - 1 - row)}\nunit", fontsize=12)
    for axes in panels[-1]:
        _step_ticks(axes, shown.steps)
    units = shown.trace.c.shape[-1]
    if units > MOST_UNITS:
        figure.suptitle(f"{MOST_UNITS} of {units} units: those whose cell state changes most in the layer", fontsize=13)
    return figure


def chosen_units(states: Array) -> Array:
    """The units that are drawn of a layer with these states (T, H): those that vary most, in their order."""
    varies = np.ptp(states, axis=0)
    chosen: Array = np.sort(np.argsort(-varies, kind="stable")[:MOST_UNITS])
    return chosen


def _map(axes: Any, values: Array, units: Array, signed: bool) -> None:
    """One heat map of these units. values: (H, T)."""
    values = values[units]
    most = (float(np.abs(values).max()) or 1.0) if signed else 1.0
    colours = SIGNED if signed else SHARE
    axes.imshow(values, aspect="auto", cmap=colours, vmin=-most if signed else 0, vmax=most, interpolation="none")
    if signed:
        axes.text(1, 1.02, f"max {most:#.2g}", fontsize=10, ha="right", va="bottom", transform=axes.transAxes)
    ticks = range(0, len(units), max(1, len(units) // 4))
    axes.set_yticks(ticks, [str(units[tick]) for tick in ticks])
    axes.tick_params(labelsize=10)


def _step_ticks(axes: Any, steps: list[str]) -> None:
    if len(steps) <= 12:
        axes.set_xticks(range(len(steps)), steps, rotation=90, fontsize=11)
    else:
        axes.set_xlabel("step", fontsize=11)
