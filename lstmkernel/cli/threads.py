"""``lstmkernel threads``: how a call is run on several threads, what was expected, and what it takes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from lstmkernel import LSTM, backends
from lstmkernel.backends import BackendError
from lstmkernel.cli import console, options
from lstmkernel.host import cores
from lstmkernel.host.numbers_text import duration
from lstmkernel.tuning import timing
from lstmkernel.workbench import progress, shapes
from lstmkernel.workbench.shapes import Shape

SUMMARY = "see how a call is run on several threads, as predicted and as measured"

DESCRIPTION = """\
Show for each number of threads how the C kernels run a call. They run it on one
thread; in tasks, where any thread takes the next steps of a layer, a direction
or a group of rows; or in teams, where threads share the units of a layer. The
way with the least predicted time is chosen; the table shows this time and the
measured one. All numbers of threads take turns. docs/scaling.md explains the
prediction.
"""

EXAMPLES = """\
examples:
  lstmkernel threads
  lstmkernel threads --shape 1,512,128,128 --shape pyannote
  lstmkernel threads --shape openunmix --threads 4 --seconds 5
"""

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
    options.add_shape(parser)
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
        console.print_whole(console.output(), _table(found))
    return 0


def rows(chosen: Sequence[Shape], counts: Sequence[int], seconds: float) -> list[Row]:
    """All shapes on all numbers of threads; about ``seconds`` of timing in all."""
    from lstmkernel.backends.c.call_plan import call_plan

    isa = backends.get("c").name.removeprefix("c:")
    found = []
    with progress.bar() as bar:
        for shape in bar.track(chosen, description="timing"):
            measured = timing.medians(_calls(shape, counts), seconds / len(chosen))
            for allowed in counts:
                plan = call_plan(shape[1:7], min(allowed, cores.available()), isa)
                found.append(Row(shape, allowed, plan.way, plan.threads, plan.seconds, measured[str(allowed)]))
    return found


def _calls(shape: Shape, counts: Sequence[int]) -> dict[str, Callable[[], object]]:
    """One call for each number of threads."""
    x = np.random.default_rng(0).standard_normal((shape.T, shape.B, shape.I)).astype(np.float32)
    sizes = (shape.I, shape.H, shape.L)
    return {
        str(count): partial(LSTM(*sizes, bidirectional=shape.D == 2, backend="c", num_threads=count, seed=0), x)
        for count in counts
    }


def _table(found: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE, padding=(0, 1), show_edge=False)
    for name in ("Shape", "Allowed", "Way", "Threads", "Predicted", "Measured", "Speedup"):
        table.add_column(name, justify="left" if name in ("Shape", "Way") else "right", no_wrap=True)
    for row in found:
        first = next(other for other in found if other.shape == row.shape)
        name = row.shape.name if row is first else ""
        times = (duration(row.predicted), duration(row.measured), f"{first.measured / row.measured:.2f}")
        table.add_row(name, str(row.allowed), row.way, str(row.threads), *times)
    return table
