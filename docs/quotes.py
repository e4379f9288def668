"""Quotes of source code in the documentation: ``python docs/quotes.py`` checks them, ``--write`` renews them.

A quote is a code block below a marker, an HTML comment that readers of the page do not see. It names a file and a
function in it, of Python or of C:

    <!-- code: csrc/kernels/cell.h next_state -->
"""

from __future__ import annotations

import argparse
import ast
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")])
QUOTE = re.compile(r"(<!-- code: (\S+) (\S+) -->\n\n```(?:python|c)\n)(.*?)(^```$)", re.DOTALL | re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the text of the sources into the pages")
    write = parser.parse_args().write
    drifted = [page for page in PAGES if renewed(page) != page.read_text()]
    for page in drifted:
        print(f"{page.relative_to(ROOT)}: {'written' if write else 'a quote is not what the source says'}")
        if write:
            page.write_text(renewed(page))
    return 1 if drifted and not write else 0


def renewed(page: Path) -> str:
    """The page's text with every quote as its source has it."""
    return QUOTE.sub(lambda quote: quote[1] + definition(quote[2], quote[3]) + quote[5], page.read_text())


def definition(path: str, name: str) -> str:
    """The lines of one function, without the comment above it."""
    source = (ROOT / path).read_text()
    find = _python_lines if path.endswith(".py") else _c_lines
    lines = find(source, name)
    if lines is None:
        raise ValueError(f"{path} has no function {name}")
    first, last = lines
    return textwrap.dedent("".join(source.splitlines(keepends=True)[first:last]))


def _python_lines(source: str, name: str) -> tuple[int, int] | None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            assert node.end_lineno is not None
            return node.lineno - 1, node.end_lineno
    return None


def _c_lines(source: str, name: str) -> tuple[int, int] | None:
    """From the line that begins the definition to the brace that stands alone at a line's beginning."""
    found = re.search(rf"^[A-Za-z][^\n;]*\b{name}\([^;{{]*?\)\s*\{{\n.*?^\}}\n", source, re.DOTALL | re.MULTILINE)
    if found is None:
        return None
    return source.count("\n", 0, found.start()), source.count("\n", 0, found.end())


if __name__ == "__main__":
    raise SystemExit(main())
