"""``lstmkernel convert``: convert a network from one file format to another."""

from __future__ import annotations

import argparse

from lstmkernel import formats
from lstmkernel.cli import options

SUMMARY = "convert a network from one file format to another"

DESCRIPTION = """\
Load a network from a file of any known format, and save it in the format that
the suffix of OUT names: .safetensors, which keeps everything and which PyTorch
can read (safetensors.torch.load_file), or .onnx, for ONNX runtimes. No other
format is written. ONNX's LSTM has no projection, no cell_clip, no mask and no
skip around the network: such networks are refused.
"""

EXAMPLES = """\
examples:
  lstmkernel info checkpoint.pt                # what is inside
  lstmkernel convert checkpoint.pt lstm.safetensors --prefix model.encoder
  lstmkernel convert crnn.pt crnn.onnx --prefix rnn.0 --prefix fc --prefix rnn.1
  lstmkernel convert weights.json weights.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", help="a file of weights, of any format that lstmkernel info can read")
    names = ", ".join(f"*{suffix}" for suffix in formats.saving_formats())
    parser.add_argument("target", metavar="OUT", help=f"the new file, named {names}")
    options.add_prefix(parser, "which part of a larger model, as lstmkernel info lists them")
    parser.add_argument(
        "--batch-first",
        action="store_true",
        default=None,
        help="the network takes (B, T, I); PyTorch's files do not say",
    )
    parser.add_argument(
        "--no-state-inputs",
        action="store_true",
        help="of an ONNX model: leave out the inputs h_0 and c_0, of which ONNX Runtime warns",
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: that of the weights")


def command(arguments: argparse.Namespace) -> int:
    """Do ``convert``."""
    formats.saving_format_of(arguments.target)  # raises before the long work
    net = formats.load(
        arguments.source, prefix=arguments.prefix, dtype=arguments.dtype, batch_first=arguments.batch_first
    )
    formats.save(net, arguments.target, state_inputs=not arguments.no_state_inputs)
    print(f"{arguments.source} -> {arguments.target}: {net!r}")
    return 0
