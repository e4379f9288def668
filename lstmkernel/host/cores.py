"""How many threads are worth having: the cores that affinity and control groups leave to this process."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def available() -> int:
    """Cores that this process may use now, at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        allowed = os.cpu_count() or 1
    return max(1, min(allowed, _cgroup_limit()))


@cache  # it belongs to the container and is read from several files
def _cgroup_limit() -> int:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 1 << 16
    return cgroup_limit(CGROUPS, lines)


def cgroup_limit(root: Path, lines: list[str]) -> int:
    """Whole cores of the least CPU quota on the way from ``root`` to the groups of /proc/self/cgroup's ``lines``."""
    quotas = [float(1 << 16)]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / controllers if controllers else root
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            quotas += _quota(folder)
            if folder == base:
                break
    return max(1, int(min(quotas)))


def _quota(folder: Path) -> list[float]:
    """Cores that this group may use, if it says so: cpu.max of version 2, cpu.cfs_quota_us of version 1."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return []
    return [] if quota in ("max", "-1") else [int(quota) / int(period)]
