"""smaller_weights.py: a table of times, and the errors of a file's network."""

import numpy as np
import pytest
import smaller_weights

import lstmkernel as lk


def test_the_table(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["smaller_weights.py", "--shape", "1,2,3,4", "--seconds", "0"])
    smaller_weights.main()
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| 1,2,3,4 | ")
    assert all(float(cell) > 0 for cell in row.split("|")[2:-1])
    assert len(row.split("|")) == 3 + len(smaller_weights.PRECISIONS)


def test_errors(tmp_path, monkeypatch, capsys):
    net, x = lk.LSTM(3, 40, seed=0), np.random.default_rng(0).standard_normal((50, 3), dtype="float32")
    lk.save(net, tmp_path / "net.safetensors")
    np.save(tmp_path / "x.npy", x)
    files = ["--weights", str(tmp_path / "net.safetensors"), "--input", str(tmp_path / "x.npy")]
    monkeypatch.setattr("sys.argv", ["smaller_weights.py", *files])
    smaller_weights.main()
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1].strip() for row in rows[4:]] == [f"{row[1].strip()}, fitted to the first half" for row in rows[2:4]]
    wide, half, byte, fast, fitted, _ = (float(row[2]) for row in rows)
    assert 0 < wide < 1e-6 < half < 1e-3
    assert half < byte < fast < 1e-1
    assert fitted < byte
    assert all(float(row[2]) < float(row[3]) for row in rows)
    assert all(0 < float(row[4]) < 10 for row in rows)


def test_one_file_without_the_other(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["smaller_weights.py", "--weights", "a"])
    with pytest.raises(SystemExit):
        smaller_weights.main()
    assert "expected --weights and --input together" in capsys.readouterr().err
