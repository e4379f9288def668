"""The times of ``compare`` as a picture: a panel for each workload, a dot and its number for each result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from lstmkernel.host import numbers_text
from lstmkernel.workbench.colours import SERIES
from lstmkernel.workbench.results import Comparison

#: Inches of a line, of a panel's width, and of what is around its lines.
LINE, WIDTH, AROUND = 0.19, 6.2, 0.9
#: With more lines than this in all, the panels stand in two columns.
ONE_COLUMN = 60
#: The ends of an axis on which powers of ten alone are too few labels.
FEW = 50


class _Line(NamedTuple):
    """A line of a panel: the name of a case above its results, or a result."""

    text: str
    backend: str = ""  # "" for the name of a case
    seconds: float = 0.0  # 0 where it was not timed
    word: str = ""  # why not


def draw(found: Comparison, file: BinaryIO) -> None:
    """Write the picture as PNG."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    panels = {workload: _lines(found, workload) for workload in found.backends}
    columns = 1 if sum(map(len, panels.values())) <= ONE_COLUMN else 2
    rows = [list(panels)[first : first + columns] for first in range(0, len(panels), columns)]
    heights = [LINE * max(len(panels[workload]) for workload in row) + AROUND for row in rows]
    figure, axes = plt.subplots(
        *(len(rows), columns),
        figsize=(columns * WIDTH, sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    names = dict.fromkeys([*found.names, *(one.backend for one in found.wrong)])
    colours = {name: SERIES[i % len(SERIES)] for i, name in enumerate(names)}
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    for (workload, lines), place in zip(panels.items(), axes.flat, strict=False):
        place.set_title(workload, loc="left", weight="bold")
        _panel(place, lines, colours)
    figure.savefig(file, format="png", dpi=130, facecolor="white")
    plt.close(figure)


def _lines(found: Comparison, workload: str) -> list[_Line]:
    """Case by case, the fastest backend first."""
    lines = []
    for case in found.cases:
        results = sorted(found.of(workload, case=case.name), key=lambda result: result.seconds)
        lines.append(_Line(case.name if case.name == case.sizes else f"{case.name}  {case.sizes}"))
        lines += [_Line(result.backend, result.backend, result.seconds) for result in results]
        lines += [_Line(one.backend, one.backend, word=one.word) for one in found.wrong_in(workload, case.name)]
    return lines


def _panel(axes: Any, lines: list[_Line], colours: dict[str, str]) -> None:
    """Lines from the top; times from left to right."""
    times = [line.seconds for line in lines if line.seconds]
    left, right = min(times) / 1.6, max(times) * 1.6
    for y, line in enumerate(lines):
        if line.seconds:
            axes.plot([left, line.seconds], [y, y], color="#DDDDDD", linewidth=1, zorder=1)
            axes.plot(line.seconds, y, "o", color=colours[line.backend], markersize=6, zorder=2)
            _write(axes, numbers_text.duration(line.seconds), line.seconds, y, "black")
        elif line.word:
            _write(axes, f"{line.word}, not timed", left, y, "red")
    axes.set_yticks(range(len(lines)), [line.text for line in lines], size=8)
    for line, label in zip(lines, axes.get_yticklabels(), strict=True):
        label.set_weight("normal" if line.backend else "bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(left, right * (right / left) ** 0.15)  # room for the last number
    axes.set_xlabel("time of a call, on a logarithmic axis")
    label_axis(axes.xaxis, lambda value: numbers_text.duration(value).replace(".00", "").replace(".0", ""))
    axes.spines[["top", "right", "left"]].set_visible(False)


def _write(axes: Any, text: str, seconds: float, y: int, colour: str) -> None:
    """To the right of a place."""
    axes.annotate(text, (seconds, y), (7, 0), textcoords="offset points", va="center", size=8, color=colour)


def label_axis(axis: Any, text: Callable[[float], str]) -> None:
    """On a logarithmic axis: every power of ten; 2 and 5 times that, too, where there are few of them."""
    low, high = sorted(axis.get_view_interval())
    few = high / low < FEW
    axis.set_major_formatter(lambda value, _: text(value))
    axis.set_minor_formatter(lambda value, _: text(value) if few and f"{value:e}"[0] in "25" else "")
