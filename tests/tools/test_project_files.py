"""What the project's own machinery says: workflows, the tasks of the Makefile, versions, a release."""

from __future__ import annotations

import ast
import re
import runpy
import tomllib
from inspect import cleandoc

import pytest
from helpers import ROOT

import lstmkernel as lk

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

every_workflow = pytest.mark.parametrize(
    "workflow", [path.read_text() for path in WORKFLOWS], ids=[p.name for p in WORKFLOWS]
)


@every_workflow
def test_actions_are_pinned_by_commit(workflow: str) -> None:
    """A tag can be moved to other code. The version stands beside it, for readers and Dependabot."""
    for action in re.findall(r"uses: (.*)", workflow):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v[\d.]+", action), action


@every_workflow
def test_no_job_may_do_more_than_it_says(workflow: str) -> None:
    """``permissions: {}`` for all, then each job's own."""
    assert re.search(r"^permissions: \{\}$", workflow, re.MULTILINE)


@every_workflow
def test_scripts_and_tasks_are_there(workflow: str) -> None:
    for script in re.findall(r"(?:^|\s)((?:tests|\.ci)/[\w./-]+)", workflow):
        assert (ROOT / script).exists(), script
    for group in re.findall(r"--group (\w+)", workflow):
        assert group in PROJECT["dependency-groups"], group
    tasks = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for task in re.findall(r"make (\w+)", workflow):
        assert task in tasks, task


def test_every_task_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony.split() == re.findall(r"^(\w+):.*  ## \w", makefile, re.MULTILINE)


def test_the_oldest_versions_are_those_that_are_allowed() -> None:
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "tests/lowest.txt").read_text(), re.MULTILINE))
    allowed = dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in PROJECT["project"]["dependencies"])
    assert pinned.keys() == allowed.keys()
    for name, version in allowed.items():
        assert re.fullmatch(rf"{re.escape(version)}(\.0)*", pinned[name]), name


def test_the_citation_names_the_version() -> None:
    assert re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE) == [lk.__version__]


def test_the_oldest_python_is_the_same_everywhere() -> None:
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    tag = oldest.replace(".", "")
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{tag}"
    assert f'"py_limited_api": "cp{tag}"' in (ROOT / "setup.py").read_text()
    assert PROJECT["tool"]["cibuildwheel"]["build"][0] == f"cp{tag}-*"
    for page in ("README.md", "CONTRIBUTING.md"):
        assert f"Python {oldest} or newer" in (ROOT / page).read_text()


@pytest.mark.parametrize(
    ("tag", "changelog", "said"),
    [
        ("v1.2.0", "## 1.2.0 - 2026-01-31\n- a\n", []),
        ("v1.2.0", "## Unreleased\n\n## 1.2.0 - 2026-01-31\n- a\n", []),
        ("v1.2", "## 1.2.0 - 2026-01-31\n", ["tag: expected v1.2.0, which lstmkernel/_version.py says, got v1.2"]),
        ("v1.2.0", "## 1.2.0\n", ["CHANGELOG.md: expected a heading '## 1.2.0 - YYYY-MM-DD', found none"]),
        (
            "v1.2.0",
            "## Unreleased\n- b\n## 1.2.0 - 2026-01-31\n",
            ["CHANGELOG.md: 'Unreleased' is not empty; its lines belong to 1.2.0"],
        ),
    ],
)
def test_what_a_release_needs(tag: str, changelog: str, said: list[str]) -> None:
    problems = runpy.run_path(str(ROOT / "tests/install/release.py"))["problems"]
    assert problems(tag, '__version__ = "1.2.0"\n', changelog) == said


# ---------------------------------------------------------------- the site, whose build needs more than tests have

HOOKS = runpy.run_path(str(ROOT / "docs/mkdocs_hooks.py"))


def test_the_reference_has_every_public_name_once() -> None:
    listed = [name for _, _, names in HOOKS["REFERENCE"].values() for name in names]
    ours = [name.split(".")[-1] for name in listed if not name.startswith(("torch.", "dask."))]
    assert sorted(ours) == sorted({*lk.__all__, "Window", "Plan"} - {"__version__"})
    for room in ("torch", "dask"):
        tree = ast.parse((ROOT / f"lstmkernel/{room}/__init__.py").read_text())
        (names,) = [
            node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
        ]
        assert sorted(ast.literal_eval(names)) == sorted(
            name.split(".")[1] for name in listed if name.startswith(f"{room}.")
        )


def test_every_page_has_its_place_on_the_site() -> None:
    listed = re.findall(r"^ +- (?:.*: )?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [path.name for path in ROOT.glob("docs/*.md")]
    assert sorted(listed) == sorted(
        [*pages, *HOOKS["OUTSIDE"], *(f"reference/{name}.md" for name in HOOKS["REFERENCE"])]
    )
    assert all((ROOT / source).exists() for source in HOOKS["OUTSIDE"].values())


@pytest.mark.parametrize(
    ("page", "repository", "markdown", "expected"),
    [
        ("index.md", None, "[a](docs/lstm.md#x), ![b](docs/pictures/p.svg)", "[a](lstm.md#x), ![b](pictures/p.svg)"),
        ("lstm.md", None, "[a](../README.md), [b](../csrc/a.h), [c](#d)", "[a](index.md), b, [c](#d)"),
        (
            "lstm.md",
            "https://example.com/r/",
            "[b](../csrc/a.h#L1)",
            "[b](https://example.com/r/blob/main/csrc/a.h#L1)",
        ),
        ("lstm.md", None, "```python\n[a](../csrc/a.h)\n```\n[a](../csrc/a.h)", "```python\n[a](../csrc/a.h)\n```\na"),
        ("lstm.md", None, "text:\n- a\n  b\n\n  c\nd", "text:\n\n- a\n    b\n\n    c\nd"),
        ("lstm.md", None, "1. a\n   - b", "1. a\n    - b"),
        ("lstm.md", None, "of\n48000. Then", "of\n48000. Then"),
    ],
)
def test_pages_as_mkdocs_reads_them(page: str, repository: str | None, markdown: str, expected: str) -> None:
    names = ["index.md", "lstm.md", "pictures/p.svg"]
    assert HOOKS["as_mkdocs_reads_it"](markdown, page, names, repository).rstrip("\n") == expected


def test_docstrings_as_markdown() -> None:
    as_markdown = runpy.run_path(str(ROOT / "docs/mkdocs_docstrings.py"))["as_markdown"]
    docstring = """What it is: (L*D, R), ``a*b``.

        code * here

    Parameters
    ----------
    x
        (T, B, I), "c:<isa>".
        It goes on.
    y_0
        Another.

    Raises ValueError.
    """
    assert as_markdown(cleandoc(docstring)) == (
        "What it is: (L\\*D, R), ``a*b``.\n\n    code * here\n\n**Parameters**\n\n"
        '- **`x`**: (T, B, I), "c:&lt;isa>". It goes on.\n- **`y_0`**: Another.\n\nRaises ValueError.'
    )
