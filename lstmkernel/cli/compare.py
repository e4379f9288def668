"""``lstmkernel compare``: every backend on the same networks, checked against float64, timed against NumPy."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from lstmkernel import backends
from lstmkernel.backends import BackendError
from lstmkernel.cli import console, markdown, options, plot
from lstmkernel.cli.report import Report, show
from lstmkernel.host import spinner
from lstmkernel.tuning.plan import SPECIALISED
from lstmkernel.workbench import cases, compare, one_thread, shapes, workloads
from lstmkernel.workbench.cases import Problem
from lstmkernel.workbench.networks import load_sequence, lstms
from lstmkernel.workbench.own_kernels import check, load
from lstmkernel.workbench.roofline import roofline
from lstmkernel.workbench.shapes import Shape

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
  lstmkernel compare --shape nam_h16 --specialise
  lstmkernel compare --against my_kernel.c --shape silero_block

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
    what.add_argument("--weights", metavar="FILE", help="compare on this network, a file of weights")
    parser.add_argument("--prefix", metavar="P", help="with --weights: which LSTM of a larger model")
    parser.add_argument("--steps", type=_positive, metavar="T", help="with --weights: time steps of a call (100)")
    parser.add_argument("--batch", type=_positive, metavar="B", help="with --weights: batch rows (1)")
    parser.add_argument(
        "--backend",
        action="append",
        metavar="NAME",
        help=f"only this one beside NumPy, the baseline; may be repeated; one of c, {', '.join(backends.NAMES)}",
    )
    parser.add_argument(
        "--kernel",
        action="append",
        choices=backends.KERNELS,
        metavar="NAME",
        help=f"only this kernel, at every shape, no whole networks; may be repeated; {', '.join(backends.KERNELS)}",
    )
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="FILE",
        help="beside your own kernels, a .c or .py file (examples/own_kernel.c and .py); may be repeated",
    )
    parser.add_argument(
        "--specialise", action="store_true", help="beside C kernels with the shapes' sizes as constants, compiled now"
    )
    parser.add_argument(
        "--asm", action="store_true", help="also every kernel's hot loop in machine code; needs objdump and C kernels"
    )
    parser.add_argument(
        "--roofline", action="store_true", help="also how near each comes to what one core can do; needs a C compiler"
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(float32)")
    parser.add_argument("--seconds", type=options.seconds, default=30, metavar="S", help="time to spend on timing (30)")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write JSON to FILE; without FILE, to stdout and no table"
    )
    parser.add_argument("--markdown", metavar="FILE", help="write the tables to FILE as Markdown")
    parser.add_argument("--png", metavar="FILE", help="draw the times to FILE; needs matplotlib")
    parser.set_defaults(command=command, one_thread=True)


def command(arguments: argparse.Namespace) -> int:
    """Do ``compare``."""
    if arguments.weights is None and (arguments.prefix or arguments.steps or arguments.batch):
        raise ValueError("--prefix, --steps and --batch go with --weights")
    if not one_thread.is_set():
        print("lstmkernel: warning: NumPy's BLAS may use several threads here", file=sys.stderr)
    names, unusable = _contenders(arguments.backend)
    with ExitStack() as files_to_write:
        json_file = options.to_write(files_to_write, None if arguments.json == "-" else arguments.json)
        markdown_file = options.to_write(files_to_write, arguments.markdown)
        png_file = options.to_write(files_to_write, arguments.png)
        if png_file:
            plot.require_matplotlib()
        if arguments.asm:
            _require_for_asm(arguments)
        report = _compare(arguments, names, unusable)
        text = json.dumps(report.as_json(), indent=2, allow_nan=False)
        if json_file:
            json_file.write(text.encode())
        if markdown_file:
            markdown_file.write(markdown.of(report).encode())
        if png_file:
            plot.draw(report, png_file)
    if arguments.json == "-":
        print(text)
    else:
        show(report, console.output())
        if arguments.asm:
            _show_machine_code(report)
    return DISAGREE if report.disagreeing or report.other_bits or report.wrong else 0


def _require_for_asm(arguments: argparse.Namespace) -> None:
    """Before the long work."""
    if arguments.json == "-":
        raise ValueError("--asm: goes with a table; give --json a FILE")
    from lstmkernel.workbench import assembly

    assembly.require_objdump()


def _show_machine_code(report: Report) -> None:
    from lstmkernel.workbench import assembly

    sizes = report.problems[0].lstm.shape.layer_sizes()[0]
    for what, names in report.entrants.items():
        for name in names if what != workloads.NETWORK else ():
            print(f"\n{assembly.of_kernel(what, name, np.dtype(report.dtype), sizes)}")


def _compare(arguments: argparse.Namespace, names: list[str], unusable: dict[str, str]) -> Report:
    dtype = np.dtype(arguments.dtype)
    own = _own_kernels(arguments, dtype)
    subjects = _problems(arguments)
    wrong: list[tuple[str, str]] = []
    with spinner.silenced(), console.progress() as bar:
        task = bar.add_task("", total=None)
        entrants = {what: list(names) for what in _works(arguments, own)}
        if arguments.specialise and not entrants.keys() & {workloads.NETWORK, "layer_forward"}:
            raise ValueError("--specialise: changes layer_forward and whole networks, and neither is compared here")
        if arguments.specialise:
            bar.update(task, description="compile for these sizes")
            for name in _specialised(names, subjects, dtype):
                for what in entrants.keys() & {workloads.NETWORK, "layer_forward"}:
                    entrants[what].insert(0, name)
        for backend in own:
            backends.register(backend)
            for kernel in (kernel for kernel in load.kernels_of(backend) if kernel in entrants):
                bar.update(task, description=f"check {backend.name}")
                if failure := check.failure(kernel, backend, dtype):
                    wrong.append((backend.name, failure))
                else:
                    entrants[kernel].append(backend.name)
        everybody = list(dict.fromkeys(name for who in entrants.values() for name in who))
        bar.update(task, total=len(everybody) + len(subjects) * len(entrants))
        compile_seconds = {}
        for name in everybody:
            bar.update(task, description=f"compile {name}")
            its = [what for what, who in entrants.items() if name in who]
            compile_seconds[name] = compare.compile_all(name, dtype, its)
            bar.advance(task)
        least = {}
        if arguments.roofline:
            bar.update(task, description="measure what a core can do")
            limit = roofline.Roof(subjects, dtype)
            least = {(subject.name, what): limit.least(what, subject) for subject in subjects for what in entrants}
        results = []
        for subject in subjects:
            bar.update(task, description=subject.name)
            seconds = arguments.seconds / len(subjects)
            results += compare.hold(subject, entrants, seconds, lambda: bar.advance(task))
    return Report(dtype.name, entrants, compile_seconds, subjects, results, unusable, wrong, least)


def _own_kernels(arguments: argparse.Namespace, dtype: np.dtype[Any]) -> list[backends.Backend]:
    names = [os.path.basename(path) for path in arguments.against]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--against: tables name files without their directories, and two are called {twice[0]}")
    own = [load.load(path, dtype) for path in arguments.against]
    for backend in own:
        if arguments.kernel and not set(arguments.kernel) & set(load.kernels_of(backend)):
            raise ValueError(f"--against: {backend.name} has no {' or '.join(arguments.kernel)}")
    return own


def _works(arguments: argparse.Namespace, own: list[backends.Backend]) -> Sequence[str]:
    """What is compared: what was asked for, or all that a user's own files have, or everything."""
    if arguments.kernel:
        return [name for name in backends.KERNELS if name in arguments.kernel]
    if own:
        kernels = {kernel for backend in own for kernel in load.kernels_of(backend)}
        return [name for name in backends.KERNELS if name in kernels]
    return workloads.NAMES


