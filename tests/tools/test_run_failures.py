"""``lstmkernel run`` over arrays: what it refuses, how much memory it takes, and what is left where it fails."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from helpers import refused, run_python

import lstmkernel as lk
from lstmkernel.cli import main
from lstmkernel.workbench.blockwise import arrays

# ---------------------------------------------------------------- memory


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the most memory of a process is told on Linux")
def test_run_of_a_large_file_takes_little_memory(tmp_path):
    """Of 400 MB; it is sparse on disk."""
    lk.save(lk.LSTM(128, 1, seed=0), tmp_path / "net.safetensors")
    with open(tmp_path / "x.npy", "wb") as file:
        stored = arrays.new(file, (400, 2000, 128), np.dtype("f"))
        file.truncate(file.tell() + stored.nbytes)
    run_python(
        "import re, sys\n"
        "from lstmkernel.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "most = re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())\n"
        "assert int(most[1]) < 150_000, most[0]",
        *("run", "--weights", str(tmp_path / "net.safetensors"), str(tmp_path / "x.npy")),
        *("-o", str(tmp_path / "out.npy")),
    )
    assert np.load(tmp_path / "out.npy", mmap_mode="r").shape == (400, 2000, 1)


def test_a_row_that_must_be_whole_needs_a_word(tmp_path, capsys):
    """The way out that the message names is enough."""
    weights = str(tmp_path / "net.safetensors")
    lk.save(lk.LSTM(3, 5, 2, bidirectional=True, seed=0), weights)
    np.save(tmp_path / "x.npy", np.zeros((300_000, 3), "f"))
    run = ["run", "--weights", weights, str(tmp_path / "x.npy"), "-o", str(tmp_path / "out.npy")]
    said = refused(capsys, *run, "--memory", "0.3")
    assert "a layer runs backwards, so each row is taken whole, and 300000 steps need about " in said
    enough = said.partition("--memory ")[2].split(",")[0]
    assert main([*run, "--memory", enough]) == 0
    with pytest.raises(SystemExit):
        main([*run, "--memory", "none"])
    assert "expected gigabytes" in capsys.readouterr().err


# ---------------------------------------------------------------- refused


def test_run_refuses_with_one_line_that_says_what_was_expected(capsys, tmp_path, weights, save):
    path, _ = save(4, 3)
    output = str(tmp_path / "out.npy")

    def refusal(input_: str = path, weights: str = weights, output: str = output, *options: str) -> str:
        return refused(capsys, "run", "--weights", weights, input_, "-o", output, *options)

    np.save(tmp_path / "narrow.npy", np.zeros((4, 2)))
    np.save(tmp_path / "number.npy", np.float32(1))
    np.save(tmp_path / "complex.npy", np.zeros((4, 3), complex))
    np.save(tmp_path / "object.npy", np.array([[None] * 3]), allow_pickle=True)
    np.savez(tmp_path / "none.npz")
    (tmp_path / "empty.npy").touch()
    (tmp_path / "zip.npy").write_bytes(b"PK\3\4" + bytes(100))
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 56}, 3)}}"
    for name, text in {"huge": header, "deep": "(" * 5000}.items():
        packed = len(text).to_bytes(2, "little") + text.encode()
        (tmp_path / f"{name}.npy").write_bytes(b"\x93NUMPY\1\0" + packed + bytes(24))
    lk.save(lk.Dense(3, 5), str(tmp_path / "dense"))

    assert "missing.npy: No such file" in refusal(str(tmp_path / "missing.npy"))
    assert "missing: no such file" in refusal(weights=str(tmp_path / "missing"))
    (tmp_path / "amp.nam").write_text("{}")
    assert "; a network goes behind --weights" in refusal(str(tmp_path / "amp.nam"))
    assert "safetensors" in refusal(weights=path)
    assert "expected an LSTM, got Dense" in refusal(weights=str(tmp_path / "dense"))
    assert "expected shape (T, 3) or (T, B, 3), got (4, 2)" in refusal(str(tmp_path / "narrow.npy"))
    assert "got ()" in refusal(str(tmp_path / "number.npy"))
    assert "complex128" in refusal(str(tmp_path / "complex.npy"))
    assert "expected an array" in refusal(str(tmp_path / "object.npy"))
    assert "expected an array" in refusal(str(tmp_path / "empty.npy"))
    for name in ("zip", "huge", "deep"):
        assert f"{name}.npy: expected an array" in refusal(str(tmp_path / f"{name}.npy"))
    assert "it holds none" in refusal(str(tmp_path / "none.npz"))
    assert "encoder" in refusal(path, weights, output, "--prefix", "encoder")
    assert refusal(path, weights, output, "--backend", "fortran").startswith("lstmkernel: error: unknown backend")
    assert "nowhere/out.npy: No such file" in refusal(output=str(tmp_path / "nowhere" / "out.npy"))
    (tmp_path / "folder.npy").mkdir()
    assert "is a directory" in refusal(output=str(tmp_path / "folder.npy"))
    assert not [name for name in os.listdir(tmp_path) if name.startswith("out")]


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ("amp.nam in.wav", "amp.nam in.wav -o OUTPUT"),
        ("amp.nam in.wav -o out.wav", "amp.nam in.wav -o out.wav"),
        ("amp.nam -o out.wav in.wav", "amp.nam in.wav -o out.wav"),
        ("amp.nam in.wav out.wav", "amp.nam in.wav -o out.wav"),
        ("in.wav amp.nam -o out.wav", "amp.nam in.wav -o out.wav"),
        ("--last --backend c x.npy NET.PT --dtype float64", "NET.PT x.npy -o OUTPUT"),
        ("amp.nam", "amp.nam INPUT -o OUTPUT"),
        ("amp.nam --output=out.wav", "amp.nam INPUT -o out.wav"),
    ],
)
def test_a_network_without_its_option_gets_the_right_command(capsys, given, command):
    network = next(word for word in given.split() if word.lower().endswith((".nam", ".pt")))
    said = f"lstmkernel: error: {network}: a network goes behind --weights: lstmkernel run --weights {command}\n"
    assert refused(capsys, "run", *given.split()) == said


@pytest.mark.parametrize("given", ["x.npy", "--weights=amp.nam", "--weight amp.nam", "--prefix a.pt x.npy", "--help"])
def test_other_words_are_left_to_argparse(capsys, given):
    with pytest.raises(SystemExit):
        main(["run", *given.split()])
    assert "a network goes behind" not in capsys.readouterr().err


@pytest.mark.parametrize("output", ["out.wav", "out.txt", "out", "out.npy.gz", "out.parquet", ".npy"])
def test_run_refuses_a_name_that_does_not_fit_an_array(capsys, tmp_path, weights, save, output):
    path, _ = save(4, 2, 3)
    said = refused(capsys, "run", "--weights", weights, path, "-o", str(tmp_path / output))
    assert "expected a suffix of .npy, .npz for an output of shape (4, 2, 5), got " in said
    assert sorted(os.listdir(tmp_path)) == ["weights.safetensors", "x.npy"]


def test_run_refuses_a_name_that_does_not_fit_states(capsys, tmp_path, weights, save):
    path, _ = save(4, 2, 3)
    run = ["run", "--weights", weights, path, "-o", str(tmp_path / "out.npz"), "--state-out"]
    assert "expected a suffix of .npz for states, got .npy" in refused(capsys, *run, str(tmp_path / "states.npy"))
    assert "expected another file than the output" in refused(capsys, *run, str(tmp_path / "out.npz"))


def test_run_refuses_options_that_mean_nothing(capsys, tmp_path, weights, save):
    path, _ = save(4, 2, 3)
    (tmp_path / "sound.wav").write_bytes(b"RIFF")

    def refusal(path: str, *more: str) -> str:
        return refused(capsys, "run", "--weights", weights, path, "-o", str(tmp_path / "out.npy"), *more)

    sound = str(tmp_path / "sound.wav")
    for given in (["--batch-first"], ["--no-batch-first"], ["--last"], ["--lengths", path], ["--column", "a"]):
        option = given[0].replace("--no-", "--")
        assert f"{option}: not for {sound}, which is read as sound" in refusal(sound, *given)
    assert f"--column: not for {path}, which is read as npy" in refusal(path, "--column", "a")
    assert f"--array: not for {path}, which is read as npy" in refusal(path, "--array", "a")
    assert "--ragged, --offsets: expected both or none" in refusal(path, "--ragged")
    assert "--ragged, --offsets: expected both or none" in refusal(path, "--offsets", path)
    assert "--lengths: not with --ragged" in refusal(path, "--ragged", "--offsets", path, "--lengths", path)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (np.ones(3, int), "expected B = 2 whole numbers, the lengths of the rows, got 3"),
        (np.ones(2), "expected B = 2 whole numbers, the lengths of the rows, got float64 (2,)"),
        (np.ones((2, 1), int), "the lengths of the rows, got int64 (2, 1)"),
        (np.array([4, 5]), "expected lengths from 0 to T = 4, got 5"),
        (np.array([-1, 3]), "expected lengths from 0 to T = 4, got -1"),
    ],
)
def test_run_refuses_lengths(capsys, tmp_path, weights, save, lengths, message):
    path, _ = save(4, 2, 3)
    np.save(tmp_path / "lengths.npy", lengths)
    run = ["run", "--weights", weights, path, "-o", str(tmp_path / "out.npy")]
    assert message in refused(capsys, *run, "--lengths", str(tmp_path / "lengths.npy"))
    path, _ = save(4, 3)
    assert "is one row" in refused(capsys, *run, "--lengths", str(tmp_path / "lengths.npy"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only directories")
def test_run_refuses_a_read_only_directory(capsys, tmp_path, weights, save):
    path, _ = save(4, 3)
    folder = tmp_path / "read-only"
    folder.mkdir(0o500)
    output = str(folder / "out.npy")
    assert refused(capsys, "run", "--weights", weights, path, "-o", output).endswith("Permission denied\n")


# ---------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_run_that_fails_while_writing_leaves_the_old_output(
    monkeypatch, tmp_path, weights, save, small_blocks, suffix, failure
):
    path, _ = save(70, 9, 3)
    output, states = tmp_path / f"out.{suffix}", tmp_path / "states.npz"
    output.write_bytes(b"old")
    states.write_bytes(b"old")
    write, written = arrays.Stored.write, []

    def fail_half_way(self: Any, index: Any, block: Any) -> None:
        write(self, index, block)
        written.append(index)
        if len(written) == 5:
            raise failure

    monkeypatch.setattr(arrays.Stored, "write", fail_half_way)
    status = main(["run", "--weights", weights, path, "-o", str(output), "--state-out", str(states)])
    assert status == (130 if isinstance(failure, KeyboardInterrupt) else 2)
    assert output.read_bytes() == states.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == [output.name, "states.npz", "weights.safetensors", "x.npy"]


#: As on a full disk, writes fail beyond the 20,000th byte of a file.
FULL = """
import resource, sys
from lstmkernel.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
weights, x, *outputs = sys.argv[1:]
for output in outputs:
    assert main(["run", "--weights", weights, x, "-o", output]) == 2
