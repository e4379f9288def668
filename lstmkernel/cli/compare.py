"""``lstmkernel compare``: every backend on the same networks, checked against float64, timed against NumPy."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from contextlib import nullcontext
from typing import Any

from lstmkernel import backends, files, spinner
from lstmkernel.cli import console, contest, one_thread, problem, shapes, work
from lstmkernel.cli.nets import load_sequence
from lstmkernel.cli.problem import Problem
from lstmkernel.cli.report import Report, show
from lstmkernel.cli.shapes import Shape

DISAGREE = 1

DESCRIPTION = """\
Compile every kernel of every backend and instruction set, check each against
the float64 NumPy reference, time them in turns, and print a table. The exit
status is 1 where one disagrees, with the reference or with the promise that all
backends which fuse multiply and add give the same bits.

Without --shape or --weights, a list of real networks is compared; that takes
about a minute.
"""

EXAMPLES = f"""\
examples:
  lstmkernel compare
  lstmkernel compare --shape 1,512,128,128 --shape 32,100,64,256,2,2
  lstmkernel compare --shape pyannote --backend c --dtype float64
  lstmkernel compare --weights vad.safetensors --prefix lstm_cell --steps 1000

named shapes:
{textwrap.indent(textwrap.fill(", ".join(shapes.BY_NAME), 76), "  ")}
"""


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "compare",
        help="compile, check and time all backends side by side",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--shape",
        action="append",
        type=_shape,
        metavar="B,T,I,H[,L[,D]]",
        help="batch, steps, input size, hidden size, layers (1), directions (1); or a named shape; may be repeated",
    )
    what.add_argument("--weights", metavar="FILE", help="compare on this network, a .safetensors file")
    parser.add_argument("--prefix", metavar="P", help="with --weights: which LSTM of a larger model")
    parser.add_argument("--steps", type=_positive, metavar="T", help="with --weights: time steps of a call (100)")
    parser.add_argument("--batch", type=_positive, metavar="B", help="with --weights: batch rows (1)")
    parser.add_argument(
        "--backend",
        action="append",
        metavar="NAME",
        help=f"only this one beside NumPy, the baseline; may be repeated; one of c, {', '.join(backends.NAMES)}",
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(float32)")
    parser.add_argument("--seconds", type=_seconds, default=30, metavar="S", help="time to spend on timing (30)")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write JSON to FILE; without FILE, to stdout and no table"
    )
    parser.set_defaults(command=command, one_thread=True)


def command(arguments: argparse.Namespace) -> int:
    """Do ``compare``."""
    if arguments.weights is None and (arguments.prefix or arguments.steps or arguments.batch):
        raise ValueError("--prefix, --steps and --batch go with --weights")
    if not one_thread.is_set():
        print("lstmkernel: warning: NumPy's BLAS may use several threads here", file=sys.stderr)
    names, unusable = _contenders(arguments.backend)
    with nullcontext() if arguments.json in (None, "-") else files.replacing(arguments.json) as file:
        report = _compare(arguments, names, unusable)
        text = json.dumps(report.as_json(), indent=2, allow_nan=False)
        if file:
            file.write(text.encode())
    if arguments.json == "-":
        print(text)
    else:
        show(report, console.output())
    return DISAGREE if report.disagreeing or report.other_bits else 0


def _compare(arguments: argparse.Namespace, names: list[str], unusable: dict[str, str]) -> Report:
    subjects = _problems(arguments)
    results = []
    with spinner.silenced(), console.progress() as bar:
        task = bar.add_task("", total=len(names) + len(subjects) * len(work.NAMES))
        compile_seconds = {}
        for name in names:
            bar.update(task, description=f"compile {name}")
            compile_seconds[name] = contest.compile_all(name, arguments.dtype)
            bar.advance(task)
        for subject in subjects:
            bar.update(task, description=subject.name)
            seconds = arguments.seconds / len(subjects)
            results += contest.hold(subject, names, seconds, lambda: bar.advance(task))
    return Report(arguments.dtype, names, compile_seconds, subjects, results, unusable)


def _problems(arguments: argparse.Namespace) -> list[Problem]:
    if arguments.weights is None:
        return [problem.of_shape(shape, arguments.dtype) for shape in arguments.shape or shapes.DEFAULT]
    net = load_sequence(arguments.weights, arguments.prefix, backend=contest.BASELINE, dtype=arguments.dtype)
    B, T = arguments.batch or 1, arguments.steps or 100
    file = os.path.basename(arguments.weights)
    return [problem.of_net(arguments.prefix or "network", f"B {B}, T {T}", file, net, B, T)]


def _contenders(asked: list[str] | None) -> tuple[list[str], dict[str, str]]:
    """The backends that take part, and those that cannot with the reason; one asked for that cannot is an error."""
    if asked:
        wanted = {contest.BASELINE, *(backends.get(name).name for name in asked)}
        return [name for name in backends.NAMES if name in wanted], {}
    reasons = {name: backends.unavailable(name) for name in backends.NAMES}
    usable = [name for name, reason in reasons.items() if reason is None]
    return usable, {name: reason for name, reason in reasons.items() if reason is not None}


def _shape(text: str) -> Shape:
    try:
        return shapes.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, got {text!r}")
    return seconds
