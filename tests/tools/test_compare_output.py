"""What ``compare`` shows: tables that fit, pictures, machine code in its order."""

from __future__ import annotations

import io
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from lstmkernel.cli import compare as command
from lstmkernel.cli import compare_markdown, compare_plot, compare_roofline_plot, compare_table
from lstmkernel.host import numbers_text
from lstmkernel.tuning import timing
from lstmkernel.workbench import assembly, cases, compare, shapes, workloads
from lstmkernel.workbench.results import Wrong
from lstmkernel.workbench.roofline.bounds import Peaks, bound, bytes_read
from lstmkernel.workbench.roofline.roofline import BOUNDS, SIZES, weight_bytes

PEAKS = Peaks(8, 4, 1e11, 1e-9, dict(zip(SIZES, (3e11, 1e11, 4e10, 1e10), strict=True)))
COLUMNS = ("Compile", "Steps/s", "GFLOP/s", "xNumPy", "Reached")
KERNELS = ("gate_matmul", "cell_update", "layer_forward")


@pytest.fixture(scope="module")
def found():
    """Two shapes on NumPy, and a kernel that was not timed."""
    request = compare.Request(
        cases=[cases.of_shape(shapes.parse(text), "float32") for text in ("silero_step", "2,3,4,5,2,2")],
        dtype=np.dtype("float32"),
        workloads=workloads.NAMES,
        backends=["numpy"],
        seconds=0,
    )
    why = "cell_update(N=1, H=17) wrote past the end of c"
    wrong = [Wrong("mine.c", "cell_update", None, "OVERRUN", why)]
    found = replace(compare.run(request), wrong=wrong, peaks={"float32": PEAKS})
    bounds = {("float32", r.case, r.workload): r.flops / 5e10 if r.workload in BOUNDS else None for r in found.results}
    return replace(found, bounds=bounds)


@pytest.fixture
def narrow_found(found):
    """With results and bounds of fewer bits, of which only those of integers have a peak of their own."""
    peaks = {"float32": PEAKS, "float16": PEAKS._replace(itemsize=2), "int8": PEAKS._replace(itemsize=1, flops=4e11)}
    results, bounds = list(found.results), dict(found.bounds)
    for result in found.of("layer_forward"):
        for name, times in (("float16", 2), ("int8", 4)):
            bounds[name, result.case, result.workload] = result.flops / (times * 5e10)
            seconds = result.seconds / times / 1.5
            results.append(replace(result, backend=f"c {name}", precision=name, seconds=seconds, error=200.0))
    names = {**found.backends, "layer_forward": [*found.backends["layer_forward"], "c float16", "c int8"]}
    seconds = dict.fromkeys(names, 0.0)
    compiled = {**found.compile_seconds, "c float16": seconds, "c int8": seconds}
    return replace(found, results=results, bounds=bounds, peaks=peaks, backends=names, compile_seconds=compiled)


def alone(found):
    """Without networks."""
    return replace(found, backends={name: found.backends[name] for name in KERNELS})


def shown(found, width):
    console = Console(file=io.StringIO(), width=width)
    compare_table.show(found, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [100, 80, 60])
@pytest.mark.parametrize("of", [alone, lambda found: found])
def test_tables_leave_out_columns_and_break_no_cell(found, of, width):
    text = shown(of(found), width)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert ("Too narrow for: " in text) == (width < 80)
    assert "Error" in text
    for name in ("numpy", "silero_step", "1,1,128,128", "2,3,4,5,2,2"):
        assert f"{name} " in text
    if of is alone:
        assert "mine.c " in text
    table, _, legend = text.partition("1 thread each, ")
    heads = {name: re.search(rf"(?<![:,] ){name} *(?= |$)", table.partition("─")[0], re.MULTILINE) for name in COLUMNS}
    for name, head in heads.items():  # the legend explains what is shown, and nothing else
        assert (f"{name}:" in legend.partition("Kernels alone")[0]) == bool(head), name


