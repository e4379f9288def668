"""``lstmkernel convert``: a network from one file format to another."""

from __future__ import annotations

import argparse
from typing import Any

from lstmkernel import formats

DESCRIPTION = """\
Load a network from a file of any format that is known, and save it in the
format that OUT's suffix names. PyTorch's own savers are not among them: PyTorch
reads .safetensors.
"""

EXAMPLES = """\
examples:
  lstmkernel info checkpoint.pt                # what is inside
  lstmkernel convert checkpoint.pt lstm.safetensors --prefix model.encoder
  lstmkernel convert weights.json weights.safetensors
"""


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "convert",
        help="a network from one file format to another",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="IN", help="a file that lstmkernel info can list")
    parser.add_argument(
        "target", metavar="OUT", help=f"named {', '.join(f'*{suffix}' for suffix in formats.saving_formats())}"
    )
    parser.add_argument("--prefix", metavar="P", help="which part of a larger model, as lstmkernel info lists them")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: that of the weights")
    parser.set_defaults(command=command, one_thread=False)


def command(arguments: argparse.Namespace) -> int:
    """Do ``convert``."""
    net = formats.load(arguments.source, prefix=arguments.prefix, dtype=arguments.dtype)
    formats.save(net, arguments.target)
    print(f"{arguments.source} -> {arguments.target}: {net!r}")
    return 0
