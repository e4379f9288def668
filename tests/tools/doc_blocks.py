"""The code blocks of the documentation, and what can be checked of shell commands that are not run."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partialmethod
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import ROOT

BLOCK = re.compile(
    r"(?:^<!-- (?P<marker>[^\n]*) -->\n\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
#: What a page may name and a test environment need not have.
TOOLS = {
    "callgrind_annotate",
    "gcc",
    "git",
    "lint-imports",
    "make",
    "mypy",
    "objdump",
    "pip",
    "pre-commit",
    "ruff",
    "valgrind",
}
OPERATORS = "();&|\n"


@dataclass(frozen=True)
class Block:
    """A code block: its language, what stands in it, its first line in the page, and the marker above it."""

    language: str
    code: str
    line: int
    marker: str

    @property
    def is_run(self) -> bool:
        return not self.marker.startswith(("code: ", "not run: "))

    @property
    def commands(self) -> str:
        """Of a shell block; where it shows a terminal, what stands behind the prompts."""
        if self.language == "console":
            return "".join(f"{line[2:]}\n" for line in self.code.splitlines() if line.startswith("$ "))
        return self.code


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for block in BLOCK.finditer(text):
        line = text[: block.start("code")].count("\n")
        found.append(Block(block["language"], block["code"], line, block["marker"] or ""))
    return found


def check_commands(text: str) -> None:
    """Programs, scripts, files and packages exist; the options are known to the commands themselves."""
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for command in simple_commands(text):
        check(command)


def simple_commands(text: str) -> list[list[str]]:
    """The words of each command, without comments, operators, assignments and the heads of loops."""
    text = re.sub(r"\bfor \w+ in [^;\n]*|(?<!\S)#[^\n]*|\\\n", "", text)
    words = shlex.shlex(text, posix=True, punctuation_chars=OPERATORS)
    words.whitespace, words.whitespace_split, words.commenters = " \t", True, ""
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ("do", "done") or set(word) <= set(OPERATORS):
            commands.append([])
        elif commands[-1] or not re.match(r"\w+=", word):
            commands[-1].append(word)
    return [command for command in commands if command]


def check(command: list[str]) -> None:
    program, *arguments = command
    program = program.removeprefix(".venv/bin/")
    for word in arguments:
        if re.fullmatch(r"\w[\w.-]*(/[\w.-]+)+", word) and (ROOT / word.split("/")[0]).exists():
            assert (ROOT / word).exists(), word
    if program == "python" and arguments[:1] == ["-m"]:
        program, *arguments = arguments[1:]
        assert find_spec(program), program
    if program == "lstmkernel":
        check_options(ROOT / "lstmkernel" / "__main__.py", arguments)
    elif program == "pytest":
        known = [word for word in arguments if not word.startswith("--benchmark-compare=")]  # of a run that was saved
        # A process of xdist would refuse --benchmark-only.
        alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
        subprocess.run([sys.executable, "-m", "pytest", *known, "--markers"], cwd=ROOT, check=True, env=alone)
    elif program == "python" and arguments[0].endswith(".py") and arguments[0] != "setup.py":
        check_options(ROOT / arguments[0], arguments[1:])
    elif program == "pip":
        for extra in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
            assert set(extra.split(",")) <= set(metadata("lstmkernel").get_all("Provides-Extra")), extra
    elif "/" in program:
        assert (ROOT / program).exists(), program
    else:
        assert program in TOOLS or shutil.which(program) or is_shell_word(program) or find_spec(program), program


def is_shell_word(word: str) -> bool:
    return subprocess.run(["bash", "-c", f"type -t {shlex.quote(word)}"], capture_output=True).returncode == 0


class ParsedError(Exception):
    """The script has read its options."""


def check_options(script: Path, arguments: list[str]) -> None:
    """Run the script until its own parser has taken the options, which must be written out in full."""
    make, parse = argparse.ArgumentParser.__init__, argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *given: object) -> None:
        parse(parser, *given)
        raise ParsedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "__init__", partialmethod(make, allow_abbrev=False))
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", [str(script), *arguments])
        patch.syspath_prepend(str(script.parent))
        with pytest.raises(ParsedError):
            runpy.run_path(str(script), run_name="__main__")
