#!/usr/bin/env python3
"""Whether a tag may be released: ``release.py v1.2.3``. It must be the version, and CHANGELOG.md must have its day."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def problems(tag: str, version_file: str, changelog: str) -> list[str]:
    """What stands in the way of releasing a tag."""
    (version,) = re.findall(r'__version__ = "(.*)"', version_file)
    found = []
    if tag != f"v{version}":
        found.append(f"tag: expected v{version}, which lstmkernel/_version.py says, got {tag}")
    if not re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md: expected a heading '## {version} - YYYY-MM-DD', found none")
    unreleased = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if unreleased and unreleased[1].strip():
        found.append(f"CHANGELOG.md: 'Unreleased' is not empty; its lines belong to {version}")
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: release.py TAG")
    version_file, changelog = ROOT / "lstmkernel" / "_version.py", ROOT / "CHANGELOG.md"
    sys.exit("\n".join(problems(sys.argv[1], version_file.read_text(), changelog.read_text())) or None)
