"""lstmkernel convert: what it writes, and what it says that it cannot; the formats that help texts name."""

from __future__ import annotations

import re

import pytest

import lstmkernel as lk
from lstmkernel import formats
from lstmkernel.cli import main, options


def test_the_formats_that_help_names_are_those_that_load():
    named = set(re.findall(r"\.\w+", options.WEIGHTS))
    known = {suffix for each in formats.formats() for suffix in each.SUFFIXES}
    assert named <= known
    assert {".pt", ".onnx", ".nam"} <= named


def test_convert_says_what_it_cannot_write_before_it_loads(tmp_path, capsys):
    assert main(["convert", str(tmp_path / "not there.pt"), str(tmp_path / "x.nam")]) == 2
    error = capsys.readouterr().err
    assert "x.nam: expected a suffix of .safetensors, .onnx, got .nam; no other format is written" in error


def test_convert_both_ways_and_without_inputs_for_states(tmp_path):
    onnx = pytest.importorskip("onnx")
    net, model = str(tmp_path / "net"), str(tmp_path / "net.onnx")
    lk.save(lk.LSTM(1, 2, seed=0), net)
    assert main(["convert", net, net, "--batch-first"]) == 0
    assert lk.load(net).batch_first
    for more, inputs in ([], ["x", "h_0", "c_0"]), (["--no-state-inputs"], ["x"]):
        assert main(["convert", net, model, *more]) == 0
        assert [info.name for info in onnx.load(model).graph.input] == inputs
    assert main(["convert", model, str(tmp_path / "out")]) == 0  # without a suffix
    assert lk.inspect(tmp_path / "out").format == "safetensors"
