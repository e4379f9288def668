"""What ``compare`` found, as a picture: a panel for each kernel or the network, a group of bars for each shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

from lstmkernel.cli.report import Report
from lstmkernel.workbench.compare import Result

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#000000", "#BBBBBB")
GROUP = 0.84  # of the distance between two shapes


def require_matplotlib(option: str = "--png") -> None:
    """Before the long work that it might be for nothing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError(f"{option}: needs matplotlib; pip install 'lstmkernel[plot]'") from None


def draw(report: Report, file: BinaryIO) -> None:
    """Write the picture as PNG."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    width = max(7.0, 0.22 * len(report.problems) * len(report.names) + 2.5)
    figure, panels = plt.subplots(
        len(report.entrants), 1, figsize=(width, 3.6 * len(report.entrants)), squeeze=False, layout="constrained"
    )
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(report.names)}
    for what, axes in zip(report.entrants, panels[:, 0], strict=True):
        results = [result for result in report.results if result.work == what]
        _panel(axes, results, [problem.name for problem in report.problems], colours)
        axes.set_title(what, loc="left", weight="bold")
    handles = [Patch(color=colour) for colour in colours.values()]
    figure.legend(handles, list(colours), loc="outside upper left", ncols=5, frameon=False)
    figure.savefig(file, format="png", dpi=130, facecolor="white")
    plt.close(figure)


def _panel(axes: Any, results: Sequence[Result], problems: Sequence[str], colours: dict[str, str]) -> None:
    names = [name for name in colours if any(result.backend == name for result in results)]
    step = GROUP / len(names)
    for place, name in enumerate(names):
        its = [result for result in results if result.backend == name]
        left = [problems.index(result.problem) - GROUP / 2 + (place + 0.5) * step for result in its]
        axes.bar(left, [result.seconds * 1e6 for result in its], 0.9 * step, color=colours[name], zorder=2)
    axes.set_yscale("log")
    axes.set_ylabel("microseconds a call")
    axes.set_xlim(-0.6, len(problems) - 0.4)
    axes.set_xticks(range(len(problems)), problems, rotation=20, ha="right")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.grid(axis="y", color="#DDDDDD", zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
