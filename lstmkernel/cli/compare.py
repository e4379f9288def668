"""``lstmkernel compare``: every backend on the same networks, checked against float64 and timed beside NumPy."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO

import numpy as np

from lstmkernel import backends
from lstmkernel.backends.packing import Array
from lstmkernel.cli import compare_markdown, compare_plot, compare_roofline_plot, compare_table, console, options
from lstmkernel.workbench import cases, compare, inputs, narrow, one_thread, shapes, workloads
from lstmkernel.workbench.cases import Case
from lstmkernel.workbench.networks import load_sequence, read_input
from lstmkernel.workbench.own_kernels.process import OwnKernels
from lstmkernel.workbench.results import BASELINE, Comparison

#: The exit status where a result is wrong or a promise is broken.
DISAGREE = 1

SUMMARY = "compile, check and time all backends side by side"

DESCRIPTION = """\
Compile every kernel of every backend and instruction set, check each against
the float64 NumPy reference, time them in turns, and print a table. The exit
status is 1 if a result is wrong, or if backends that promise bit-identical
results (those with fused multiply-adds) differ in a bit.

With --weights, a second table has the errors on silence, quiet noise, noise
and your own --input: of single steps, and over the whole sequence.

Without --shape or --weights, a list of real networks is compared. That takes
about a minute.
"""

EXAMPLES = f"""\
examples:
  lstmkernel compare
  lstmkernel compare --shape 1,512,128,128 --shape 32,100,64,256,2,2
  lstmkernel compare --shape pyannote --backend c --dtype float64
  lstmkernel compare --weights vad.safetensors --prefix lstm_cell --steps 1000
  lstmkernel compare --weights vad.safetensors --prefix lstm_cell --input x.npy
  lstmkernel compare --shape nam_h16 --specialise
  lstmkernel compare --shape rnnt_pred_step --precision float16 --precision int8
  lstmkernel compare --against my_kernel.c --shape silero_block

named shapes:
{textwrap.indent(textwrap.fill(", ".join(shapes.BY_NAME), 76), "  ")}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_networks(parser)
    _add_kernels(parser)
    _add_output(parser)


