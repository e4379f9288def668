"""What MkDocs adds for the site: pages from outside docs/, a reference made of docstrings, links out of docs/.

Pages stay as a code host shows them; this file turns what MkDocs reads another way. ``make docs`` builds the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

#: Pages from elsewhere in the repository, by their name on the site.
OUTSIDE = {
    "index.md": "README.md",
    "benchmarks.md": "bench/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "conduct.md": "CODE_OF_CONDUCT.md",
}

#: The reference: for each page its heading, what it is about, and the names whose docstrings it has. A function stands
#: behind its module where both have one name: the docstrings are read without importing.
REFERENCE = {
    "networks": (
        "Networks",
        "Layers, chains of layers, and what every network can do.",
        ["LSTM", "Stack", "Dense", "LSTMCell", "Variant", "Model"],
    ),
    "states": ("States that are kept", "From one call to the next.", ["Stream", "Pool", "window.Window"]),
    "files": ("Files", "Weights in, weights out.", ["load", "save", "from_torch", "inspect", "FormatError"]),
    "learning": (
        "Looking inside",
        "What a network computes, and how gradients flow in it. `LSTM.forward` and `LSTM.backward` are "
        "[methods of networks](networks.md).",
        ["trace.trace", "Trace", "gradient_flow.gradient_flow", "GradientFlow"],
    ),
    "machine": ("The machine", "What runs here.", ["info.info", "warmup.warmup", "plan.Plan", "BackendError"]),
    "torch": (
        "lstmkernel.torch",
        "Replacements for PyTorch's modules.",
        ["torch.LSTM", "torch.LSTMCell", "torch.accelerate", "torch.Accelerated", "torch.restore"],
    ),
    "dask": ("lstmkernel.dask", "A network over Dask collections.", ["dask.score", "dask.gradients"]),
}

_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2[ \t]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
_ITEM = re.compile(r"^( *)([-*]|\d+\.)( +)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/."""
    from mkdocs.structure.files import File

    for name, source in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text()))
    for name, (heading, about, names) in REFERENCE.items():
        blocks = "\n\n".join(f"::: lstmkernel.{each}" for each in names)
        files.append(File.generated(config, f"reference/{name}.md", content=f"# {heading}\n\n{about}\n\n{blocks}\n"))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Iterable[Any]) -> str:
    """The page as MkDocs wants it."""
    uri = page.file.src_uri
    if uri.startswith("reference/"):
        return markdown
    names = [file.src_uri for file in files if not file.src_uri.endswith(".py")]
    return as_mkdocs_reads_it(markdown, uri, names, config.repo_url)


def as_mkdocs_reads_it(markdown: str, uri: str, names: Iterable[str], repository: str | None) -> str:
    """The text of the page ``uri`` of the site. names: of all pages and pictures there."""
    known = {OUTSIDE.get(name, f"docs/{name}"): name for name in names}
    source = OUTSIDE.get(uri, f"docs/{uri}")

    def rewritten(text: str) -> str:
        return _LINK.sub(lambda link: _link(link, source, uri, known, repository), text)

    return _outside_fences(_nested_by_four(markdown), rewritten)


def _link(link: re.Match[str], source: str, uri: str, known: dict[str, str], repository: str | None) -> str:
    """A link of a page of the site at ``uri``, whose text is ``source`` in the repository.

    To another page or picture it is relative on the site. To a source file it needs the repository's address; where
    there is none, only its text is left.
    """
    image, text, target = link.groups()
    path, hash_, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if path in known:
        there = posixpath.relpath(known[path], posixpath.dirname(uri) or ".")
        return f"{image}[{text}]({there}{hash_}{anchor})"
    return f"[{text}]({repository.rstrip('/')}/blob/main/{path}{hash_}{anchor})" if repository else text


def _outside_fences(markdown: str, change: Any) -> str:
    """The text with ``change`` applied to all but blocks of code."""
    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])


def _nested_by_four(markdown: str) -> str:
    """What belongs to an item of a list is indented by four: MkDocs' parser wants that, others want the item's text.

    A list that follows a paragraph gets an empty line before it, too. A number that begins a line there is no item.
    """
    lines: list[str] = []
    width = 0  # of the current item's marker
    for line in markdown.splitlines():
        item = _ITEM.match(line)
        in_paragraph = lines and lines[-1].strip() and not width
        if item and not item[1] and not (in_paragraph and item[2] not in ("-", "*", "1.")):
            if in_paragraph:
                lines.append("")
            width = item.end()
        elif width and line.strip() and not line.startswith(" "):
            width = 0
        elif width and line.startswith(" " * width):
            line = " " * 4 + line[width:]
        lines.append(line)
    return "\n".join(lines) + "\n"
