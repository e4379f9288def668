"""``lstmkernel info``: CPU, backends, threads and versions of this machine; or the content of a file of weights."""

from __future__ import annotations

import argparse
import json
import warnings
from typing import Any

from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import lstmkernel
from lstmkernel import backends
from lstmkernel.cli import console, info_file

SUMMARY = "show CPU, backends, threads and versions; or the content of a file of weights"

DESCRIPTION = """\
Show the CPU, its instruction sets, which backends can run and why the others
cannot, threads and versions. With FILE, show the names and shapes in this file
of weights, and the networks in it that can be loaded.
"""

EXAMPLES = """\
examples:
  lstmkernel info
  lstmkernel info model.pt
  lstmkernel info model.safetensors --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", help="a file of weights, of any known format")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def command(arguments: argparse.Namespace) -> int:
    """Do ``info``."""
    if arguments.file is not None:
        info_file.show(arguments.file, arguments.json)
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing C backend is shown below
        found = lstmkernel.info()
    if arguments.json:
        print(json.dumps({**found, "c_is_built": backends.c_is_built()}, indent=2))
        return 0
    out = console.output()
    out.print(_machine(found))
    out.print()
    out.print(_backends(found))
    if not backends.c_is_built():
        text = f"The C kernels were not built: the fastest backend is missing.\nTo get it, {backends.HOW_TO_GET_C}"
        out.print(Panel(Text(text), title="NO C BACKEND", style="bold red"))
    return 0


def _machine(found: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    usable = [name for name in backends.INSTRUCTION_SETS if found["backends"][f"c:{name}"] is None]
    table.add_row("lstmkernel", found["lstmkernel"])
    table.add_row("CPU", found["cpu"])
    table.add_row("System", found["machine"])
    table.add_row("Instruction sets", ", ".join(usable) or "unknown without the C kernels")
    table.add_row("8-bit weights", f"C kernels {found['int8']}" if found["int8"] else "no C kernels")
    table.add_row("Cores", f"{found['cores']} that this process may use")
    most = min(found["cores"], found["num_threads"] or found["cores"])
    table.add_row("Threads", f"at most {most} a call, where the work pays for them")
    table.add_row("Python", found["python"])
    table.add_row("NumPy", found["numpy"])
    table.add_row("Numba", found["numba"] or "not installed")
    return table


def _backends(found: dict[str, Any]) -> Table:
    table = Table("Backend", "Can run here", box=box.SIMPLE, padding=0, show_edge=False)
    for name, reason in found["backends"].items():
        if reason is None:
            verdict = Text("yes, the default" if name == found["default"] else "yes", style="green")
        else:
            verdict = Text(f"no: {reason.removeprefix(f'backend {name!r}: ')}", style="dim")
        table.add_row(name, verdict)
    return table
