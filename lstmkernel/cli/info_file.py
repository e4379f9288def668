"""The content of a file of weights, for ``lstmkernel info FILE``."""

from __future__ import annotations

import json

from rich import box
from rich.table import Table
from rich.text import Text

import lstmkernel
from lstmkernel.cli import console
from lstmkernel.formats import Contents


def show(path: str, as_json: bool) -> None:
    """Print what ``lstmkernel.inspect`` finds: the networks, then the tensors."""
    found = lstmkernel.inspect(path)
    if as_json:
        print(json.dumps(_plain(found), indent=2))
        return
    out = console.output()
    out.print(Text(f"{path}: {found.format}, {len(found.tensors)} tensors"), soft_wrap=True)
    for note in found.notes:
        out.print(_text(note), soft_wrap=True)
    out.print()
    if found.networks:
        table = Table("What can be loaded", "With", box=box.SIMPLE, padding=0, show_edge=False)
        for network in found.networks:
            table.add_row(
                _text(network.description), _text(f"--prefix {network.prefix}" if network.prefix else "no prefix")
            )
        out.print(table)
    else:
        out.print("Nothing that can be loaded.")
    out.print()
    table = Table("Tensor", box=box.SIMPLE, padding=0, show_edge=False)
    table.add_column("Shape", no_wrap=True)
    table.add_column("Type", no_wrap=True)
    for tensor in found.tensors:
        table.add_row(_text(tensor.name), _text(f"({', '.join(map(str, tensor.shape))})"), _text(tensor.dtype))
    out.print(table)


def _text(from_file: str) -> Text:
    """Without markup and control characters. A very long name is cut."""
    return Text(console.printable(from_file if len(from_file) <= 1000 else f"{from_file[:1000]} ..."))


def _plain(found: Contents) -> dict[str, object]:
    tensors = [tensor._asdict() for tensor in found.tensors]
    return {**found._asdict(), "tensors": tensors, "networks": [network._asdict() for network in found.networks]}
