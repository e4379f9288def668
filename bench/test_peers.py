"""peers.py: every contender gives the same answer as lstmkernel; tables and JSON are right."""

import json
import os

import numpy as np
import peers
import pytest
from contender_process import Process, environment
from contenders import BASELINE, CONTENDERS, OURS
from peers_report import ALONE, Row, Run, Timing, markdown
from samples import last_cores, percentile, timed

import lstmkernel as lk
from lstmkernel.workbench.shapes import parse


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize(("T", "layers", "bidirectional"), [(1, 1, False), (6, 1, False), (6, 2, True)])
def test_a_contender_gives_the_same_answer(contender, T, layers, bidirectional):
    if missing := CONTENDERS[contender].missing():
        pytest.skip(f"not installed: {', '.join(missing)}")
    lstm = lk.LSTM(5, 7, layers, bidirectional=bidirectional, seed=0)
    x = np.random.default_rng(1).standard_normal((T, 3, 5), dtype="float32")
    call = CONTENDERS[contender].prepare(lstm, x, 1)
    call()
    np.testing.assert_allclose(call(), lstm(x)[0], rtol=1e-5, atol=1e-5)


def test_a_contender_answers_from_its_own_process(tmp_path):
    process = Process(BASELINE, 1)
    assert 0 < process.prepare(peers.write_case(parse("2,3,4,5,2,2"), str(tmp_path))) <= 1
    assert all(0 < seconds < 1 for seconds in process.time(0.01))
    process.close()


def test_a_process_that_computes_something_else_says_so(tmp_path):
    case = peers.write_case(parse("2,3,4,5"), str(tmp_path))
    with np.load(case) as file:
        np.savez(case, **{**file, "expected": file["expected"] + 1})
    process = Process(BASELINE, 1)
    with pytest.raises(ValueError, match="times the tolerance"):
        process.prepare(case)
    process.close()


def test_threads_reach_the_environment():
    assert environment(2)["OMP_NUM_THREADS"] == "2"
    assert "intra_op_parallelism_threads=1" in environment(1)["XLA_FLAGS"]


class Pretended:
    """A process with that error, or that cannot prepare, whose calls take that long."""

    def __init__(self, error, seconds):
        self.error, self.seconds = error, seconds

    def prepare(self, case):
        if isinstance(self.error, str):
            raise ValueError(self.error)
        return self.error

    def time(self, seconds):
        return [self.seconds, 3 * self.seconds, 2 * self.seconds]


def measured(**processes):
    return peers.measure(parse("1,1,2,3"), processes, pause=0, seconds=0, advance=lambda: None)


def test_a_peer_that_fails_does_not_stop_the_run():
    row = measured(lstmkernel=Pretended(0.5, 1), PyTorch=Pretended("no such thing", 1), JAX=Pretended(1.5, 2))
    assert row.timings == {OURS: Timing(2, 3, 15, 0.5), "JAX": Timing(4, 6, 15, 1.5)}
    assert row.failed == {"PyTorch": "no such thing"}
    assert row.best_peer == "JAX"


@pytest.mark.parametrize("error", [1.01, float("nan"), "no such thing"])
def test_lstmkernel_being_wrong_stops_the_run(error):
    with pytest.raises(SystemExit, match="lstmkernel on 1,1,2,3"):
        measured(lstmkernel=Pretended(error, 1), PyTorch=Pretended(0.5, 1))


@pytest.fixture
def run():
    """Two shapes: won four times over, and lost by half to a peer that is a little off. With two threads."""

    def timings(seconds):
        return {name: Timing(median, 2 * median, 1000, 0.5) for name, median in seconds.items()}

    won = timings({OURS: 1e-6, ALONE: 3e-6, "PyTorch": 1e-3, "JAX": 4e-6, BASELINE: 8e-6})
    lost = timings({OURS: 2e-2, ALONE: 1e-2, "JAX": 1e-2, BASELINE: 4e-2})
    lost["JAX"] = Timing(1e-2, 1e-2, 5, 1.25)
    rows = [Row(parse("silero_step"), won), Row(parse("8,9,7,6"), lost, {"PyTorch": "RuntimeError: no"})]
    return Run(2, [OURS, ALONE, "PyTorch", "JAX", BASELINE], rows)