"""


def test_a_full_disk_leaves_the_old_output(tmp_path, weights, save):
    path, _ = save(3000, 3)
    suffixes = ("npy", "npz", *(("parquet", "arrow") if find_spec("pyarrow") else ()))
    outputs = [tmp_path / f"out.{suffix}" for suffix in suffixes]
    for output in outputs:
        output.write_bytes(b"old")
    done = run_python(FULL, weights, path, *map(str, outputs))
    for output in outputs:
        assert f"lstmkernel: error: {output}: File too large\n" in done.stderr
    assert done.stderr.count("\n") == len(outputs)
    assert all(output.read_bytes() == b"old" for output in outputs)
    assert len(os.listdir(tmp_path)) == len(suffixes) + 2


#: Of two outputs, the one that does not fit is named; so are the copy of an input, a sound and a network that is saved.
MORE_THAN_FULL = """
import os, resource, sys
from lstmkernel.cli import main
import lstmkernel as lk
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
os.chdir(sys.argv[1])
run = ["run", "--weights", "weights.safetensors"]
assert main([*run, "--last", "rows.npy", "-o", "small.npz", "--state-out", "states.npz"]) == 0
assert main([*run, "--last", "many.npy", "-o", "fits.npy", "--state-out", "states.npz"]) == 2
assert main([*run, "packed.npz", "-o", "out.npy"]) == 2
assert main(["convert", "big.safetensors", "again.safetensors"]) == 2
try:
    lk.save(lk.load("big.safetensors"), "again.safetensors")
