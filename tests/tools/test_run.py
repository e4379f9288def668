"""``lstmkernel run`` over arrays: what the library computes, in blocks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_same_bits, refused

import lstmkernel as lk
from lstmkernel.cli import main
from lstmkernel.models import SUNSPOTS
from lstmkernel.workbench.blockwise import cut, grid
from lstmkernel.workbench.blockwise.cut import Grid
from lstmkernel.workbench.blockwise.grid import Job

NETS: dict[str, Callable[[], Any]] = {
    "plain": lambda: lk.LSTM(3, 5, seed=0),
    "bidirectional": lambda: lk.LSTM(3, 5, 2, bidirectional=True, seed=0),
    "reverse": lambda: lk.LSTM(3, 5, reverse=True, seed=0),
    "batch_first": lambda: lk.LSTM(3, 5, 2, batch_first=True, proj_size=2, seed=0),
    "float64": lambda: lk.LSTM(3, 5, dtype="float64", seed=0),
    "stack": lambda: lk.Stack([lk.LSTM(3, 5, seed=0), lk.LSTM(5, 4, seed=1), lk.Dense(4, 2, seed=2)]),
}
every_net = pytest.mark.parametrize("net", NETS)


def saved(folder: Path, net: str) -> tuple[Any, str]:
    """A network, and its file."""
    model, path = NETS[net](), str(folder / "net.safetensors")
    lk.save(model, path)
    return model, path


def assert_states(path: Path, states: Any) -> None:
    """The file holds h and c of each LSTM, by their names."""
    pairs = states if isinstance(states[0], tuple) else [states]
    places = [f"_{number}" for number in range(len(pairs))] if len(pairs) > 1 else [""]
    with np.load(path) as found:
        assert set(found) == {f"{name}_n{place}" for place in places for name in "hc"}
        for (h, c), place in zip(pairs, places, strict=True):
            assert_same_bits(found[f"h_n{place}"], h)
            assert_same_bits(found[f"c_n{place}"], c)


# ---------------------------------------------------------------- what is computed


def test_run_writes_what_the_library_computes(capsys, tmp_path, weights, save, backend):
    path, x = save(2500, 2, 3)  # longer than a block
    output, state = tmp_path / "out.npy", tmp_path / "state.npz"
    arguments = ["run", "--weights", weights, path, "-o", str(output), "--state-out", str(state)]
    assert main([*arguments, "--backend", backend]) == 0
    out, (h_n, c_n) = lk.load(weights, backend=backend)(x)
    if backend != "numpy":
        np.testing.assert_array_equal(np.load(output), out)
    np.testing.assert_allclose(np.load(output), out, atol=1e-6)
    with np.load(state) as states:
        np.testing.assert_allclose(states["h_n"], h_n, atol=1e-6)
        np.testing.assert_allclose(states["c_n"], c_n, atol=1e-6)
    said = capsys.readouterr().out
    assert "(2500, 2, 5) float32" in said
    assert f"{backend}: " in said
    assert " steps/s" in said
    assert sorted(os.listdir(tmp_path)) == ["out.npy", "state.npz", "weights.safetensors", "x.npy"]


@every_net
@pytest.mark.parametrize("shape", [(1300, 3), (70, 9, 3), (9, 70, 3), (0, 3), (0, 2, 3), (2, 0, 3)])
def test_run_takes_every_network(tmp_path, save, small_blocks, net, shape):
    model, weights = saved(tmp_path, net)
    path, x = save(*shape)
    state, output = tmp_path / "state.npz", tmp_path / "out.npy"
    assert main(["run", "--weights", weights, path, "-o", str(output), "--state-out", str(state)]) == 0
    out, states = model(x)
    assert_same_bits(np.load(output), out)
    assert_states(state, states)


@every_net
@pytest.mark.parametrize("with_lengths", [False, True])
def test_run_with_lengths_and_last(tmp_path, save, small_blocks, random, net, with_lengths):
    model, weights = saved(tmp_path, net)
    path, x = save(70, 9, 3)
    B, T = (70, 9) if model.batch_first else (9, 70)
    lengths = random.integers(0, T + 1, B)
    lengths[1:3] = 0, T
    np.save(tmp_path / "lengths.npy", lengths.astype("uint16"))
    given = ["--lengths", str(tmp_path / "lengths.npy")] if with_lengths else []
    out, states = model(x, lengths=lengths if with_lengths else None)
    state, output, last = (tmp_path / name for name in ("state.npz", "out.npz", "last.npy"))
    run = ["run", "--weights", weights, path, *given]
    assert main([*run, "-o", str(output), "--state-out", str(state)]) == 0
    assert_same_bits(np.load(output)["out"], out)
    assert_states(state, states)
    assert main([*run, "-o", str(last), "--last", "--state-out", str(state)]) == 0
    assert_states(state, states)
    by_row = out if model.batch_first else out.swapaxes(0, 1)
    ends = lengths if with_lengths else np.full(B, T)
    expected = np.where(ends[:, None] > 0, by_row[np.arange(B), ends - 1], 0).astype(out.dtype)
    assert_same_bits(np.load(last), expected)
    assert main([*run, "-o", str(last), "--last"]) == 0
    assert_same_bits(np.load(last), expected)


@pytest.mark.parametrize("T", [70, 0])
def test_run_last_of_one_row(tmp_path, weights, save, small_blocks, T):
    path, x = save(T, 3)
    assert main(["run", "--weights", weights, path, "-o", str(tmp_path / "last.npy"), "--last"]) == 0
    out, _ = lk.load(weights)(x)
    assert_same_bits(np.load(tmp_path / "last.npy"), out[-1] if T else np.zeros(5, "f"))


def test_blocks_of_blocks(small_blocks):
    """Every step of every row is read once, in blocks that are small, and each is told of."""
    net, of = lk.LSTM(3, 5, seed=0), Grid(70, 9, True, False)
    job = Job(net, of, cut.cut(net, of, 4, 1e9))
    assert 1 < job.cut.rows < 9
    assert 1 < job.cut.times < 70
    x = np.random.default_rng(0).standard_normal((70, 9, 3), np.float32)

    class Memory:
        def __init__(self, array: Any) -> None:
            self.array, self.touched = array, np.zeros(array.shape[:2], int)

        def read(self, index: Any) -> Any:
            self.touched[index] += 1
            return self.array[index]

        def write(self, index: Any, block: Any) -> None:
            self.touched[index] += 1
            self.array[index] = block

    source, out = Memory(x), Memory(np.zeros((70, 9, 5), "f"))
    told: list[int] = []
    grid.run(job, source, out, [], told.append)
    assert (source.touched == 1).all()
    assert (out.touched == 1).all()
    assert sum(told) == 70 * 9
    assert max(told) * cut.bytes_a_step(net, 4) <= 1000
    assert_same_bits(out.array, net(x)[0])


def test_run_takes_a_saved_cell(tmp_path, save):
    cell = lk.LSTMCell(3, 5, seed=0)
    lk.save(cell, str(tmp_path / "cell"))
    path, x = save(4, 3)
    assert main(["run", "--weights", str(tmp_path / "cell"), path, "-o", str(tmp_path / "out.npy")]) == 0
    state = None
    for x_t, out_t in zip(x, np.load(tmp_path / "out.npy"), strict=True):
        state = cell(x_t, state)
        np.testing.assert_array_equal(out_t, state[0])


def test_run_without_weights_takes_the_network_that_comes_along(capsys, tmp_path, save):
    path, x = save(300, 1)
    output = tmp_path / "out.npy"
    assert main(["run", path, "-o", str(output)]) == 0
    np.testing.assert_array_equal(np.load(output), lk.load(SUNSPOTS)(x)[0])
    assert "which forecasts yearly sunspot numbers; --weights gives another" in capsys.readouterr().out
    features, _ = save(4, 40)
    assert "without --weights the network is the one" in refused(capsys, "run", features, "-o", str(output))
    (tmp_path / "sound.wav").write_bytes(b"RIFF")
    assert "sound needs --weights" in refused(capsys, "run", str(tmp_path / "sound.wav"), "-o", str(output))


def test_run_converts_to_the_dtype_asked_for(tmp_path, weights, save):
    path, x = save(4, 3)
    assert main(["run", "--weights", weights, path, "-o", str(tmp_path / "out.npy"), "--dtype", "float64"]) == 0
    out, _ = lk.load(weights, dtype="float64")(x)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), out, strict=True)


def test_run_on_real_speech(tmp_path, data, capsys):
    silero = data / "silero"
    features, output = silero / "speech_features.npy", tmp_path / "hidden.npy"
    weights = str(silero / "silero_vad_16k.safetensors")
    assert main(["run", "--weights", weights, "--prefix", "lstm_cell", str(features), "-o", str(output)]) == 0
    assert "(1874, 128)" in capsys.readouterr().out
    reference, _ = lk.load(weights, prefix="lstm_cell", dtype="float64", backend="numpy")(np.load(features))
    np.testing.assert_allclose(np.load(output), reference, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- how the input is read


@pytest.mark.parametrize("given", [[], ["--batch-first"], ["--no-batch-first"]])
@pytest.mark.parametrize("saved_so", [False, True])
def test_run_says_how_it_reads_its_input(capsys, tmp_path, save, given, saved_so):
    weights = str(tmp_path / "net.safetensors")
    lk.save(lk.LSTM(3, 5, seed=0, batch_first=saved_so), weights)
    path, x = save(4, 7, 3)
    assert main(["run", "--weights", weights, path, "-o", str(tmp_path / "out.npy"), *given]) == 0
    rows_first = given == ["--batch-first"] if given else saved_so
    said = capsys.readouterr().out.splitlines()[0]
    T, B = (7, 4) if rows_first else (4, 7)
    assert f"{path} (4, 7, 3) float32: T = {T} steps x B = {B} rows of I = 3 numbers" in said
    assert ("rows first" in said) == rows_first
    assert ("--no-batch-first" in said) == (not given and saved_so)
    assert ("; if rows come first: --batch-first" in said) == (not given and not saved_so)
    assert_same_bits(np.load(tmp_path / "out.npy"), lk.load(weights, batch_first=rows_first)(x)[0])


def test_run_says_so_of_one_row(capsys, tmp_path, weights, save):
    path, _ = save(4, 3)
    assert main(["run", "--weights", weights, path, "-o", str(tmp_path / "out.npy")]) == 0
    assert f"{path} (4, 3) float32: T = 4 steps of I = 3 numbers\n" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "float16", "int8", "uint16", ">i4", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_run_reads_every_real_dtype_and_order(tmp_path, weights, random, small_blocks, dtype, order):
    x = (random.standard_normal((70, 9, 3)) * 3).astype(dtype)
    np.save(tmp_path / "x.npy", np.asarray(x, order=order))
    assert main(["run", "--weights", weights, str(tmp_path / "x.npy"), "-o", str(tmp_path / "out.npy")]) == 0
    assert_same_bits(np.load(tmp_path / "out.npy"), lk.load(weights)(x)[0])


def test_run_reads_numbers_without_a_header(tmp_path, weights, save, capsys):
    _, x = save(70, 9, 3)
    x.tofile(tmp_path / "x.dat")
    run = ["run", "--weights", weights, str(tmp_path / "x.dat"), "-o", str(tmp_path / "out.npy")]
    assert "for numbers without a header, say --raw" in refused(capsys, *run)
    np.savetxt(tmp_path / "x.csv", x[0], delimiter=",")
    assert "numpy.loadtxt('x.csv', delimiter=',', ndmin=2)" in refused(
        capsys, "run", "--weights", weights, str(tmp_path / "x.csv"), "-o", str(tmp_path / "out.npy")
    )
    assert "expected 7200 bytes for float32 (600, 3), got 7560" in refused(capsys, *run, "--raw", "float32,600,3")
    for wrong in ("float32", "text,3", "float32,a,3", "float32,-1,3", "complex64,3,3"):
        with pytest.raises(SystemExit):
            main([*run, "--raw", wrong])
        assert "expected a dtype and sizes" in capsys.readouterr().err
    assert main([*run, "--raw", "float32,70,9,3"]) == 0
    assert_same_bits(np.load(tmp_path / "out.npy"), lk.load(weights)(x)[0])


@pytest.mark.parametrize("packed", [np.savez, np.savez_compressed])
def test_run_reads_one_array_of_an_npz(tmp_path, weights, save, capsys, packed):
    _, x = save(70, 9, 3)
    packed(tmp_path / "x.npz", x=x, length=np.ones(9))
    run = ["run", "--weights", weights, str(tmp_path / "x.npz"), "-o", str(tmp_path / "out.npy")]
    assert "it holds several arrays; choose with --array: x, length" in refused(capsys, *run)
    assert "no array 'y'; it holds x, length" in refused(capsys, *run, "--array", "y")
    assert main([*run, "--array", "x"]) == 0
    assert_same_bits(np.load(tmp_path / "out.npy"), lk.load(weights)(x)[0])
    packed(tmp_path / "x.npz", x)
    assert main(run) == 0
    assert sorted(os.listdir(tmp_path)) == ["out.npy", "weights.safetensors", "x.npy", "x.npz"]


def test_run_may_replace_its_input(tmp_path, weights, save, small_blocks):
    path, x = save(70, 9, 3)
    assert main(["run", "--weights", weights, path, "-o", path]) == 0
    assert_same_bits(np.load(path), lk.load(weights)(x)[0])


# ---------------------------------------------------------------- ragged


@every_net
@pytest.mark.parametrize("lengths", [(4, 0, 60, 1, 7, 0), (), (0,), (200,)])
def test_run_over_ragged_rows(capsys, tmp_path, random, small_blocks, net, lengths):
    """Small blocks divide the long rows, where no layer runs backwards."""
    model, weights = saved(tmp_path, net)
    offsets = np.cumsum([0, *lengths])
    x = random.standard_normal((sum(lengths), 3), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "offsets.npz", offsets)
    run = ["run", "--weights", weights, str(tmp_path / "x.npy"), "--ragged", "--offsets", str(tmp_path / "offsets.npz")]
    output, state = tmp_path / "out.npy", tmp_path / "state.npz"
    assert main([*run, "-o", str(output), "--state-out", str(state)]) == 0
    assert f"N = {len(x)} steps of I = 3 numbers, in B = {len(lengths)} rows" in capsys.readouterr().out
    out, states = model.ragged(x, offsets)
    assert_same_bits(np.load(output), out)
    assert_states(state, states)
    assert main([*run, "-o", str(output), "--last"]) == 0
    ends = offsets[1:][np.diff(offsets) > 0] - 1
    expected = np.zeros((len(lengths), model.out_features), model.dtype)
    expected[np.diff(offsets) > 0] = out[ends]
    assert_same_bits(np.load(output), expected)


@pytest.mark.parametrize(
    "offsets", [[], [1, 20], [0, 19], [0, 21], [0, 5, 4, 20], [0.0, 20.0]], ids=lambda offsets: str(offsets)
)
def test_run_refuses_offsets(capsys, tmp_path, weights, save, offsets):
    path, _ = save(20, 3)
    np.save(tmp_path / "offsets.npy", np.array(offsets, int if offsets != [0.0, 20.0] else float))
    run = ["run", "--weights", weights, "--ragged", "-o", str(tmp_path / "out.npy"), "--offsets"]
    said = refused(capsys, *run, str(tmp_path / "offsets.npy"), path)
    assert "offsets.npy: expected offsets" in said
    assert ("x[offsets[0]:offsets[-1]]" in said) == (offsets in ([1, 20], [0, 19]))  # else they may be lengths
    path, _ = save(20, 2, 3)
    np.save(tmp_path / "offsets.npy", [0, 20])
    assert "the steps of all rows one after the other" in refused(capsys, *run, str(tmp_path / "offsets.npy"), path)
