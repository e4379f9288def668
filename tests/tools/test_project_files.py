"""What the project's own machinery says: workflows, the tasks of the Makefile, versions, a release."""

from __future__ import annotations

import re
import runpy
import tomllib

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
