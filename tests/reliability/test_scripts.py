"""The scripts beside this file, in small: a nightly job runs them for longer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]


@pytest.mark.parametrize(
    ("script", "options", "printed"),
    [
        ("soak.py", "--threads 8 --forks 6 --least-calls 2", "8 threads, 6 forks"),
        ("killed.py", "--rounds 6 --compile-rounds 1", "compile: killed 1 times"),
    ],
    ids=["soak", "killed"],
)
def test_nothing_is_found(script: str, options: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tests/reliability" / script, *options.split()],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert printed in done.stdout
