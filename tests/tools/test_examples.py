"""examples/train_sunspots.py, and the network of it that comes with the package."""

from __future__ import annotations

import importlib.util
import re
import sys

import numpy as np
import pytest
from helpers import ROOT

import lstmkernel as lk
from lstmkernel.models import SUNSPOTS


@pytest.fixture
def train_sunspots(monkeypatch):
    """The script as a module, and its main() with arguments."""
    pytest.importorskip("statsmodels")
    spec = importlib.util.spec_from_file_location("train_sunspots", ROOT / "examples" / "train_sunspots.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["train_sunspots.py", *arguments])
        module.main()

    module.run = main
    return module


@pytest.mark.slow
def test_the_curves_agree(train_sunspots, capsys, tmp_path):
    pytest.importorskip("torch")
    saved = tmp_path / "net.safetensors"
    train_sunspots.run("--steps", "15", "--hidden-size", "5", "--save", str(saved))
    said = capsys.readouterr().out
    curves = np.array([line.split() for line in said.splitlines() if re.match(r" +\d+ ", line)], float)
    assert curves[:, 0].tolist() == list(range(15))
    assert curves[-1, 1] < curves[0, 1] * 0.9
    assert "largest difference of 15 steps: " in said
    assert lk.load(saved).layers[0].hidden_size == 5


def test_curves_that_differ_are_an_error(train_sunspots, monkeypatch):
    pytest.importorskip("torch")
    backward = lk.LSTM.backward

    def slightly_wrong(self, tape, d_out):
        found = backward(self, tape, d_out)
        return {**found, "weight_hh_l0": found["weight_hh_l0"] + 1e-6}  # Adam would not notice a factor

    monkeypatch.setattr(lk.LSTM, "backward", slightly_wrong)
    with pytest.raises(SystemExit, match="the curves differ by more than"):
        train_sunspots.run("--steps", "15", "--hidden-size", "5")


def test_without_torch(train_sunspots, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    train_sunspots.run("--steps", "3")
    assert "PyTorch is not installed, so there is nothing to compare" in capsys.readouterr().out


def test_the_network_that_comes_along_is_what_the_script_makes(train_sunspots, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    saved = tmp_path / "net.safetensors"
    train_sunspots.run("--save", str(saved))
    made, comes_along = lk.load(saved).state_dict(), lk.load(SUNSPOTS).state_dict()
    assert list(made) == list(comes_along)
    for name, value in made.items():
        np.testing.assert_allclose(comes_along[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_network_that_comes_along_forecasts(train_sunspots):
    """In years that it has not seen, with half the error of the guess that nothing changes."""
    assert SUNSPOTS.stat().st_size < 100_000
    data = train_sunspots.sunspots.load_pandas().data
    years, numbers = data["YEAR"].to_numpy(), data["SUNACTIVITY"].to_numpy()
    forecast = lk.load(SUNSPOTS)(numbers[:-1, None])[0][:, 0]
    unseen = years[1:] > train_sunspots.LAST_YEAR_LEARNED
    error, as_now = (np.abs(guess - numbers[1:])[unseen].mean() for guess in (forecast, numbers[:-1]))
    assert error < 0.55 * as_now
