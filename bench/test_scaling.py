"""scaling.py: ratios, table, JSON and picture are right; neighbours are there and go away."""

import json
import os

import pytest
import scaling
from contenders import OURS
from peers_report import Timing
from scaling_report import Scaling, as_json, markdown

from lstmkernel.host import cores
from lstmkernel.workbench.shapes import parse


def timing(seconds):
    return Timing(seconds, 2 * seconds, 7, 0.1)


@pytest.fixture
def found():
    """Two threads help, four do not; a peer overtakes on four."""
    times = {(OURS, 1): 8e-6, (OURS, 2): 4e-6, (OURS, 4): 6e-6, ("PyTorch", 1): 16e-6, ("PyTorch", 4): 3e-6}
    return [Scaling(parse("1,2,3,4"), {key: timing(seconds) for key, seconds in times.items()})]


def test_ratios(found):
    (shape,) = found
    assert shape.counts == [1, 2, 4]
    assert shape.speedup(4) == pytest.approx(8 / 6)
    assert [shape.by_fewer(count) for count in shape.counts] == [None, pytest.approx(4 / 8), pytest.approx(6 / 4)]
    assert [shape.best_peer(count) for count in shape.counts] == [("PyTorch", 2.0), None, ("PyTorch", 0.5)]


def test_the_table_shows_losses_in_bold(found):
    lines = markdown(found).splitlines()
    assert lines[2] == f"| 1,2,3,4 | 1 | 8.0 | 2.00 | 1.00 | 100% |  | PyTorch | {2:.2f} |"
    assert lines[3] == "| 1,2,3,4 | 2 | 4.0 | 2.00 | 2.00 | 100% | 0.50 |  |  |"
    assert lines[4] == "| 1,2,3,4 | 4 | 6.0 | 2.00 | 1.33 | 33% | **1.50** | PyTorch | **0.50** |"
    assert lines[-1].startswith("- 4 threads: speedup 1.33; best peer / lstmkernel 0.5")


def test_json_has_every_timing(found):
    (shape,) = json.loads(json.dumps(as_json(found)))
    assert len(shape["timings"]) == len(found[0].timings)
    assert shape["timings"][1] == {
        "contender": OURS,
        "threads": 2,
        "median": 4e-6,
        "p99": 8e-6,
        "calls": 7,
        "error": 0.1,
    }


def test_the_picture(found, tmp_path):
    pytest.importorskip("matplotlib")
    import scaling_plot

    scaling_plot.draw(found, "a title", str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_of_threads():
    assert [cores.doubling(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_a_whole_run(monkeypatch):
    """One contender, one thread: through its process, checked, with its progress."""
    monkeypatch.setattr(scaling, "QUIET_SECONDS", 0)
    (shape,) = scaling.run([OURS], [1], [parse("2,3,4,5")], 0.05)
    assert shape.timings[OURS, 1].calls >= 5
    assert shape.timings[OURS, 1].error <= 1


class Wrong:
    def prepare(self, case):
        return 1.5


class Failing:
    def prepare(self, case):
        raise ValueError("no such thing")


def test_a_peer_that_fails_is_named():
    shape = parse("1,1,2,3")
    errors, failed = scaling.prepared(shape, {("JAX", 2): Failing()}, lambda: None)
    assert (errors, failed) == ({}, {("JAX", 2): "no such thing"})
    lines = markdown([Scaling(shape, {(OURS, 1): timing(1e-6)}, failed)]).splitlines()
    assert lines[-1] == "- JAX on 1,1,2,3, threads: 2: not timed: no such thing"


def test_lstmkernel_being_wrong_stops_the_run():
    with pytest.raises(SystemExit, match=r"lstmkernel on 1,1,2,3, threads: 2: 1\.5 times the tolerance off"):
        scaling.prepared(parse("1,1,2,3"), {(OURS, 2): Wrong()}, lambda: None)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_neighbours_end_with_the_run(monkeypatch):
    started = []

    class Noted(scaling.subprocess.Popen):
        def __init__(self, *arguments, **options):
            started.append(self)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(scaling.subprocess, "Popen", Noted)
    with scaling.neighbours(1):
        assert len(started) == 1
        assert started[0].poll() is None
    assert started[0].returncode is not None
    with scaling.neighbours(0):
        assert len(started) == 1
