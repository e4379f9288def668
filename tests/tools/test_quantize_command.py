"""``lstmkernel quantize``: the file that it writes, the certificate that it prints, and what it refuses."""

import numpy as np
import pytest
from helpers import assert_same_bits, normal

import lstmkernel as lk
from lstmkernel.cli import main


@pytest.fixture
def net(tmp_path):
    """A file of a network with a head."""
    path = tmp_path / "net.safetensors"
    lk.save(lk.Stack([lk.LSTM(5, 9, seed=0), lk.Dense(9, 2, seed=1)]), path)
    return str(path)


@pytest.fixture
def speech(tmp_path, random):
    """Two files of data, of unequal length."""
    paths = [str(tmp_path / name) for name in ("a.npy", "b.npy")]
    for path, T in zip(paths, (60, 13), strict=True):
        np.save(path, normal(random, (T, 5), "float32"))
    return paths


def quantize(*arguments):
    return main(["quantize", *arguments])


def test_without_data(net, tmp_path, capsys):
    out = str(tmp_path / "small.safetensors")
    assert quantize(net, "-o", out, "--precision", "float16") == 0
    small = lk.load(out)
    assert small.precision == "float16"
    assert small.certificate is None
    assert capsys.readouterr().out == f"{net} -> {out}: {small!r}\n"


def test_with_data(net, speech, tmp_path, capsys):
    """Several files are sequences. What is printed is what the file keeps."""
    out = str(tmp_path / "small.safetensors")
    data = [option for path in speech for option in ("--calibrate", path)]
    assert quantize(net, "-o", out, "--precision", "float16", *data, "--max-error", "1e-2") == 0
    small, expected = lk.load(out), lk.load(net).quantize("float16", calibrate=[np.load(path) for path in speech])
    x = np.load(speech[0])
    assert_same_bits(small(x)[0], expected(x)[0])
    assert small.certificate == expected.certificate
    printed = capsys.readouterr().out
    assert f"{small.certificate.rows} sequences, 73 steps, digest {small.certificate.data}" in printed
    assert f"{small.certificate.out.rms:.2e}" in printed
    assert f"{small.certificate.out.largest:.2e}" in printed


def test_int8(net, speech, tmp_path, monkeypatch, capsys):
    """What is given to ``save``, whatever that can write."""
    saved = []
    monkeypatch.setattr("lstmkernel.formats.save", lambda small, path: saved.append(small))
    how = ["--precision", "int8", "--activations", "int8", "--calibrate", speech[0]]
    assert quantize(net, "-o", str(tmp_path / "small.safetensors"), *how) == 0
    (small,) = saved
    expected = lk.load(net).quantize("int8", "int8", calibrate=[np.load(speech[0])])
    assert small.certificate == expected.certificate
    assert "layers[0], layer 0 (int8, int8 activations)" in capsys.readouterr().out


def test_the_fewest_bits(net, speech, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr("lstmkernel.formats.save", lambda small, path: saved.append(small))
    for more in ([], ["--precision", "auto"]):
        for bound, precision in (("1", "int8"), ("1e-4", "float16"), ("1e-6", "float32")):
            how = ["--calibrate", speech[0], "--max-error", bound, *more]
            assert quantize(net, "-o", str(tmp_path / "small.safetensors"), *how) == 0
            assert saved.pop().precision == precision


def test_the_fewest_bits_of_each_layer(speech, tmp_path, capsys):
    lstm, source, out = (
        lk.LSTM(5, 12, 2, seed=0),
        str(tmp_path / "lstm.safetensors"),
        str(tmp_path / "small.safetensors"),
    )
    lk.save(lstm, source)
    data = [np.load(speech[0])]
    bound = 0.9 * lstm.quantize("int8", calibrate=data).certificate.out.largest
    assert quantize(source, "-o", out, "--calibrate", speech[0], "--max-error", str(bound)) == 0
    small, expected = lk.load(out), lstm.quantize(weights="auto", max_error=bound, calibrate=data)
    assert small.precision == expected.precision == "float16, int8"
    assert (repr(small), small.certificate) == (repr(expected), expected.certificate)
    assert_same_bits(small(data[0])[0], expected(data[0])[0])
    printed = " ".join(capsys.readouterr().out.split())
    assert "quantize(by layer: 'float16'; 'int8', activations=" in printed
    assert "layer 0 (float16)" in printed
    assert "layer 1 (int8, int" in printed


def test_an_lstm_of_pytorch(tmp_path, speech, capsys):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.LSTM(5, 9).double().state_dict(), tmp_path / "model.pt")
    out = str(tmp_path / "small.safetensors")
    assert quantize(str(tmp_path / "model.pt"), "-o", out, "--precision", "float16", "--calibrate", speech[0]) == 0
    assert lk.load(out).precision == "float16"


def test_rows_first(tmp_path, random, capsys):
    source, out, x = (str(tmp_path / name) for name in ("net.safetensors", "small.safetensors", "x.npy"))
    lk.save(lk.LSTM(5, 9, seed=0), source)
    np.save(x, normal(random, (3, 20, 5), "float32"))
    how = ["--precision", "float16", "--calibrate", x]
    assert quantize(source, "-o", out, "--batch-first", *how) == 0
    assert "3 sequences, 60 steps" in capsys.readouterr().out
    assert lk.load(out).batch_first


def test_a_bound_that_is_not_kept_writes_nothing(net, speech, tmp_path, capsys):
    out = tmp_path / "small.safetensors"
    how = ["--precision", "float16", "--calibrate", speech[0], "--max-error", "1e-9"]
    assert quantize(net, "-o", str(out), *how) == 2
    assert not out.exists()
    assert "max_error: expected an error of out of at most 1e-09, got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--precision: expected float16 or int8, or --max-error and --calibrate, which choose it"),
        (["--precision", "auto"], "--precision auto: needs --max-error and --calibrate"),
        (["--max-error", "1"], "--max-error: needs --calibrate"),
        (["--precision", "int8", "--max-error", "1"], "--max-error: needs --calibrate"),
        (["--precision", "float16", "--activations", "int8"], "activations: expected None with 'float16'"),
        (["--calibrate", "A", "--max-error", "1", "--activations", "int8"], "--activations: not with --precision auto"),
        (["--precision", "int8", "--calibrate", "NONE"], "NONE: No such file"),
        (["--precision", "int8", "--calibrate", "WIDE"], "expected shape (T, 5) or (T, B, 5), got (20, 6)"),
        (["--precision", "int8", "--calibrate", "NAN"], "calibrate[0]: expected finite numbers, got nan at [2, 1]"),
    ],
)
def test_refused(net, speech, tmp_path, capsys, arguments, message):
    wide, odd = str(tmp_path / "wide.npy"), str(tmp_path / "odd.npy")
    np.save(wide, np.zeros((20, 6)))
    np.save(odd, np.where(np.arange(100).reshape(20, 5) == 11, np.nan, 0))
    places = {"A": speech[0], "WIDE": wide, "NAN": odd}
    out = tmp_path / "small.safetensors"
    assert quantize(net, "-o", str(out), *(places.get(argument, argument) for argument in arguments)) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_suffix_that_is_not_written(net, capsys):
    assert quantize(net, "-o", "small.pt", "--precision", "float16") == 2
    assert "small.pt: expected a suffix of .safetensors, .onnx, got .pt" in capsys.readouterr().err
