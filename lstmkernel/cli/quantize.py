"""``lstmkernel quantize``: a network with weights of fewer bits, fitted to data, with its certificate."""

from __future__ import annotations

import argparse
from typing import Any

from lstmkernel import formats
from lstmkernel.backends.packing import Array
from lstmkernel.cli import console, options
from lstmkernel.engine import precision as bits
from lstmkernel.engine.quantizing import AUTO
from lstmkernel.workbench.networks import Net, load_sequence, read_input

SUMMARY = "save a network with weights of fewer bits, and how far it is off"

DESCRIPTION = """\
Load a network of float32 weights from a file of any known format, round the
weights of its LSTMs, and save it as .safetensors. Dense layers stay float32.

With --calibrate, 8-bit weights are fitted to data like that which the network
will run on: arrays (.npy), as lstmkernel run reads them. The command then prints
a certificate: how far the network is off the float64 one, measured on a fifth
of the data, to which no weight was fitted. OUT keeps it.

With --max-error, nothing is written if out is off by more than that. Without
--precision, each layer then gets the fewest bits with which out is not.
"""

EXAMPLES = """\
examples:
  lstmkernel quantize model.pt -o small.safetensors --precision float16
  lstmkernel quantize model.pt -o small.safetensors --precision int8 \\
      --activations int16 --calibrate speech.npy --max-error 1e-2
  lstmkernel quantize model.pt -o small.safetensors --calibrate a.npy \\
      --calibrate b.npy --max-error 1e-3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", help=options.WEIGHTS)
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the new file")
    options.add_prefix(parser, "which part of a larger model, as lstmkernel info lists them")
    parser.add_argument("--precision", choices=(*bits.PRECISIONS, AUTO), help="of the weights; auto with --max-error")
    parser.add_argument("--activations", choices=tuple(bits.LEVELS), help="of int8 (int16; int8 is faster)")
    parser.add_argument(
        "--calibrate",
        metavar="X.npy",
        action="append",
        help="data to fit weights to, and to measure: (T, I), or (T, B, I) for a batch; may be repeated",
    )
    parser.add_argument("--max-error", metavar="E", type=float, help="the largest error of out that may be")
    parser.add_argument(
        "--batch-first",
        action="store_true",
        default=None,
        help="the network takes (B, T, I); PyTorch's files do not say",
    )
    options.add_backend(parser)


def command(arguments: argparse.Namespace) -> int:
    """Do ``quantize``."""
    formats.saving_format_of(arguments.output)  # raises before the long work
    how = _how(arguments)
    more = {"dtype": "float32", "backend": arguments.backend, "batch_first": arguments.batch_first}
    net = load_sequence(arguments.source, arguments.prefix, **more)
    small = net.quantize(calibrate=_data(arguments, net), max_error=arguments.max_error, **how)
    formats.save(small, arguments.output)
    out = console.output()
    print(f"{arguments.source} -> {arguments.output}: {small!r}", flush=True)
    if small.certificate:
        console.print_whole(out, small.certificate.__rich__())
    return 0


def _how(arguments: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``quantize``. ValueError for options that do not go together."""
    if arguments.max_error is not None and not arguments.calibrate:
        raise ValueError("--max-error: needs --calibrate, the data on which the error is measured")
    precision = arguments.precision or (AUTO if arguments.max_error is not None else None)
    if precision is None:
        raise ValueError("--precision: expected float16 or int8, or --max-error and --calibrate, which choose it")
    if precision != AUTO:
        bits.checked(precision, arguments.activations)
        return {"precision": precision, "activations": arguments.activations}
    if arguments.max_error is None:
        raise ValueError("--precision auto: needs --max-error and --calibrate, to choose by them")
    if arguments.activations is not None:
        raise ValueError("--activations: not with --precision auto, which chooses them")
    return {"weights": AUTO}


def _data(arguments: argparse.Namespace, net: Net) -> list[Array] | None:
    return [read_input(path, net) for path in arguments.calibrate] if arguments.calibrate else None
