"""``lstmkernel threads``: how a call is run on several threads, what was expected, and what it takes."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from lstmkernel import LSTM, backends
from lstmkernel.backends import BackendError
from lstmkernel.cli import console, options
from lstmkernel.host import cores
from lstmkernel.host.numbers_text import duration
from lstmkernel.workbench import progress, shapes
from lstmkernel.workbench.shapes import Shape

SUMMARY = "see how a call is run on several threads, as predicted and as measured"

DESCRIPTION = """\
Show for each number of threads how the C kernels run a call: on one thread; in
tasks, where any thread takes the next steps of a layer, a direction or a group
of rows; or in teams, where threads share the units of a layer. Beside it: the
time that was predicted, from which the way was chosen, and the measured one.
All numbers of threads take turns. docs/scaling.md explains the prediction.
"""

EXAMPLES = """\
examples:
  lstmkernel threads
  lstmkernel threads --shape 1,512,128,128 --shape pyannote
  lstmkernel threads --shape openunmix --threads 4 --seconds 5
"""

ROUNDS = 5
DEFAULT = ("rnnt_pred_step", "silero_block", "openunmix", "torch81634", "hydrology")


class Row(NamedTuple):
    """One number of threads of one shape. Seconds of a call."""

    shape: Shape
    allowed: int
    way: str
    threads: int
    predicted: float
    measured: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape",
        action="append",
        type=options.shape,
        metavar="B,T,I,H[,L[,D]]",
        help="or a named shape; may be repeated",
    )
    parser.add_argument("--threads", type=options.positive, metavar="N", help="1, 2, 4, ... N (all cores)")
    parser.add_argument("--seconds", type=options.seconds, default=10, metavar="S", help="time to spend on timing (10)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def command(arguments: argparse.Namespace) -> int:
    """Do ``threads``."""
    if not backends.c_is_built():
        raise BackendError(f"this shows how C kernels use threads, and they were not built; {backends.HOW_TO_GET_C}")
    chosen = arguments.shape or [shapes.BY_NAME[name] for name in DEFAULT]
    counts = cores.doubling(arguments.threads or cores.available())
    found = rows(chosen, counts, arguments.seconds)
    if arguments.json:
        print(json.dumps([{**row._asdict(), "shape": row.shape.sizes()} for row in found], indent=2))
    else:
        console.output().print(_table(found))
    return 0


def rows(chosen: Sequence[Shape], counts: Sequence[int], seconds: float) -> list[Row]:
    """All shapes on all numbers of threads; ``seconds`` of timing in all."""
    from lstmkernel.backends.c.call_plan import call_plan

    turn, found = seconds / (len(chosen) * len(counts) * ROUNDS), []
    isa = backends.get("c").name.removeprefix("c:")
    with progress.bar() as bar:
        task = bar.add_task("", total=len(chosen) * ROUNDS)
        for shape in chosen:
            bar.update(task, description=shape.name)
            measured = _measure(shape, counts, turn, lambda: bar.advance(task))
            for allowed, took in zip(counts, measured, strict=True):
                plan = call_plan(shape[1:7], min(allowed, cores.available()), isa)
                found.append(Row(shape, allowed, plan.way, plan.threads, plan.seconds, took))
    return found


def _measure(shape: Shape, counts: Sequence[int], turn: float, advance: Any) -> list[float]:
    """The median seconds of a call, for each number of threads, in turns."""
    networks = [
        LSTM(shape.I, shape.H, shape.L, bidirectional=shape.D == 2, backend="c", num_threads=count, seed=0)
        for count in counts
    ]
    x = np.random.default_rng(0).standard_normal((shape.T, shape.B, shape.I)).astype(np.float32)
    times: list[list[float]] = [[] for _ in counts]
    for _ in range(ROUNDS):
        for network, taken in zip(networks, times, strict=True):
            network(x)
            stop = time.perf_counter() + turn
            while not taken or time.perf_counter() < stop:
                start = time.perf_counter()
                network(x)
                taken.append(time.perf_counter() - start)
        advance()
    return [statistics.median(taken) for taken in times]


def _table(found: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE, padding=(0, 1), show_edge=False)
    for name in ("Shape", "Allowed", "Way", "Threads", "Predicted", "Measured", "Speedup"):
        table.add_column(name, justify="left" if name in ("Shape", "Way") else "right")
    for row in found:
        first = next(other for other in found if other.shape == row.shape)
        name = row.shape.name if row is first else ""
        times = (duration(row.predicted), duration(row.measured), f"{first.measured / row.measured:.2f}")
        table.add_row(name, str(row.allowed), row.way, str(row.threads), *times)
    return table
