"""Which CPU this is."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path


@cache
def model() -> str:
    """The CPU's name, for people."""
    return _of_cpuinfo("model name") or platform.processor() or platform.machine()


@cache
def features() -> str:
    """The CPU's features as the system lists them; empty if the system lists none."""
    return _of_cpuinfo("flags") or _of_cpuinfo("Features")


def _of_cpuinfo(field: str) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.split(":")[0].strip() == field:
                return line.partition(":")[2].strip()
    return ""