def test_a_kernel_that_was_not_timed_has_a_row(found):
    text = shown(alone(found), 100)
    assert len(re.findall(r"mine\.c +OVERRUN", text)) == 2
    assert "OVERRUN, and not timed: mine.c: cell_update(N=1, H=17) wrote past the end of c" in text
    assert "Every kernel" not in text
    table = compare_markdown.table(alone(found))
    assert "| cell_update | silero_step 1,1,128,128 | mine.c | OVERRUN |  |  |  |  |" in table
    assert "| gate_matmul | 2,3,4,5,2,2 | numpy | 0." in table


def test_peaks_and_the_time_of_checks_are_said(found):
    text = " ".join(shown(found, 80).split())
    assert "100 GFLOP/s of fused multiply-adds; a cell update in 1.00 ns a unit; reads of 300 GB/s from 16 KiB," in text
    assert "Checking" not in text
    text = shown(replace(found, check_seconds=61.0, timing_seconds=5.0), 80)
    assert "Checking each backend took 61.0 s, and timing 5.00 s." in text


# ---------------------------------------------------------------- pictures


@pytest.fixture
def figures(monkeypatch):
    """The figures that were drawn."""
    pytest.importorskip("matplotlib")
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    drawn, close = [], plt.close
    monkeypatch.setattr(plt, "close", drawn.append)
    yield drawn
    for figure in drawn:
        close(figure)


def test_every_time_is_a_dot_with_its_number(found, figures):
    file = io.BytesIO()
    compare_plot.draw(alone(found), file)
    assert file.getvalue().startswith(b"\x89PNG")
    (figure,) = figures
    for axes, kernel in zip(figure.axes, KERNELS, strict=True):
        assert axes.get_xscale() == "log"
        dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
        results = sorted(found.of(kernel), key=lambda r: [case.name for case in found.cases].index(r.case))
        assert dots == [result.seconds for result in results]
        written = [text.get_text() for text in axes.texts]
        for result in results:
            assert numbers_text.duration(result.seconds) in written
        assert written.count("OVERRUN, not timed") == (2 if kernel == "cell_update" else 0)


def test_a_roofline_has_the_peaks_as_lines_and_kernels_as_dots(found, figures):
    compare_roofline_plot.draw(found, io.BytesIO())
    (figure,) = figures
    assert compare_roofline_plot.workloads_of(found) == ["gate_matmul", "layer_forward", "network"]
    for axes, workload in zip(figure.axes, compare_roofline_plot.workloads_of(found), strict=True):
        roofs = [line for line in axes.lines if len(line.get_xdata()) == 2]
        assert [line.get_ydata()[1] for line in roofs] == [100] * 5
        for line, rate in zip(roofs[1:], PEAKS.reads.values(), strict=True):
            assert np.divide(*line.get_data()[::-1]) == pytest.approx([rate / 1e9] * 2)
        bounds = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "_"]
        assert bounds == pytest.approx([50, 50])
        dots = [line.get_data() for line in axes.lines if line.get_marker() in ("o", "s")]
        for (x, y), result in zip(dots, found.of(workload), strict=True):
            (case,) = (case for case in found.cases if case.name == result.case)
            assert y[0] == pytest.approx(result.gflops)
            assert x[0] == pytest.approx(result.flops / weight_bytes(case, workload, PEAKS))


def test_fewer_bits_have_their_own_intensity_bound_and_roof(narrow_found, figures):
    compare_roofline_plot.draw(narrow_found, io.BytesIO())
    gates, layers, _networks = figures[0].axes
    flat = [line.get_ydata() for line in layers.lines if len(line.get_xdata()) == 2 and len({*line.get_ydata()}) == 1]
    assert [line[0] for line in flat] == [100, 400]  # that of float16 is that of float32
    assert [line.get_ydata()[0] for line in gates.lines[:5] if len({*line.get_ydata()}) == 1] == [100]
    assert any(text.get_text() == "400 of int8 products" for text in layers.texts)
    found = narrow_found.of("layer_forward")
    bounds = [line.get_data() for line in layers.lines if line.get_marker() == "_"]
    dots = [line.get_data() for line in layers.lines if line.get_marker() in ("o", "s")]
    for result, bound_at, dot_at in zip(found, bounds, dots, strict=True):
        (case,) = (case for case in narrow_found.cases if case.name == result.case)
        x = result.flops / weight_bytes(case, "layer_forward", narrow_found.peaks[result.precision])
        assert (bound_at[0][0], dot_at[0][0]) == pytest.approx((x, x))
        assert bound_at[1][0] == pytest.approx({"float32": 50, "float16": 100, "int8": 200}[result.precision])
        assert dot_at[1][0] == pytest.approx(result.gflops)
    silero = [result for result in found if result.case == "silero_step"]
    (case, *_) = narrow_found.cases
    sizes = [weight_bytes(case, "layer_forward", narrow_found.peaks[result.precision]) for result in silero]
    assert sizes == [sizes[0], sizes[0] / 2, sizes[0] / 4]


