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
    assert float(row.split("|")[2]) > 0


def test_errors(tmp_path, monkeypatch, capsys):
    net, x = lk.LSTM(3, 40, seed=0), np.random.default_rng(0).standard_normal((50, 3), dtype="float32")
    lk.save(net, tmp_path / "net.safetensors")
    np.save(tmp_path / "x.npy", x)
    files = ["--weights", str(tmp_path / "net.safetensors"), "--input", str(tmp_path / "x.npy")]
    monkeypatch.setattr("sys.argv", ["smaller_weights.py", *files])
    smaller_weights.main()
    wide, narrow = (float(line.split()[2].rstrip(",")) for line in capsys.readouterr().out.splitlines())
    assert 0 < wide < 1e-6 < narrow < 1e-3


def test_one_file_without_the_other(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["smaller_weights.py", "--weights", "a"])
    with pytest.raises(SystemExit):
        smaller_weights.main()
    assert "expected --weights and --input together" in capsys.readouterr().err
