"""What an installed package holds, beside Python's files and the compiled kernels."""

from __future__ import annotations

import ast
from fnmatch import fnmatch
from pathlib import Path

from helpers import ROOT


def package_data() -> dict[str, list[str]]:
    """Of the call of setup() in setup.py: patterns of file names by package."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.keyword) and node.arg == "package_data":
            found: dict[str, list[str]] = ast.literal_eval(node.value)
            return found
    raise AssertionError("setup.py has no package_data")


def test_a_wheel_holds_every_file_of_the_package() -> None:
    """py.typed, without which mypy and pyright see no types; the small network; the probes of ``--roofline``."""
    data = package_data()
    files = [path.relative_to(ROOT) for path in (ROOT / "lstmkernel").rglob("*") if path.is_file()]
    made = [path for path in files if path.name.startswith("_kernels") or path.suffix == ".pyc"]
    others = [path for path in files if path.suffix != ".py" and path not in made]
    assert Path("lstmkernel/py.typed") in others
    for path in others:
        patterns = data.get(".".join(path.parent.parts), [])
        assert any(fnmatch(path.name, pattern) for pattern in patterns), path


def test_every_folder_with_python_files_is_a_package() -> None:
    """Others are left out of a wheel by find_packages."""
    folders = {path.parent for path in (ROOT / "lstmkernel").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]
