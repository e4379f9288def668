"""Docstrings as Markdown, for the reference of the site: an extension of Griffe, which mkdocstrings reads code with.

In the sources they are plain text: a list of parameters as NumPy has it, then what is returned and raised, as prose.
"""

from __future__ import annotations

import re
from typing import Any

try:
    from griffe import Extension
except ImportError:  # tests import only as_markdown
    Extension = object

_CODE = re.compile(r"``[^`]+``|`[^`]+`")
_HEADING = re.compile(r"^(\w+)\n-{3,}\n", re.MULTILINE)
_MARKS = {"<": "&lt;", **{mark: f"\\{mark}" for mark in "*_[]"}}


class Docstrings(Extension):
    """Every docstring that mkdocstrings shows."""

    def on_object(self, *, obj: Any, **others: Any) -> None:
        self._rewrite(obj)

    def on_instance(self, *, obj: Any, **others: Any) -> None:
        self._rewrite(obj)

    def _rewrite(self, obj: Any) -> None:
        if obj.docstring and obj.path not in self._seen:
            self._seen.add(obj.path)
            obj.docstring.value = as_markdown(obj.docstring.value)

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()


def as_markdown(docstring: str) -> str:
    """The same text in Markdown."""
    before, *sections = _HEADING.split(docstring.strip() + "\n")
    parts = [_prose(before)]
    for heading, text in zip(sections[::2], sections[1::2], strict=True):
        listed, after = _listed(text.splitlines())
        items = "\n".join(f"- **`{name}`**: {_escaped(' '.join(lines))}" for name, lines in listed)
        parts += [f"**{heading}**\n\n{items}", _prose(after)]
    return "\n\n".join(part for part in parts if part.strip())


def _listed(lines: list[str]) -> tuple[list[tuple[str, list[str]]], str]:
    """Names with their descriptions, which are indented, and the text after the last of them."""
    items: list[tuple[str, list[str]]] = []
    for place, line in enumerate(lines):
        if line.startswith("    "):
            items[-1][1].append(line.strip())
        elif line.strip() and lines[place + 1 : place + 2] and lines[place + 1].startswith("    "):
            items.append((line.strip(), []))
        elif line.strip():
            return items, "\n".join(lines[place:])
    return items, ""


def _prose(text: str) -> str:
    """Lines that are indented by four are code already."""
    return "\n".join(line if line.startswith("    ") else _escaped(line) for line in text.splitlines()).strip("\n")


def _escaped(text: str) -> str:
    """Stars and brackets outside of code are meant as they stand there."""
    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [_marked(text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _marked(text[end:])])


def _marked(text: str) -> str:
    return "".join(_MARKS.get(character, character) for character in text)
