"""The rooflines of ``compare --roofline``: what one core can do as lines, what kernels and networks do as dots."""

from __future__ import annotations

from math import atan2, degrees
from typing import Any, BinaryIO

from lstmkernel.cli.compare_plot import label_axis
from lstmkernel.host import numbers_text
from lstmkernel.workbench import narrow
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
    return [name for name in found.backends if any(found.bound(result) for result in found.of(name))]


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
    results = [result for result in found.of(workload) if result.flops is not None and found.bound(result)]
    intensities = [_intensity(found, result) for result in results]
    peaks = _drawn_peaks(found, results)
    (wide, *_), highest = peaks.values(), max(each.flops for each in peaks.values())
    ridges = [wide.flops / wide.reads[SIZES[0]], highest / wide.reads[SIZES[-1]]]
    left, right = min(*intensities, ridges[0] / 4) / 1.5, max(*intensities, ridges[1]) * 3
    _roofs(axes, peaks, left, right)
    slowest = wide.flops
    for result, x in zip(results, intensities, strict=True):
        bound = found.bound(result)
        assert bound is not None
        assert result.flops is not None
        axes.plot(x, result.flops / bound / 1e9, "_", color=BLACK, markersize=16, markeredgewidth=2, zorder=3)
        rate = result.flops / result.seconds
        axes.plot(x, rate / 1e9, markers[result.case], color=colours[result.backend], markersize=7, zorder=4, alpha=0.9)
        slowest = min(slowest, rate)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(slowest / 2e9, highest * 2.2 / 1e9)
    integers = len(peaks) > 1
    axes.set_xlabel(f"{'' if integers else 'floating-point '}operations for each byte of weights that is read")
    axes.set_ylabel("billions of operations a second" if integers else "GFLOP/s")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    label_axis(axes.yaxis, lambda value: f"{value:g}")
    axes.grid(color="#EEEEEE", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _drawn_peaks(found: Comparison, results: list[Result]) -> dict[str, Peaks]:
    """Those with a line of their own: that of the dtype, and those of products of integers."""
    used = {result.precision for result in results}
    first = next(iter(found.peaks))
    return {
        name: each for name, each in found.peaks.items() if name == first or (name in used and narrow.is_int8(name))
    }


def _roofs(axes: Any, peaks: dict[str, Peaks], left: float, right: float) -> None:
    """The peaks of products, and a slope for reading from each kind of cache and from memory."""
    for name, each in peaks.items():
        top = each.flops / 1e9
        what = f"of {name} products" if narrow.is_int8(name) else "GFLOP/s of multiply-adds"
        axes.plot([left, right], [top, top], color=BLACK, linewidth=1.5, zorder=2)
        axes.annotate(f"{top:.3g} {what}", (right, top), (-2, 4), textcoords="offset points", ha="right", size=8)
    wide = next(iter(peaks.values()))
    lowest, highest = wide.flops / 1e9, max(each.flops for each in peaks.values()) / 1e9
    for size in SIZES:
        rate = wide.reads[size] / 1e9
        ridge = highest / rate  # where reading and multiplying take as long
        axes.plot([left, ridge], [left * rate, highest], color=GREY, linewidth=1.5, zorder=1)
        axes.text(
            *(0.8 * lowest / rate, 0.8 * lowest),
            f"{rate:.3g} GB/s, {numbers_text.size(size)}",
            rotation=degrees(atan2(highest, ridge)),
            rotation_mode="anchor",
            transform_rotates_text=True,
            ha="right",
            va="bottom",
            size=7,
            clip_on=True,
        )


def _intensity(found: Comparison, result: Result) -> float:
    """Operations of a call for each byte of weights that it reads. The result has a bound."""
    (case,) = (case for case in found.cases if case.name == result.case)
    size = weight_bytes(case, result.workload, found.peaks[result.precision])
    assert size is not None
    assert result.flops is not None
    return result.flops / size
