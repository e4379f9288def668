"""``lstmkernel bench stream``: how long single steps take, up to the slowest one of very many."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack

from rich import box
from rich.table import Table

from lstmkernel import __version__, backends, formats
from lstmkernel.cli import console, latency_plot, options
from lstmkernel.host import cpu, numbers_text
from lstmkernel.workbench import latency, progress
from lstmkernel.workbench.latency import Latency, Subject
from lstmkernel.workbench.networks import load_sequence

SUMMARY = "measure the latency of streams, as in production"

DESCRIPTION = """\
Time very many single calls on one thread: one step of small and large networks
through Stream.step, pools of 1 to 1024 streams through Pool.step, and blocks of
audio through a Stream, as multiples of real time at 48 kHz. The subjects take
turns, so a slow phase of the machine slows all of them.

With --weights, this measures your own network, in blocks of --block steps. A
block must be done before the next one comes: that is its deadline, and calls
that take longer have missed it. "an hour" is how many blocks of an hour would
miss it. If no measured call missed it, "<" is in front of the number.
"""

EXAMPLES = """\
examples:
  lstmkernel bench stream
  lstmkernel bench stream --seconds 120 --json latency.json --png latency.png
  lstmkernel bench stream --weights amp.nam --block 64 --block 128
  lstmkernel bench stream --weights vad.pt --prefix lstm --block 1 --rate 31.25
"""

#: Steps of a block, and steps a second, where nothing else is said.
BLOCK, RATE = 64, 48_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    stream = parser.add_subparsers(title="what", metavar="WHAT", required=True).add_parser(
        "stream",
        help="p50, p99, p99.9 and maximum of single steps, pools and blocks of audio",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    stream.add_argument("--weights", metavar="W", help="measure the network of this file, on one thread")
    options.add_prefix(stream, "with --weights: which LSTM of a larger model")
    stream.add_argument(
        "--block",
        type=options.positive,
        action="append",
        metavar="N",
        help=f"steps of a block ({BLOCK}); may be repeated",
    )
    stream.add_argument(
        "--rate", type=options.rate, metavar="HZ", help=f"steps a second (the file's sample rate, else {RATE})"
    )
    options.add_backend(stream)
    stream.add_argument("--seconds", type=options.seconds, default=30, metavar="S", help="time to spend (30)")
    stream.add_argument("--json", metavar="FILE", help="write the results to FILE")
    stream.add_argument("--png", metavar="FILE", help="draw histograms to FILE; needs matplotlib")


def command(arguments: argparse.Namespace) -> int:
    """Do ``bench stream``."""
    backend = backends.get(arguments.backend).name
    with ExitStack() as stack:
        json_file = options.to_write(stack, arguments.json)
        png_file = options.to_write(stack, arguments.png)
        if png_file:
            options.require_matplotlib()
        found = _measured(_subjects(arguments, backend), arguments.seconds)
        about = {"version": __version__, "cpu": cpu.model(), "backend": backend}
        if json_file:
            rows = [row.as_json() for row in found]
            json_file.write(json.dumps({**about, "rows": rows}, indent=2, allow_nan=False).encode())
        if png_file:
            latency_plot.draw(found, png_file)
    out = console.output()
    out.print(f"lstmkernel {__version__}, {backend}, {cpu.model()}, one thread", markup=False)
    for kind in dict.fromkeys(row.subject.kind for row in found):
        out.print()
        console.print_whole(out, _table(kind, [row for row in found if row.subject.kind == kind], found))
    with_deadline = [row for row in found if row.subject.audio_seconds is not None]
    if with_deadline:
        out.print()
        console.print_whole(out, _deadlines(with_deadline))
    return 0


def _subjects(arguments: argparse.Namespace, backend: str) -> list[Subject]:
    path = arguments.weights
    if path is None:
        for option in ("prefix", "block", "rate"):
            if getattr(arguments, option) is not None:
                raise ValueError(f"--{option}: needs --weights, the network to measure")
        return latency.subjects(backend)
    net = load_sequence(path, arguments.prefix, backend=backend, num_threads=1, batch_first=False)
    rate = arguments.rate or formats.inspect(path).sample_rate or RATE
    return latency.subjects_of(net, os.path.basename(path), arguments.block or [BLOCK], rate)


def _measured(subjects: Sequence[Subject], seconds: float) -> list[Latency]:
    with progress.bar() as bar:
        task = bar.add_task("bench stream", total=seconds or 1)
        return latency.measure(subjects, seconds, lambda passed: bar.update(task, completed=passed))


def _table(kind: str, rows: Sequence[Latency], found: Sequence[Latency]) -> Table:
    table = Table(box=box.SIMPLE, padding=0, show_edge=False)
    table.add_column(kind, no_wrap=True)
    if kind == latency.STEPS:
        table.add_column("B,T,I,H[,L]", no_wrap=True)
    for heading in ("p50", "p99", "p99.9", "max", "calls"):
        table.add_column(heading, justify="right", no_wrap=True)
    remarks = {latency.STREAMS: ("a stream", "/ alone"), latency.SOUND: ("real time", "p99.9")}.get(kind, ())
    for heading in remarks:
        table.add_column(heading, justify="right", no_wrap=True)
    alone = next((row.p50 for row in found if row.subject.name == latency.POOLED), 1.0)
    for row in rows:
        times = [numbers_text.duration(value) for value in (row.p50, row.p99, row.p999, row.most)]
        sizes = (row.subject.sizes,) if kind == latency.STEPS else ()
        table.add_row(row.subject.name, *sizes, *times, numbers_text.count(row.calls), *_remarks(row, alone))
    return table


def _remarks(row: Latency, alone: float) -> tuple[str, ...]:
    """Further cells of a row. alone: seconds of a step of a single stream."""
    if row.subject.kind == latency.STREAMS:
        each = row.p50 / row.subject.streams
        return numbers_text.duration(each), numbers_text.digits(each / alone)
    if row.subject.audio_seconds is not None:
        times_real = (f"{numbers_text.digits(row.subject.audio_seconds / value)}x" for value in (row.p50, row.p999))
        return tuple(times_real)
    return ()


def _deadlines(rows: Sequence[Latency]) -> Table:
    table = Table(box=box.SIMPLE, padding=0, show_edge=False)
    table.add_column("deadlines", no_wrap=True)
    for heading in ("next block after", "p99.9", "missed", "of calls", "an hour"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        after = numbers_text.duration(row.subject.audio_seconds or 0)
        an_hour = ("" if row.missed else "<") + numbers_text.count(row.missed_an_hour)
        calls, p999 = numbers_text.count(row.calls), numbers_text.duration(row.p999)
        table.add_row(row.subject.name, after, p999, str(row.missed), calls, an_hour)
    return table
