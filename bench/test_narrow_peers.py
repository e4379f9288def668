"""peers.py --precision: every contender is near float32, and the table, JSON and picture have what was found."""

import json

import narrow_peers
import numpy as np
import peers
import pytest
from contender_process import Process, write
from narrow_contenders import FLOAT16, INT8, INT8_FAST, NARROW, NARROW_PEERS, OURS
from narrow_peers import Found, markdown, ratios

import lstmkernel as lk
from lstmkernel.workbench.shapes import parse


@pytest.mark.parametrize("contender", [name for name in NARROW if name in (INT8, INT8_FAST, FLOAT16, *NARROW_PEERS)])
def test_a_contender_is_near_float32_and_not_it(contender):
    if missing := NARROW[contender].missing():
        pytest.skip(f"not installed: {', '.join(missing)}")
    lstm = lk.LSTM(5, 24, 2, bidirectional=True, seed=0)
    x = np.random.default_rng(1).standard_normal((6, 3, 5), dtype="float32")
    difference = np.abs(NARROW[contender].prepare(lstm, x, 1)() - lstm(x)[0])
    assert 1e-7 < difference.max() < 0.05


def test_the_table_json_and_picture(tmp_path, monkeypatch, capsys):
    net = lk.Stack([lk.LSTM(3, 8, seed=0), lk.Dense(8, 1, seed=0)])
    lk.save(net, tmp_path / "net.safetensors")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((7, 3), dtype="float32"))
    files = ["--weights", str(tmp_path / "net.safetensors"), "--input", str(tmp_path / "x.npy")]
    to = ["--json", str(tmp_path / "found.json"), "--plot", str(tmp_path / "found.png")]
    monkeypatch.setattr("sys.argv", ["peers.py", "--precision", "--shape", "1,3,4,8", "--seconds", "0", *files, *to])
    peers.main()
    said = capsys.readouterr().out
    assert f"best peer / {INT8}" in said
    found = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert list(found) == ["net", "1,3,4,8"]
    for row in found.values():
        assert row[OURS]["rms"] < 1e-6 < row[FLOAT16]["rms"] < row[INT8]["rms"]
    assert (tmp_path / "found.png").stat().st_size > 10_000


def test_one_file_without_the_other(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["peers.py", "--precision", "--weights", "a"])
    with pytest.raises(SystemExit):
        peers.main()
    assert "expected --weights and --input together" in capsys.readouterr().err


def test_ratios():
    rows = {
        "a": {INT8: Found(1, 0.1, 1), "ONNX Runtime int8": Found(3, 0.1, 1), "PyTorch int8": Found(2, 0.1, 1)},
        "b": {INT8: Found(4, 0.1, 1), "PyTorch int8": Found(2, 0.1, 1)},
        "c": {INT8: Found(1, 0.1, 1)},
    }
    assert ratios(rows, INT8, NARROW_PEERS) == {"a": 2, "b": 0.5}
    last = markdown(rows).splitlines()[-1]
    assert last.startswith("| geometric mean | 1.00 |")
    assert "**0.50**" in markdown(rows)


def test_a_contender_that_dies_is_left_out(tmp_path, capsys):
    case = write(parse("1,3,2,4"), str(tmp_path), lambda lstm, x: lstm(x)[0])
    processes = {name: Process(name, 1) for name in (OURS, FLOAT16, INT8)}
    processes[INT8]._process.kill()
    processes[INT8]._process.wait()
    time = processes[FLOAT16].time
    processes[FLOAT16].time = lambda seconds: processes[FLOAT16]._process.kill() or time(seconds)
    assert list(narrow_peers.measure(case, processes, 0.0)) == [OURS]
    assert capsys.readouterr().out.count("left out") == 2
    for process in processes.values():
        process.close()
