"""``lstmkernel cache``: list or remove what lstmkernel keeps on disk."""

from __future__ import annotations

import argparse
import json
from datetime import datetime

from rich import box
from rich.table import Table

from lstmkernel.cli import console
from lstmkernel.host import disk_cache, numbers_text

SUMMARY = "list or remove what lstmkernel keeps on disk"

DESCRIPTION = """\
List what lstmkernel keeps on disk between runs, with sizes: machine code of
Numba's kernels (numba), C kernels made for one layer's sizes (c), and plans of
LSTM.compile (plans). All of it can be removed; it is made again when needed.
"""

EXAMPLES = """\
examples:
  lstmkernel cache
  lstmkernel cache --json
  lstmkernel cache --clear
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clear", action="store_true", help="remove everything")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")


def command(arguments: argparse.Namespace) -> int:
    """Do ``cache``."""
    entries = list(disk_cache.entries())
    if arguments.clear:
        removed = disk_cache.clear()
        if not arguments.json:
            print(f"{removed} of {len(entries)} files removed from {disk_cache.root()}")
            return 0
        entries = list(disk_cache.entries())
    if arguments.json:
        fields = [{**entry._asdict(), "path": str(entry.path)} for entry in entries]
        print(json.dumps({"directory": str(disk_cache.root()), "entries": fields}, indent=2))
        return 0
    out = console.output()
    if entries:
        out.print(_table(entries))
    size = numbers_text.count(sum(entry.size for entry in entries)) if entries else "0"
    out.print(f"{len(entries)} files, {size}B, in {disk_cache.root()}", soft_wrap=True, markup=False)
    return 0


def _table(entries: list[disk_cache.Entry]) -> Table:
    table = Table("Kind", "Entry", box=box.SIMPLE, padding=0, show_edge=False)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Made", no_wrap=True)
    for entry in entries:
        table.add_row(entry.kind, entry.path.name, f"{numbers_text.count(entry.size)}B", _date(entry.modified))
    return table


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):  # a clock that was far off
        return "?"
