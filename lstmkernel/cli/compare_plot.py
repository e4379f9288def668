"""The results of ``compare`` as a picture: a panel for each workload, a group of bars for each case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

from lstmkernel.workbench.colours import SERIES
from lstmkernel.workbench.results import Comparison, Result

#: Width of a group of bars, as a part of the distance between two groups.
GROUP = 0.84


def draw(found: Comparison, file: BinaryIO) -> None:
    """Write the picture as PNG."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    count = len(found.backends)
    width = max(7.0, 0.22 * len(found.cases) * len(found.names) + 2.5)
    figure, panels = plt.subplots(count, 1, figsize=(width, 3.6 * count), squeeze=False, layout="constrained")
    colours = {name: SERIES[i % len(SERIES)] for i, name in enumerate(found.names)}
    for workload, axes in zip(found.backends, panels[:, 0], strict=True):
        _panel(axes, found.of(workload), [case.name for case in found.cases], colours)
        axes.set_title(workload, loc="left", weight="bold")
    handles = [Patch(color=colour) for colour in colours.values()]
    figure.legend(handles, list(colours), loc="outside upper left", ncols=5, frameon=False)
    figure.savefig(file, format="png", dpi=130, facecolor="white")
    plt.close(figure)


def _panel(axes: Any, results: Sequence[Result], cases: Sequence[str], colours: dict[str, str]) -> None:
    names = [name for name in colours if any(result.backend == name for result in results)]
    step = GROUP / len(names)
    for place, name in enumerate(names):
        its = [result for result in results if result.backend == name]
        left = [cases.index(result.case) - GROUP / 2 + (place + 0.5) * step for result in its]
        axes.bar(left, [result.seconds * 1e6 for result in its], 0.9 * step, color=colours[name], zorder=2)
    axes.set_yscale("log")
    axes.set_ylabel("microseconds a call")
    axes.set_xlim(-0.6, len(cases) - 0.4)
    axes.set_xticks(range(len(cases)), cases, rotation=20, ha="right")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.grid(axis="y", color="#DDDDDD", zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
