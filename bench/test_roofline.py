"""roofline.py: bounds of shapes that can be computed by hand, and probes that measure what they should."""

import json
import re
import shutil

import numpy as np
import pytest
import roofline

from lstmkernel import backends
from lstmkernel.backends.c.specialised import sources
from lstmkernel.backends.packing import empty
from lstmkernel.host.compile_c import CompileError
from lstmkernel.workbench.roofline import probes
from lstmkernel.workbench.roofline.bounds import Bound, Peaks, bound, working_set
from lstmkernel.workbench.shapes import parse

KIB = 1 << 10

#: A core of round numbers: 4 lanes of float32, 1 GFLOP/s, 1 us a unit, 1 GB/s up to 16 KiB and 0.5 beyond.
PEAKS = Peaks(lanes=4, itemsize=4, flops=1e9, cell=1e-6, reads={16 * KIB: 1e9, 64 * KIB: 0.5e9})


def test_many_rows_are_bound_by_arithmetic():
    # Each of 10 steps: 8 * B * H * (I + H) = 8 * 100 * 6 * (3 + 6) = 43,200 operations, and 600 cells.
    least = bound(parse("100,10,3,6"), PEAKS)
    assert least == pytest.approx(Bound(products=10 * 43.2e-6, cells=10 * 600e-6, weights=0))
    assert (least.total, least.bound_by) == (pytest.approx(6432e-6), "cells")


def test_one_row_of_many_steps_reads_w_hh_at_every_step():
    # H = 10 fills three blocks of 4: W_hh is 12 * 4 * 10 numbers of 4 bytes, 1920 bytes; 1.92 us a step, cells none.
    # Arithmetic: 8 * 10 * 10 = 800 operations, 0.8 us. Input products: 8 * 10 * 5 and, above, 8 * 10 * 20, twice each.
    least = bound(parse("1,7,5,10,2,2"), PEAKS._replace(cell=0))
    assert least == pytest.approx(Bound(products=7 * 2 * (0.4e-6 + 1.6e-6), cells=0, weights=7 * 4 * 1.92e-6))
    assert least.bound_by == "weights"


def test_one_step_reads_all_weights_once_from_where_all_of_them_fit():
    # Layers of 16 + 32 + 1 and 32 + 32 + 1 columns, 4 * 32 numbers of 4 bytes each: 25,088 + 33,280 bytes are 57 KiB.
    shape = parse("1,1,16,32,2")
    assert working_set(shape, lanes=4, itemsize=4) == 58_368
    assert bound(shape, PEAKS._replace(cell=0)).weights == pytest.approx(58_368 / 0.5e9)


def test_one_step_of_many_rows_is_arithmetic():
    least = bound(parse("1000,1,16,32"), PEAKS)
    assert least == pytest.approx(Bound(products=8 * 1000 * 32 * (16 + 32) / 1e9, cells=0.032, weights=0))


def test_a_smaller_working_set_is_never_slower():
    peaks = PEAKS._replace(reads={100: 1.0, 200: 3.0, 300: 2.0})
    assert [peaks.read(size) for size in (50, 100, 150, 250, 300)] == [3, 3, 3, 2, 2]