def _specialised(names: list[str], subjects: list[Problem], dtype: np.dtype[Any]) -> list[str]:
    """The names of C kernels for the sizes of all subjects' layers."""
    from lstmkernel.backends.c import specialised

    found = [isa for isa in specialised.TARGETS if f"c:{isa}" in names]
    if not found:
        raise BackendError(f"--specialise: needs C kernels for {', '.join(specialised.TARGETS)} among the backends")
    from lstmkernel.backends.c import calls

    shapes_of = [lstm.shape for subject in subjects for lstm in lstms(subject.net)]
    sizes = dict.fromkeys(sizes for shape in shapes_of for sizes in shape.layer_sizes())
    for isa in found:
        kernels = {of: specialised.get(isa, dtype, of).kernels for of in sizes}
        backends.register(calls.backend(isa, kernels)._replace(name=f"c:{isa}{SPECIALISED}"))
    return [f"c:{isa}{SPECIALISED}" for isa in reversed(found)]


def _problems(arguments: argparse.Namespace) -> list[Problem]:
    if arguments.weights is None:
        return [cases.of_shape(shape, arguments.dtype) for shape in arguments.shape or shapes.DEFAULT]
    net = load_sequence(arguments.weights, arguments.prefix, backend=compare.BASELINE, dtype=arguments.dtype)
    B, T = arguments.batch or 1, arguments.steps or 100
    file = os.path.basename(arguments.weights)
    return [cases.of_net(arguments.prefix or "network", f"B {B}, T {T}", file, net, B, T)]


def _contenders(asked: list[str] | None) -> tuple[list[str], dict[str, str]]:
    """The backends that take part, and those that cannot with the reason; one asked for that cannot is an error."""
    if asked:
        wanted = {compare.BASELINE, *(backends.get(name).name for name in asked)}
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
