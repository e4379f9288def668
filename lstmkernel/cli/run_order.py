"""``lstmkernel run amp.nam in.wav``: a network in the place of the input is answered with the right command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lstmkernel.workbench.blockwise import kinds

#: Options of ``run`` without a value.
FLAGS = ("--last", "--ragged", "--batch-first", "--no-batch-first", "-h", "--help")


def check(arguments: Sequence[str]) -> None:
    """ValueError if a network stands among these arguments of ``run`` without an option before it.

    argparse would complain of the file behind it, or of a missing output.
    """
    if any(each.startswith("--w") for each in arguments):  # --weights, perhaps cut short
        return
    before = ["", *arguments]
    free = [each for last, each in zip(before, arguments, strict=False) if not (each.startswith("-") or _is_open(last))]
    network = next((each for each in free if kinds.is_network(each)), None)
    if network is None:
        return
    others = [each for each in free if each != network]
    wanted = _value_of_output(arguments)
    input_, output = [*others, "INPUT"][0], wanted or [*others[1:], "OUTPUT"][0]
    command = shlex.join(["lstmkernel", "run", "--weights", network, input_, "-o", output])
    raise ValueError(f"{network}: a network goes behind --weights: {command}")


def _value_of_output(arguments: Sequence[str]) -> str | None:
    for place, each in enumerate(arguments):
        if each.startswith("--o") and "=" in each:
            return each.partition("=")[2]
        if each == "-o" or each.startswith("--o"):
            return next(iter(arguments[place + 1 :]), None)
    return None


def _is_open(argument: str) -> bool:
    """Whether it is an option whose value comes next."""
    return argument.startswith("-") and "=" not in argument and argument not in FLAGS