@pytest.fixture(params=[name for name in backends.NAMES if name.startswith("c:")])
def backend(request):
    if backends.unavailable(request.param):
        pytest.skip(backends.unavailable(request.param))
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_probes_measure(backend, dtype, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    itemsize = np.dtype(dtype).itemsize
    found = probes.Probes(backend.removeprefix("c:"), dtype, itemsize * roofline.lanes_of(backends.get(backend), dtype))
    assert 1e8 < found.flops() < 1e12
    assert 1e8 < found.read(1000) < 3e12
    assert 1e8 < found.read(1 << 20) < 3e12
    monkeypatch.setattr(probes, "MOST_VECTORS", 1e6)
    with pytest.raises(backends.BackendError, match="removed the loop"):
        found.flops()


def test_the_probes_do_all_that_is_counted(backend, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    vector_bytes = 4 * roofline.lanes_of(backends.get(backend), "float32")
    lib = probes.compiled(backend.removeprefix("c:"), "float", vector_bytes)
    chains, lanes = lib.fma_chains(), vector_bytes // 4
    assert lib.fma_probe(100, 0.5, 1) == chains * lanes * 2  # halving and adding 1 converges to 2
    assert lib.fma_probe(1, 0.5, 1) == sum(lanes * (chain / 2 + 1) for chain in range(chains))
    values = empty((4096,), "float32")
    values[:] = np.arange(4096)  # twice their sum is still exact
    for streams in probes.STREAMS:
        assert lib.read_probe(streams, values.ctypes.data, 4 * 4096 // vector_bytes, 2) == 4095 * 4096


@pytest.mark.parametrize("bits", [16, 8])
def test_the_dot_probe_does_all_that_is_counted(bits, monkeypatch):
    """On every set of 8-bit kernels that this CPU runs: "c" with VNNI runs those without, too."""
    monkeypatch.delenv("CC", raising=False)
    best = backends.int8_kernels()
    if best not in probes.INTEGERS or shutil.which("cc") is None:
        pytest.skip("no 8-bit kernels of an instruction set, or no C compiler")
    usable = {best, best.partition("_")[0], *(["avx2"] if best.startswith("avx512") else [])}
    for kernels in usable:
        probe = probes.DotProbe(kernels, bits)
        planes = 2 if bits == 16 and kernels.endswith(("vnni", "dotprod")) else 1
        words = (planes == 1 and bits == 16) or kernels in ("avx512", "neon")  # an activation of two bytes 1 is 257
        assert probe.total(3) == 3 * probe.products() * planes * (257 if words else 1)
        assert 1e8 < probe.operations() < 1e13
    monkeypatch.setattr(probes, "MOST_VECTORS", 1e5)
    with pytest.raises(backends.BackendError, match="removed the loop"):
        probe.operations()


def test_the_dot_probe_is_compiled_as_each_table_is():
    tables = {path.name.removesuffix("_i8a8.c"): path.read_text() for path in sources().glob("tables/*_i8a8.c")}
    assert {*tables} == {*probes.INTEGERS, "generic"}
    for name, (header, target, defined) in probes.INTEGERS.items():
        table = tables[name]
        assert f'#include "{header}"' in table
        assert (f"LK_TARGET_BEGIN({target})" if target else "LK_TARGET_BEGIN") in table or target is None
        assert ("LK_TARGET_BEGIN" in table) == (target is not None)
        assert re.findall(r"#define (LK_(?!F32|I8)\w+)", table) == [*defined]


def test_without_a_compiler_the_error_says_so(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(CompileError, match="CC='no-such-compiler -O2' is not a program"):
        probes.compiled("generic", "float", 16)
    with pytest.raises(CompileError, match="CC='no-such-compiler -O2' is not a program"):
        probes.compiled_dots("avx2", 8)


def test_a_run(backend, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(roofline, "ROUNDS", 1)
    monkeypatch.setattr(roofline, "SIZES", (1 << 14,))
    chosen = [parse("silero_step"), parse("3,9,5,7,2,2")]
    peaks, rows = roofline.measure(chosen, backend, "float32", seconds=0.02)
    assert [row.shape for row in rows] == chosen
    assert all(0 < row.reached < 1 and row.calls > 0 for row in rows)
    json.dumps(roofline.plain(backend, "float32", peaks, rows), allow_nan=False)


def test_the_table():
    peaks = Peaks(16, 4, 2.5e11, 1e-9, {1 << 14: 5e11, 1 << 20: 2e11, 526_336: 2.5e11})
    silero = roofline.Row(parse("silero_step"), Bound(0, 0, 2e-6), 526_336, 2.5e11, 8e-6, 1000)
    wide = roofline.Row(parse("8,9,7,6"), Bound(3e-3, 1e-3, 0), 1 << 21, 1e11, 4e-3, 5)
    lines = roofline.markdown(peaks, [silero, wide]).splitlines()
    assert lines == [
        "Fused multiply-adds 250 GFLOP/s, cell update 1.000 ns a unit.",
        "",
        "| read from | 16 KiB | 1 MiB |",
        "| --- | ---: | ---: |",
        "| GB/s | 500 | 200 |",
        "",
        "| shape | B,T,I,H[,L[,D]] | weights | at GB/s | bound by | least, us | lstmkernel, us | reached |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: |",
        "| silero_step | 1,1,128,128 | 514 KiB | 250 | weights | 2.0 | 8.0 | 25% |",
        "| 8,9,7,6 | 8,9,7,6 | 2 MiB | 100 | products | 4,000.0 | 4,000.0 | 100% |",
        "",
        "- Reached, geometric mean: 50%",
        "- Worst row: silero_step, 25%",
    ]