def test_fewer_bits_are_a_part_of_their_own_bound(narrow_found):
    for result in narrow_found.of("layer_forward"):
        times = {"float32": 1, "float16": 2, "int8": 4}[result.precision]
        assert narrow_found.reached(result) == pytest.approx(result.flops / (times * 5e10) / result.seconds)
        assert result.is_narrow == (result.precision != "float32") == (result.agrees and result.error > 1)
    found = narrow_found.as_json()
    assert [result["precision"] for result in found["results"]][-2:] == ["float16", "int8"]
    assert all(result["reached"] for result in found["results"] if result["work"] == "layer_forward")
    assert found["peaks"]["flops_per_second"] == 1e11
    integers = {"operations_per_second": 4e11, "weight_bytes": 1}
    assert found["peaks"]["precisions"] == {
        "float16": {"operations_per_second": 1e11, "weight_bytes": 2},
        "int8": integers,
    }
    said = " ".join(shown(narrow_found, 100).split())
    assert "100 GFLOP/s of fused multiply-adds, 400 with int8 weights; a cell update in" in said


def test_without_a_bound_the_times_are_drawn(found, monkeypatch):
    drawn = []
    monkeypatch.setattr(compare_plot, "draw", lambda found, file: drawn.append("times"))
    monkeypatch.setattr(compare_roofline_plot, "draw", lambda found, file: drawn.append("rooflines"))
    command._draw(found, io.BytesIO())
    command._draw(replace(found, backends={"cell_update": ["numpy"]}), io.BytesIO())
    command._draw(replace(found, peaks={}, bounds={}), io.BytesIO())
    assert drawn == ["rooflines", "times", "times"]


@pytest.mark.parametrize("name", ["silero_step", "dtln_step", "silero_block", "openunmix"])
def test_the_bytes_of_the_picture_are_those_of_the_bound(name):
    """Where reading is slow, the bound is nothing but reading."""
    slow = PEAKS._replace(reads={1 << 40: 1e6}, cell=0.0, flops=1e30)
    shape = shapes.BY_NAME[name]
    assert bound(shape, slow).weights * 1e6 == pytest.approx(bytes_read(shape, 8, 4))


# ---------------------------------------------------------------- machine code, time


def test_machine_code_of_ones_own_comes_first(found, monkeypatch, capsys):
    monkeypatch.setattr(assembly, "hot_loops_of", lambda kernel, name, dtype, sizes: f"{kernel} {name}")
    monkeypatch.setattr(assembly, "hot_loops_of_own", lambda kernel, name, code: f"{kernel} {name} {code!r}")
    own = SimpleNamespace(name="mine.c", machine_code=lambda kernel: b"code")
    command._show_machine_code(
        replace(found, backends={"cell_update": ["numpy", "mine.c"], "network": ["numpy"]}), [own]
    )
    assert capsys.readouterr().out.split("\n\n") == ["\ncell_update mine.c b'code'", "cell_update numpy\n"]


def test_a_long_call_is_timed_once_if_there_is_no_time_for_more(monkeypatch):
    monkeypatch.setattr(timing, "PATIENCE", 0.0)
    calls = []

    def call():
        calls.append(time.sleep(1.1 * timing.LONG))

    assert timing.medians({"long": call}, 0)["long"] > timing.LONG
    assert len(calls) == 1
