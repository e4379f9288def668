"""``lstmkernel info FILE`` and ``lstmkernel convert``: what is in a file, and the network of one in another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same_bits, refused
from safetensors.numpy import save_file

import lstmkernel as lk
from lstmkernel.cli import main


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """What another program wrote: an LSTM 3 -> 4 and a Linear 4 -> 2 under "net", beside a table that is neither."""
    lstm, head = lk.LSTM(3, 4, seed=1).state_dict(), lk.Dense(4, 2, seed=1).state_dict()
    tensors = {f"net.0.{name}": value for name, value in lstm.items()}
    tensors |= {f"net.1.{name}": value for name, value in head.items()}
    save_file({**tensors, "table": np.ones((2, 3), "int16")}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


# ---------------------------------------------------------------- info


def test_info_of_a_file_lists_networks_and_tensors(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"{model}: safetensors, 7 tensors"
    assert "LSTM 3 -> 4, then Linear 4 -> 2 --prefix net" in lines
    assert "LSTM 3 -> 4 --prefix net.0" in lines
    assert "net.0.weight_hh_l0 (16, 4) float32" in lines
    assert "table (2, 3) int16" in lines
    untold = "batch_first (load takes False: x is (T, B, I)), nor the activation behind a Linear (load takes none)"
    assert f"the file does not say {untold}" in lines


def test_every_network_that_info_lists_loads(model: Path) -> None:
    found = lk.inspect(model)
    assert [network.prefix for network in found.networks] == ["net", "net.0", "net.1"]
    with pytest.warns(RuntimeWarning, match="taken for a chain"):
        assert repr(lk.load(model, prefix="net")).startswith("Stack([LSTM(3, 4")
    assert repr(lk.load(model, prefix="net.0")).startswith("LSTM(3, 4")
    assert repr(lk.load(model, prefix="net.1")).startswith("Dense(4, 2")


def test_info_of_a_file_as_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == "safetensors"
    assert {"name": "table", "shape": [2, 3], "dtype": "int16"} in found["tensors"]
    assert {"prefix": "net.0", "description": "LSTM 3 -> 4"} in found["networks"]


def test_info_says_where_there_is_no_lstm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"table": np.ones(3, "f")}, tmp_path / "table.safetensors")
    assert main(["info", str(tmp_path / "table.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "Nothing that can be loaded" in said
    assert "does not say" not in said


def test_names_from_a_file_do_not_reach_the_terminal_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither colours and titles, nor the console's own markup, nor a megabyte."""
    path = tmp_path / "odd.safetensors"
    save_file({"\x1b]0;title\x07": np.ones(1, "f"), "[red]a[/]": np.ones(1, "f"), "b" * 9999: np.ones(1, "f")}, path)
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\\x1b]0;title\\x07" in out
    assert "[red]a[/]" in out
    assert not {"\x1b", "\x07"} & set(out)
    assert len(out) < 5000
    assert "\\x1b" in refused(capsys, "convert", str(path), str(tmp_path / "out.safetensors"))


# ---------------------------------------------------------------- convert


def test_convert_keeps_every_weight(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.safetensors"
    assert main(["convert", str(model), str(target), "--prefix", "net.0", "--prefix", "net.1"]) == 0
    assert f"{model} -> {target}: Stack([LSTM(3, 4" in capsys.readouterr().out
    x = np.random.default_rng(0).standard_normal((5, 2, 3), "float32")
    assert_same_bits(lk.load(target)(x)[0], lk.load(model, prefix=["net.0", "net.1"])(x)[0])


def test_convert_to_another_dtype(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    assert main(["convert", str(model), str(target), "--prefix", "net.0", "--dtype", "float64"]) == 0
    assert lk.load(target).dtype == np.float64


def test_convert_from_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(3, 4)
    torch.save({"epoch": 1, "state_dict": module.state_dict()}, tmp_path / "checkpoint.pt")
    source, target = str(tmp_path / "checkpoint.pt"), str(tmp_path / "lstm.safetensors")
    assert main(["convert", source, target, "--prefix", "state_dict"]) == 0
    for name, value in lk.load(target).state_dict().items():
        assert_same_bits(value, module.state_dict()[name].numpy(), name)


def test_convert_refuses_and_writes_nothing(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.json").write_text("[1, 2")
    target = str(tmp_path / "out.safetensors")
    cases = {
        (str(model), target): "choose with prefix=",
        (str(model), target, "--prefix", "nothing"): "'nothing.': no such names",
        (str(model), str(tmp_path / "out.pt"), "--prefix", "net.0"): r"out.pt: expected a suffix of .safetensors",
        (str(tmp_path / "text.json"), target): "text.json",
        (str(tmp_path / "nowhere"), target): "nowhere: no such file",
    }
    for arguments, message in cases.items():
        assert message in refused(capsys, "convert", *arguments)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "text.json"}