def _add_networks(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("networks")
    what = group.add_mutually_exclusive_group()
    options.add_shape(what)
    what.add_argument("--weights", metavar="FILE", help="compare on the network of this file of weights")
    options.add_prefix(group, "with --weights: which LSTM of a larger model")
    group.add_argument("--steps", type=options.positive, metavar="T", help="with --weights: time steps of a call (100)")
    group.add_argument("--batch", type=options.positive, metavar="B", help="with --weights: batch rows (1)")
    group.add_argument("--input", metavar="FILE.npy", help="with --weights: errors on this input, too")
    group.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(float32)")


def _add_kernels(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("backends and kernels")
    group.add_argument(
        "--backend",
        action="append",
        metavar="NAME",
        help=f"compare only this one with NumPy; may be repeated; one of c, {', '.join(backends.NAMES)}",
    )
    group.add_argument(
        "--kernel",
        action="append",
        choices=backends.KERNELS,
        metavar="NAME",
        help=f"only this kernel at every shape, no networks; may be repeated; one of {', '.join(backends.KERNELS)}",
    )
    group.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="FILE",
        help="also your own kernels, a .c or .py file (see examples/own_kernel.c and .py); may be repeated",
    )
    group.add_argument(
        "--limit",
        type=options.seconds,
        default=10,
        metavar="S",
        help="with --against: a call that takes longer counts as an endless loop (10, and more for large shapes)",
    )
    group.add_argument(
        "--precision",
        action="append",
        choices=narrow.CHOICES,
        default=[],
        help="also kernels whose weights have fewer bits; may be repeated; int8/int8: activations of 8 bits, too",
    )
    group.add_argument(
        "--specialise", action="store_true", help="also C kernels with the shapes' sizes as constants, compiled now"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("measurements and output")
    group.add_argument(
        "--seconds",
        type=options.seconds,
        default=30,
        metavar="S",
        help="time to spend on timing, after all checks (30)",
    )
    group.add_argument(
        "--roofline", action="store_true", help="also the part of one core's peak that is reached; needs a C compiler"
    )
    group.add_argument(
        "--asm", action="store_true", help="also every kernel's hot loop in machine code; needs objdump and C kernels"
    )
    group.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write JSON to FILE; without FILE, to stdout and no table"
    )
    group.add_argument("--markdown", metavar="FILE", help="write the table to FILE as Markdown")
    group.add_argument(
        "--png", metavar="FILE", help="draw the times to FILE, or with --roofline the rooflines; needs matplotlib"
    )


def command(arguments: argparse.Namespace) -> int:
    """Do ``compare``."""
    if arguments.weights is None and (arguments.prefix or arguments.steps or arguments.batch or arguments.input):
        raise ValueError("--prefix, --steps, --batch and --input go with --weights")
    if not one_thread.is_set():
        print("lstmkernel: warning: NumPy's BLAS may use several threads here", file=sys.stderr)
    with ExitStack() as stack:
        request = _request(arguments, stack)
        json_file = options.to_write(stack, None if arguments.json == "-" else arguments.json)
        markdown_file = options.to_write(stack, arguments.markdown)
        png_file = options.to_write(stack, arguments.png)
        if png_file:
            options.require_matplotlib()
        if arguments.asm:
            _require_for_asm(arguments)
        found = compare.run(request)
        text = json.dumps(found.as_json(), indent=2, allow_nan=False)
        if json_file:
            json_file.write(text.encode())
        if markdown_file:
            markdown_file.write(compare_markdown.table(found).encode())
        if png_file:
            _draw(found, png_file)
        if arguments.json == "-":
            print(text)
        else:
            compare_table.show(found, console.output())
            if arguments.asm:
                _show_machine_code(found, request.own)
    return 0 if found.all_right else DISAGREE


def _draw(found: Comparison, file: BinaryIO) -> None:
    """Rooflines where they were asked for and are known, else the times."""
    picture = compare_roofline_plot if found.peaks and compare_roofline_plot.workloads_of(found) else compare_plot
    picture.draw(found, file)


# ---------------------------------------------------------------- what is compared


def _request(arguments: argparse.Namespace, stack: ExitStack) -> compare.Request:
    """The processes of own kernels end with ``stack``."""
    dtype = np.dtype(arguments.dtype)
    names, unusable = _backends(arguments.backend)
    own = _own_kernels(arguments, dtype, stack)
    chosen = _workloads(arguments, own)
    if arguments.specialise and not {*chosen} & {*compare.SPECIALISED_WORKLOADS}:
        raise ValueError("--specialise: changes layer_forward and whole networks, and neither is compared here")
    if arguments.precision and not {*chosen} & {*compare.SPECIALISED_WORKLOADS}:
        raise ValueError("--precision: changes layer_forward and whole networks, and neither is compared here")
    if arguments.precision and dtype != np.float32:
        raise ValueError("--precision: expected --dtype float32, from which weights are rounded")
    found = _cases(arguments)
    return compare.Request(
        cases=found,
        dtype=dtype,
        workloads=chosen,
        backends=names,
        seconds=arguments.seconds,
        unusable=unusable,
        own=own,
        inputs=_inputs(arguments, found[0]) if arguments.weights and workloads.NETWORK in chosen else {},
        specialise=arguments.specialise,
        precisions=list(dict.fromkeys(arguments.precision)),
        roofline=arguments.roofline,
    )


def _backends(asked: list[str] | None) -> tuple[list[str], dict[str, str]]:
    """The backends to compare, and those that cannot run here with the reason. A backend in ``asked`` must run."""
    if asked:
        wanted = {BASELINE, *(backends.get(name).name for name in asked)}
        return [name for name in backends.NAMES if name in wanted], {}
    reasons = {name: backends.unavailable(name) for name in backends.NAMES}
    usable = [name for name, reason in reasons.items() if reason is None]
    return usable, {name: reason for name, reason in reasons.items() if reason is not None}


def _own_kernels(arguments: argparse.Namespace, dtype: np.dtype[Any], stack: ExitStack) -> list[OwnKernels]:
    names = [os.path.basename(path) for path in arguments.against]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--against: tables show file names without directories, and two files are called {twice[0]}")
    files = []
    for path in arguments.against:
        own = OwnKernels(path, dtype, arguments.limit)
        stack.callback(own.close)
        files.append(own)
        if arguments.kernel and not set(arguments.kernel) & set(own.kernels):
            raise ValueError(f"--against: {own.name} has no {' or '.join(arguments.kernel)}")
    return files


def _workloads(arguments: argparse.Namespace, own: list[OwnKernels]) -> Sequence[str]:
    """The kernels that were asked for; else the kernels of a user's own files; else everything."""
    if arguments.kernel:
        return [name for name in backends.KERNELS if name in arguments.kernel]
    if own:
        kernels = {kernel for file in own for kernel in file.kernels}
        return [name for name in backends.KERNELS if name in kernels]
    return workloads.NAMES


def _cases(arguments: argparse.Namespace) -> list[Case]:
    if arguments.weights is None:
        return [cases.of_shape(shape, arguments.dtype) for shape in arguments.shape or shapes.DEFAULT]
    net = load_sequence(arguments.weights, arguments.prefix, backend=BASELINE, dtype=arguments.dtype)
    B, T = arguments.batch or 1, arguments.steps or 100
    file = os.path.basename(arguments.weights)
    name = arguments.prefix if isinstance(arguments.prefix, str) else " ".join(arguments.prefix or ["network"])
    return [cases.of_net(name or "network", f"B {B}, T {T}", file, net, B, T)]


def _inputs(arguments: argparse.Namespace, case: Case) -> dict[str, Array]:
    """What errors are measured on, of a network of the user's own."""
    own = None if arguments.input is None else read_input(arguments.input, case.net)
    T, B, _ = case.x.shape
    return inputs.inputs(case.net, T, B, own)


# ---------------------------------------------------------------- machine code


def _require_for_asm(arguments: argparse.Namespace) -> None:
    """Fail before the long work."""
    if arguments.json == "-":
        raise ValueError("--asm: goes with a table; give --json a FILE")
    from lstmkernel.workbench import machine_code

    machine_code.require_objdump()


def _show_machine_code(found: Comparison, own: Sequence[OwnKernels]) -> None:
    """A user's own kernels first."""
    from lstmkernel.workbench import assembly

    files = {file.name: file for file in own}
    sizes = found.cases[0].lstm.shape.layer_sizes()[0]
    for kernel, names in found.backends.items():
        if kernel == workloads.NETWORK:
            continue
        for name in sorted(names, key=lambda name: name not in files):
            if name in files:
                shown = assembly.hot_loops_of_own(kernel, name, files[name].machine_code(kernel))
            else:
                shown = assembly.hot_loops_of(kernel, name, np.dtype(found.dtype), sizes)
            print(f"\n{shown}")
