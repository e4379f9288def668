"""The Python of the documentation runs, what it asserts is so, and what it prints stands below it."""

from __future__ import annotations

import json
import re

import pytest
from fuzz_targets import NAM
from helpers import ROOT

PAGES = {
    "docs/how_an_lstm_remembers.md": [],
    "docs/streaming.md": [],
    "docs/training.md": [],
    "docs/bring_your_model.md": ["torch", "onnx", "onnxscript", "onnxruntime"],
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PyTorch's exporter, of itself
@pytest.mark.parametrize("page", PAGES)
def test_examples(page, capsys, tmp_path, monkeypatch):
    """From top to bottom, in a folder where they may write. A block ```text is what the one before prints."""
    for package in PAGES[page]:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "amp.nam").write_text(json.dumps(NAM))  # what a page reads and does not make
    text = (ROOT / page).read_text()
    blocks = list(re.finditer(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", text, re.DOTALL))
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        if "import torch\n" in block[1]:
            pytest.importorskip("torch")  # the rest of the page goes on with it
        first_line = text[: block.start()].count("\n") + 1
        exec(compile("\n" * first_line + block[1], page, "exec"), names)
        assert block[2] in (None, capsys.readouterr().out), f"{page}:{first_line}"


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_pictures_and_links_are_there(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
