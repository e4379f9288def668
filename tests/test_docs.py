"""The Python of the documentation runs, and what it asserts is so."""

from __future__ import annotations

import re

import pytest
from helpers import ROOT


@pytest.mark.parametrize("page", ["docs/streaming.md"])
def test_examples(page):
    text = (ROOT / page).read_text()
    blocks = [(match.start(), match.group(1)) for match in re.finditer(r"```python\n(.*?)```", text, re.DOTALL)]
    assert blocks
    names: dict[str, object] = {}
    for place, block in blocks:
        first_line = text[:place].count("\n") + 1
        exec(compile("\n" * first_line + block, page, "exec"), names)
