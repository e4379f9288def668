"""The documentation's code runs as a reader would paste it, and what pages name or quote is there.

A marker above a block, which readers do not see, may change that: ``<!-- not run: why -->`` for what a test cannot do
(its commands and options are checked, its Python is compiled), ``<!-- code: file function -->`` for a quote.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from doc_blocks import Block, blocks, check_commands
from helpers import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "bench" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
#: What the blocks of a page import and not everybody has.
NEEDS = {
    "README.md": ["torch", "matplotlib"],
    "at_scale.md": ["dask", "distributed"],
    "bring_your_model.md": ["torch", "onnx", "onnxscript", "onnxruntime", "h5py", "soundfile"],
    "command_line.md": ["pyarrow"],
    "training.md": ["torch"],
}
#: Commands that take as long as one lets them.
SHORTER = {"lstmkernel compare": "--seconds 0.2", "lstmkernel bench": "--seconds 0.2"}
KERAS = ROOT / "tests/formats/goldens/keras"
LANGUAGES = {"python", "sh", "console", "text", "c"}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


def quotes():
    """docs/quotes.py, which is a script and no module."""
    spec = importlib.util.spec_from_file_location("quotes", ROOT / "docs/quotes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PyTorch's exporter, of itself
@every_page
def test_blocks_run_in_order(page, capfd, tmp_path, monkeypatch):
    for package in NEEDS.get(page.name, []):
        pytest.importorskip(package)
    folder_like_a_clone(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    printed = None
    for block in blocks(page):
        place = f"{page_id(page)}:{block.line}"
        assert block.language in LANGUAGES, place
        if block.language == "text":
            assert printed == block.code, place
        elif block.is_run:
            capfd.readouterr()
            run(block, page, names)
            printed = capfd.readouterr().out


def folder_like_a_clone(folder: Path) -> None:
    """What a reader in a clone has; what blocks write stays in ``folder``. And files of Keras, which is not run."""
    for name in ("bench", "csrc", "docs", "examples", "lstmkernel", "tests", "pyproject.toml", "setup.py"):
        (folder / name).symlink_to(ROOT / name)
    with zipfile.ZipFile(KERAS / "files.zip") as archive:
        (folder / "tagger.keras").write_bytes(archive.read("whole_3.keras"))
    answers = np.load(KERAS / "answers.npz")
    np.savez(folder / "check.npz", x=answers["whole_3.x"], y=answers["whole_3.y"])


def run(block: Block, page: Path, names: dict[str, object]) -> None:
    if block.language == "python":
        exec(compile("\n" * block.line + block.code, page, "exec"), names)
        return
    assert block.language in ("sh", "console"), f"{page}:{block.line}: a quote needs a marker"
    lines = [shorter(line) for line in block.commands.replace("\\\n", " ").splitlines()]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], env={**os.environ, "PATH": path})
    assert done.returncode == 0, f"{page}:{block.line}"


def shorter(line: str) -> str:
    command = re.split(r"\s#", line)[0]
    return next((f"{command} {options}" for name, options in SHORTER.items() if command.startswith(name)), command)


@pytest.mark.slow
@every_page
def test_blocks_that_are_not_run_are_right(page):
    for block in blocks(page):
        if block.marker.startswith("not run: "):
            if block.language == "python":
                compile(block.code, page, "exec")
            else:
                check_commands(block.commands)


@every_page
def test_quotes_are_what_the_sources_say(page):
    assert quotes().renewed(page) == page.read_text(), "python docs/quotes.py --write"


@every_page
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), f"{target}#{anchor}"


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_files_and_names_in_prose_are_there(page):
    """Every path in backticks exists, and every name with an underscore stands somewhere in the sources."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    tops = {path.name for path in ROOT.iterdir()}
    for path in re.findall(r"[`(\[]((?:[\w.-]+/)+[\w.-]*\w)[`)\],]", prose):
        if path.split("/")[0] in tops and "foo" not in path:
            assert (ROOT / path).exists(), path
    words, files = named_in_sources()
    for quoted in re.findall(r"`([^`\n]+)`", prose):
        if re.fullmatch(r"[A-Za-z]\w*_\w+", quoted) and "foo" not in quoted:
            assert quoted in words, quoted
        if re.fullmatch(r"\w+\.(c|h|md|py|sh)", quoted) and "foo" not in quoted:
            assert quoted in files, quoted


@cache
def named_in_sources() -> tuple[set[str], set[str]]:
    """All words of the sources but for this file's, and the names of all files."""
    folders = ("csrc", "lstmkernel", "bench", "tests", "examples", "docs")
    files = [*ROOT.iterdir(), *(file for name in folders for file in (ROOT / name).rglob("*"))]
    sources = [file for file in files if file.suffix in (".c", ".h", ".py", ".sh") and file.name != Path(__file__).name]
    words = {word for file in sources for word in re.findall(r"\w+", file.read_text())}
    return words, {file.name for file in files}
