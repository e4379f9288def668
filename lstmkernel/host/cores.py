"""How many cores this process may use: affinity and control groups limit them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def available() -> int:
    """Cores that this process may use now, at least 1."""
    return max(1, min(_allowed(), _cgroup_limit()))


def doubling(most: int) -> list[int]:
    """1, 2, 4, ... and ``most``: numbers of threads to look at."""
    return sorted({1 << power for power in range(most.bit_length())} | {most})


def _allowed() -> int:
    """Cores that affinity leaves to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return _allowed_by_windows() or os.cpu_count() or 1  # macOS has no affinity


def _allowed_by_windows() -> int:
    """Cores in the process's affinity mask. 0 on other systems, and where Windows does not say."""
    import ctypes

    if not hasattr(ctypes, "WinDLL"):
        return 0
    get = ctypes.WinDLL("kernel32").GetProcessAffinityMask
    this_process, ours, machines = ctypes.c_void_p(-1), ctypes.c_size_t(), ctypes.c_size_t()
    found = get(this_process, ctypes.byref(ours), ctypes.byref(machines))
    return ours.value.bit_count() if found else 0


@cache  # the limit belongs to the container, and reading it takes several files
def _cgroup_limit() -> int:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 1 << 16
    return cgroup_limit(CGROUPS, lines)


def cgroup_limit(root: Path, lines: list[str]) -> int:
    """Whole cores of the smallest CPU quota between ``root`` and the groups in the ``lines`` of /proc/self/cgroup."""
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
    """Cores that this group may use, if it has a limit: cpu.max in version 2, cpu.cfs_quota_us in version 1."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return []
    return [] if quota in ("max", "-1") else [int(quota) / int(period)]