def test_only_the_peers_that_were_asked_for(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["peers.py", "--peer", BASELINE, "--shape", "1,2,3,4", "--seconds", "0.01"])
    peers.main()
    table = capsys.readouterr().out
    assert f"{BASELINE}, us" in table
    assert "PyTorch" not in table


def test_the_table(run):
    assert markdown(run).splitlines() == [
        "| shape | B,T,I,H[,L[,D]] | lstmkernel, us | PyTorch, us | JAX, us | NumPy, us | best peer "
        "| best peer / lstmkernel | NumPy / lstmkernel | 1 thread / 2 threads | p99 / median | calls |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
        "| silero_step | 1,1,128,128 | 1.00 | 1,000 | 4.00 | 8.00 | JAX | 4.00 | 8.00 | 3.00 | 2.00 | 1,000 |",
        "| 8,9,7,6 | 8,9,7,6 | 20,000 | failed | 10,000 | 40,000 | JAX | **0.50** | 2.00 | **0.50** | 2.00 | 1,000 |",
        "",
        "- Best peer / lstmkernel, geometric mean: 1.41",
        "- Worst row: 8,9,7,6, 0.50 (JAX)",
        "- Each / lstmkernel, geometric mean: lstmkernel, 1 thread 1.22, PyTorch 1000, JAX 1.41, NumPy 4.00",
        "- JAX on 8,9,7,6: off by 1.25 times 1e-05 + 1e-05 |reference|",
        "- PyTorch on 8,9,7,6: not timed: RuntimeError: no",
    ]


def test_the_table_without_a_peer(run):
    rows = [Row(row.shape, {name: row.timings[name] for name in (OURS, BASELINE)}) for row in run.rows]
    text = markdown(Run(1, [OURS, BASELINE], rows))
    assert "| 8,9,7,6 | 8,9,7,6 | 20,000 | 40,000 |  |  | 2.00 | 2.00 | 1,000 |" in text
    assert "Worst" not in text


def test_everything_is_json(run):
    told = json.loads(json.dumps(peers.plain([run], {"JAX": ["jax"]}), allow_nan=False))
    row = told["runs"][0]["rows"][0]
    assert row["seconds"][OURS] == {"median": 1e-6, "p99": 2e-6, "calls": 1000, "error": 0.5}
    assert (row["best_peer"], row["times"]["JAX"], row["times"][ALONE]) == ("JAX", 4, 3)
    assert {"numpy", "torch", "openvino"} < set(told["versions"])


def test_the_picture(run, tmp_path):
    pytest.importorskip("matplotlib")
    import peers_plot

    peers_plot.draw([run], "here, today", str(tmp_path / "peers.png"))
    assert (tmp_path / "peers.png").stat().st_size > 10_000


def test_percentiles():
    times = [float(n) for n in range(1000, 0, -1)]
    assert [percentile(times, percent) for percent in (50, 99, 99.9, 100)] == [500, 990, 999, 1000]
    assert percentile([3.0], 99) == 3


def test_the_first_call_of_a_turn_does_not_count():
    calls = []
    assert len(timed(lambda: calls.append(1), 1e-3)) == len(calls) - 1
    calls.clear()
    assert len(timed(lambda: calls.append(1), 0)) == len(calls) == 1


def test_the_last_cores_for_a_while(monkeypatch):
    given = [{0, 2, 5}]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: given[-1], raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: given.append({*cores}), raising=False)
    with last_cores(2):
        assert given[-1] == {2, 5}
    assert given[-1] == {0, 2, 5}
