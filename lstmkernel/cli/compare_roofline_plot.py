"""The rooflines of ``compare --roofline``: what one core can do as lines, what kernels and networks do as dots."""

from __future__ import annotations

from math import atan2, degrees
from typing import Any, BinaryIO

from lstmkernel.cli.compare_plot import label_axis
from lstmkernel.host import numbers_text
from lstmkernel.workbench.colours import BLACK, GREY, SERIES
from lstmkernel.workbench.results import Comparison, Result
from lstmkernel.workbench.roofline.bounds import Peaks
from lstmkernel.workbench.roofline.roofline import SIZES, weight_bytes

#: Inches of a panel.
WIDTH, HEIGHT = 6.6, 4.6
#: One for each case, again from the first after the last.
MARKERS = "os^Dv*PX<>"


def workloads_of(found: Comparison) -> list[str]:
    """Those that have a bound in some case."""
    return [name for name in found.backends if any(found.bounds.get((case.name, name)) for case in found.cases)]


def draw(found: Comparison, file: BinaryIO) -> None:
    """Write the picture as PNG: a panel for each of ``workloads_of``."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    panels = workloads_of(found)
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(WIDTH, HEIGHT * len(panels)), squeeze=False, layout="constrained"
    )
    colours = {name: SERIES[i % len(SERIES)] for i, name in enumerate(found.names)}
    markers = {case.name: MARKERS[i % len(MARKERS)] for i, case in enumerate(found.cases)}
    for workload, place in zip(panels, axes[:, 0], strict=True):
        place.set_title(f"{workload}, {found.dtype}, one core", loc="left", weight="bold")
        _panel(place, found, workload, colours, markers)
    handles = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for name, colour in colours.items()]
    handles += [
        Line2D([], [], marker=marker, linestyle="", color="none", markeredgecolor=BLACK, label=name)
        for name, marker in markers.items()
    ]
    handles.append(Line2D([], [], marker="_", linestyle="", color=BLACK, markersize=12, label="the bound"))
    handles.append(Line2D([], [], color=GREY, label="reading weights of that size"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(file, format="png", dpi=130, facecolor="white")
    plt.close(figure)


def _panel(axes: Any, found: Comparison, workload: str, colours: dict[str, str], markers: dict[str, str]) -> None:
    assert found.peaks is not None
    intensities = {case.name: _intensity(found, workload, case.name) for case in found.cases}
    known = [intensity for intensity in intensities.values() if intensity]
    ridges = [found.peaks.flops / found.peaks.reads[size] for size in (SIZES[0], SIZES[-1])]
    left, right = min(*known, ridges[0] / 4) / 1.5, max(*known, ridges[1]) * 3
    _roofs(axes, found.peaks, left, right)
    slowest = found.peaks.flops
    for result in found.of(workload):
        x = intensities[result.case]
        if x is None or result.flops is None:
            continue
        bound = found.bounds[result.case, workload]
        assert bound is not None
        axes.plot(x, result.flops / bound / 1e9, "_", color=BLACK, markersize=16, markeredgewidth=2, zorder=3)
        rate = result.flops / result.seconds
        axes.plot(x, rate / 1e9, markers[result.case], color=colours[result.backend], markersize=7, zorder=4, alpha=0.9)
        slowest = min(slowest, rate)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(slowest / 2e9, found.peaks.flops * 2.2 / 1e9)
    axes.set_xlabel("floating-point operations for each byte of weights that is read")
    axes.set_ylabel("GFLOP/s")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    label_axis(axes.yaxis, lambda value: f"{value:g}")
    axes.grid(color="#EEEEEE", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _roofs(axes: Any, peaks: Peaks, left: float, right: float) -> None:
    """The peak of multiply-adds, and a slope for reading from each kind of cache and from memory."""
    top = peaks.flops / 1e9
    axes.plot([left, right], [top, top], color=BLACK, linewidth=1.5, zorder=2)
    axes.annotate(
        f"{top:.3g} GFLOP/s of multiply-adds", (right, top), (-2, 4), textcoords="offset points", ha="right", size=8
    )
    for size in SIZES:
        rate = peaks.reads[size] / 1e9
        ridge = top / rate  # where reading and multiplying take as long
        axes.plot([left, ridge], [left * rate, top], color=GREY, linewidth=1.5, zorder=1)
        axes.text(
            *(0.8 * ridge, 0.8 * top),
            f"{rate:.3g} GB/s, {numbers_text.size(size)}",
            rotation=degrees(atan2(top, ridge)),
            rotation_mode="anchor",
            transform_rotates_text=True,
            ha="right",
            va="bottom",
            size=7,
            clip_on=True,
        )


def _intensity(found: Comparison, workload: str, name: str) -> float | None:
    """Floating-point operations of a call for each byte of weights that it reads."""
    assert found.peaks is not None
    (case,) = (case for case in found.cases if case.name == name)
    results: list[Result] = found.of(workload, case=name)
    size = weight_bytes(case, workload, found.peaks)
    if size is None or not results or results[0].flops is None or not found.bounds.get((name, workload)):
        return None
    return results[0].flops / size