except OSError as error:
    print(error, file=sys.stderr)
print(*sorted(os.listdir()))
"""


def test_a_full_disk_is_told_of_the_right_file(tmp_path, weights):
    np.save(tmp_path / "rows.npy", np.zeros((3, 9, 3), "f"))
    np.save(tmp_path / "many.npy", np.zeros((1, 900, 3), "f"))
    np.savez(tmp_path / "packed.npz", x=np.zeros((3000, 3), "f"))
    lk.save(lk.LSTM(30, 50, seed=0), tmp_path / "big.safetensors")
    done = run_python(MORE_THAN_FULL, str(tmp_path))
    assert done.stderr.splitlines() == [
        "lstmkernel: error: states.npz: File too large",
        "lstmkernel: error: . (a copy of packed.npz): File too large",
        "lstmkernel: error: again.safetensors: File too large",
        "[Errno 27] File too large: 'again.safetensors'",
    ]
    left = "big.safetensors many.npy packed.npz rows.npy small.npz states.npz weights.safetensors"
    assert done.stdout.splitlines()[-1] == left


SOUND_ON_A_FULL_DISK = """
import os, resource, sys
from lstmkernel.cli import main
os.chdir(sys.argv[1])
for limit in (0, 50, 100, 1000, 2000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    assert main(["run", "--weights", "amp.safetensors", "in.wav", "-o", sys.argv[2]]) == 2
print(*sorted(os.listdir()))
"""


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_full_disk_leaves_no_sound(tmp_path, random, suffix):
    """A little more would be room enough: libsndfile does not tell that it could not write the end."""
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "in.wav", random.uniform(-1, 1, 2000), 48000)
    lk.save(lk.Stack([lk.LSTM(1, 5, seed=0), lk.Dense(5, 1, seed=0)]), tmp_path / "amp.safetensors")
    done = run_python(SOUND_ON_A_FULL_DISK, str(tmp_path), f"out.{suffix}")
    assert done.stderr == f"lstmkernel: error: out.{suffix}: File too large\n" * 5
    assert done.stdout.splitlines()[-1] == "amp.safetensors in.wav"


def test_an_input_that_is_cut_short_meanwhile(tmp_path, weights, save):
    path, _ = save(70, 9, 3)
    with arrays.opened(path, None, str(tmp_path)) as stored:
        os.truncate(path, 1000)
        with pytest.raises(ValueError, match="became shorter"):
            stored.read((slice(60, 70),))
