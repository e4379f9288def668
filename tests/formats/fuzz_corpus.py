"""Payloads that fuzzing found: of each outcome the first one. The fuzzer changes them further, and CI tries each.

An outcome is where in the package a file was refused, or that it loaded. So a stored payload is past many checks, and
what is changed in it reaches code that changes of a good file seldom reach.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from hostile import Target

CORPUS = Path(__file__).parent / "corpus"
#: Payloads of more than so many times the target's are not kept. They are long because of what was inserted again and
#: again.
MOST_TIMES = 2


def stored(target: Target) -> list[bytes]:
    """The payloads that were found, the oldest first."""
    path = _file(target)
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in sorted(archive.namelist())]


def store(target: Target, payloads: list[bytes]) -> None:
    """Keep these payloads, in this order, in place of those that were stored. The same bytes for the same payloads."""
    CORPUS.mkdir(exist_ok=True)
    with zipfile.ZipFile(_file(target), "w", zipfile.ZIP_DEFLATED) as archive:
        for place, payload in enumerate(payloads):
            archive.writestr(zipfile.ZipInfo(f"{place:04}"), payload, zipfile.ZIP_DEFLATED)


def _file(target: Target) -> Path:
    return CORPUS / f"{target.name}.zip"
