"""A control group that gives a process less CPU time than it has cores.

The default then uses fewer threads. A call whose threads the system stops all at once, again and again, ends with the
same bits.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import usable

PERIOD_US = 20_000

CALLS = """
import sys, time
from pathlib import Path
import numpy as np
import lstmkernel as lk
from lstmkernel.host import cores

group, backend = Path(sys.argv[1]), sys.argv[2]
if sys.argv[3] == "before":
    (group / "cgroup.procs").write_text("0")
    print(cores.available())
    sys.exit()
lstm = lk.LSTM(24, 200, 2, num_threads=2, backend=backend, seed=0)
x = np.random.default_rng(0).standard_normal((300, 2, 24)).astype("float32")
one = lk.LSTM.from_config({**lstm.config(), "num_threads": 1}, lstm.state_dict())
expected = one(x)[0]
lstm(x)  # starts the threads
(group / "cgroup.procs").write_text("0")
end = time.monotonic() + 1
while time.monotonic() < end:
    assert np.array_equal(lstm(x)[0], expected)
print(cores.available())  # as it was when the process began
"""


def groups() -> Path:
    """Where a group of this machine's CPU controller can be made."""
    first = Path("/sys/fs/cgroup/cpu")
    return first if first.is_dir() else Path("/sys/fs/cgroup")


SPIN = """
import sys, time
from pathlib import Path

(Path(sys.argv[1]) / "cgroup.procs").write_text("0")
end = time.monotonic() + 0.2
while time.monotonic() < end:
    pass
"""


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    group = groups() / f"lstmkernel-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        limit(group)
        yield group
    finally:
        remove(group)


def remove(group: Path) -> None:
    """It is empty some moments after its last process ended."""
    end = time.monotonic() + 5
    while (group / "cgroup.procs").read_text() and time.monotonic() < end:
        time.sleep(0.05)
    group.rmdir()


def limit(group: Path) -> None:
    """Give the group its quota, and see that a process that spins in it is stopped."""
    try:
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(PERIOD_US // 2))
        else:
            (group / "cpu.max").write_text(f"{PERIOD_US // 2} {PERIOD_US}")
        subprocess.run([sys.executable, "-c", SPIN, str(group)], check=True, timeout=60, stderr=subprocess.DEVNULL)
        stopped = throttled(group)
    except (OSError, StopIteration, subprocess.CalledProcessError) as error:
        pytest.skip(f"no quota can be given here: {error}")
    if not stopped:
        pytest.skip("this system does not keep to a quota")


def run(group: Path, backend: str, when: str) -> str:
    command = [sys.executable, "-c", CALLS, str(group), backend, when]
    return subprocess.run(command, check=True, timeout=120, capture_output=True, text=True).stdout


def throttled(group: Path) -> int:
    """How often the system has stopped the group."""
    lines = (group / "cpu.stat").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("nr_throttled")).split()[1])


def test_half_a_core_is_one_thread(half_a_core):
    assert run(half_a_core, "auto", "before").split() == ["1"]


@pytest.mark.parametrize(
    "backend", [name for name in ("c", "numba") if name in {n.partition(":")[0] for n in usable()}]
)
def test_threads_that_are_stopped_all_at_once(half_a_core, backend):
    before = throttled(half_a_core)
    run(half_a_core, backend, "during")
    assert throttled(half_a_core) > before + 10
