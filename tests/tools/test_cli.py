"""The command line: the output of each command, its exit status, and its errors of one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import refused

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.backends import registry
from lstmkernel.cli import main
from lstmkernel.host import numbers_text
from lstmkernel.tuning import timing
from lstmkernel.workbench import cases, compare, inputs, latency, one_thread, shapes, workloads
from lstmkernel.workbench.networks import on

QUICK = ["--seconds", "0", "--shape", "2,3,4,5,2,2"]


@pytest.fixture(autouse=True)
def plain_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns, and NumPy's BLAS said to be held to one thread already."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in one_thread.VARIABLES:
        monkeypatch.setenv(name, "1")


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``pretend(name, **kernels)``: a backend of that name, NumPy's but for those kernels; no other than NumPy runs."""
    pretended = {"numpy": backends.get("numpy")}

    def load(name: str) -> backends.Backend:
        if name not in pretended:
            raise backends.BackendError(f"backend {name!r}: not in this test")
        return pretended[name]

    def pretend(name: str, **kernels: Any) -> None:
        pretended[name] = pretended["numpy"]._replace(name=name, **kernels)

    monkeypatch.setattr(registry, "_load", load)
    monkeypatch.setenv("LSTMKERNEL_BACKEND", "numpy")  # what "auto" is
    monkeypatch.setattr(backends, "unavailable", lambda name: None if name in pretended else f"{name} is not here")
    return pretend


#: Of a kernel's arguments, an output: the last one where nothing else is said.
OUTPUT = {
    "layer_record": lambda tape, *_: tape.h,
    "layer_backward": lambda tapes, parameters, gradients, _: gradients.h,
}


def spoilt(kernel: str, spoil: Callable[[Any], Any]) -> dict[str, Any]:
    """A kernel of NumPy's whose output is not what it should be."""
    right = getattr(backends.get("numpy"), kernel)

    def wrong(*arguments: Any) -> None:
        right(*arguments)
        output = OUTPUT.get(kernel, lambda *arguments: arguments[-1])(*arguments)
        output[...] = spoil(output)

    return {kernel: wrong}


def run_module(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lstmkernel", *arguments]
    return subprocess.run(command, text=True, timeout=120, check=False, **{"capture_output": True, **options})


# ---------------------------------------------------------------- info


def test_info_names_every_backend_and_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in backends.NAMES:
        (line,) = [line for line in lines if line.split(maxsplit=1)[:1] == [name]]
        assert (" yes" in line) == (backends.unavailable(name) is None)
        assert ("the default" in line) == (name == lk.info()["default"])
    assert all(len(line) <= 80 for line in lines)
    (line,) = [line for line in lines if line.startswith("8-bit weights")]
    assert line.rstrip().endswith(f" {lk.info()['int8'] or 'no C kernels'}")


def test_info_json_is_what_the_library_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**lk.info(), "c_is_built": backends.c_is_built()}


def test_info_without_the_c_kernels_says_how_to_get_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "c_is_built", lambda: False)
    monkeypatch.setattr(registry, "_load", registry._load.__wrapped__)
    assert main(["info"]) == 0
    captured = capsys.readouterr()
    assert "NO C BACKEND" in captured.out
    assert "LSTMKERNEL_REQUIRE_C=1 pip install" in captured.out.replace("│", "").replace("\n", " ")
    assert captured.err == ""


def test_info_refuses_an_unknown_backend_in_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSTMKERNEL_BACKEND", "fortran")
    assert "'fortran'" in refused(capsys, "info")


# ---------------------------------------------------------------- compare


@pytest.mark.slow
def test_compare_shows_every_usable_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *QUICK]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for name in backends.NAMES:
        reason = backends.unavailable(name)
        shown = "Not here: " + name if reason else name
        assert shown in captured.out
    for kernel in backends.KERNELS:
        assert kernel in captured.out
    assert "agrees with the float64 reference" in captured.out
    assert "geometric mean" in captured.out
    assert "…" not in captured.out
    assert all(len(line) <= 80 for line in captured.out.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compare_json_holds_every_result(capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    assert main(["compare", *QUICK, "--dtype", dtype, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    usable = backends.usable()
    measured = {(result["work"], result["backend"]) for result in found["results"]}
    assert measured == {(what, name) for what in workloads.NAMES for name in usable}
    assert found["dtype"] == dtype
    assert found["agree"] is True
    assert found["one_answer"] is True
    assert set(found["times_numpy"]) == set(usable)
    assert found["times_numpy"]["numpy"] == 1
    assert set(found["unusable"]) == set(backends.NAMES) - set(usable)
    for result in found["results"]:
        assert result["seconds"] > 0
        assert 0 <= result["error"] <= 1
    (network,) = [r for r in found["results"] if (r["work"], r["backend"]) == ("network", "numpy")]
    # 2 directions x 4 gates x 5 units, reading 4 + 5 numbers in layer 1 and 10 + 5 in layer 2, for 2 rows of 3 steps
    assert network["flops"] == 2 * (2 * 20 * (4 + 5) + 2 * 20 * (10 + 5)) * 2 * 3
    assert network["rows"] == 6
    assert network["steps_per_second"] == pytest.approx(6 / network["seconds"])


def test_compare_writes_json_beside_the_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pretend: Callable[..., None]
) -> None:
    path = tmp_path / "result.json"
    assert main(["compare", *QUICK, "--json", str(path)]) == 0
    assert "Whole networks" in capsys.readouterr().out
    assert json.loads(path.read_text())["agree"] is True
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize("kernel", backends.KERNELS)
@pytest.mark.parametrize("spoil", [lambda y: y + 4e-5, lambda y: np.where(np.arange(len(y)) == 1, np.nan, y.T).T])
def test_compare_names_the_backend_and_kernel_that_disagree(
    capsys: pytest.CaptureFixture[str], pretend: Callable[..., None], kernel: str, spoil: Callable[[Any], Any]
) -> None:
    pretend("c:generic", **spoilt(kernel, spoil))
    assert main(["compare", *QUICK]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "DISAGREE" in said
    assert f"c:generic in {kernel} of 2,3,4,5,2,2" in said
    assert "numpy in" not in said

    assert main(["compare", *QUICK, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["agree"] is False
    assert {(r["work"], r["backend"]) for r in found["results"] if not r["agrees"]} >= {(kernel, "c:generic")}


def test_compare_notices_other_bits_within_the_tolerance(
    capsys: pytest.CaptureFixture[str], pretend: Callable[..., None]
) -> None:
    pretend("c:avx512")
    pretend("c:avx2")
    assert main(["compare", *QUICK]) == 0
    assert "Bit-identical everywhere: c:avx512, c:avx2." in capsys.readouterr().out

    pretend("c:avx2", **spoilt("gate_matmul", lambda z: np.nextafter(z, np.float32(2))))
    assert main(["compare", *QUICK]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "agrees with the float64 reference" in said
    assert "NOT BIT-IDENTICAL to c:avx512: c:avx2 in gate_matmul" in said


@pytest.mark.slow
def test_compare_roofline_says_how_near_each_comes(capsys: pytest.CaptureFixture[str]) -> None:
    if not backends.c_is_built():
        pytest.skip("the C kernels were not built")
    assert main(["compare", "--seconds", "0", "--shape", "8,20,64,64", "--roofline"]) == 0
    assert re.search(r"xNumPy +Reached\n.*\d+%\n", capsys.readouterr().out, re.DOTALL)
    assert main(["compare", "--seconds", "0", "--shape", "8,20,64,64", "--roofline", "--json"]) == 0
    for result in json.loads(capsys.readouterr().out)["results"]:
        if result["work"] in ("gate_matmul", "layer_forward", "network"):
            assert 0 < result["reached"] < 1.2, result
        else:
            assert result["reached"] is None, result


def test_compare_on_a_weights_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "stack.safetensors")
    layers = [lk.LSTM(3, 6, proj_size=2, seed=0, batch_first=True), lk.LSTM(2, 4, bias=False, seed=1, batch_first=True)]
    lk.save(lk.Stack([*layers, lk.Dense(4, 1, "sigmoid", seed=2)]), path)
    weights = ["compare", "--weights", path, "--seconds", "0"]
    assert main([*weights, "--steps", "7", "--batch", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {r["rows"] for r in found["results"] if r["work"] == "network"} == {14}
    assert found["agree"]
    assert found["one_answer"]


def magnifying(path: Path) -> tuple[str, str]:
    """A file of a network whose weights are so large that it magnifies rounding, and an input for it."""
    lstm = lk.LSTM(1, 40, seed=3)
    large = lk.LSTM.from_config(lstm.config(), {name: 8 * value for name, value in lstm.state_dict().items()})
    lk.save(lk.Stack([large, lk.Dense(40, 1, seed=1)]), path / "large.safetensors")
    np.save(path / "x.npy", np.sin(np.arange(30) / 9)[:, None])
    return str(path / "large.safetensors"), str(path / "x.npy")


def test_compare_tells_magnified_rounding_from_wrong_kernels(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    pretend: Callable[..., None],
) -> None:
    """Both are further from float64 than the tolerance; single steps are so only if a kernel is wrong."""
    right = backends.get("numpy").lstm_forward

    def wrong(weights: Any, batch: Any, threads: int, times: slice | None = None) -> None:
        right(weights, batch, threads, times)
        batch.h[...] += np.float32(1e-4)

    monkeypatch.setattr(inputs, "MOST", 20)
    weights, x = magnifying(tmp_path)
    command = ["compare", "--weights", weights, "--input", x, "--seconds", "0", "--steps", "60"]
    pretend("c:generic")
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["input"], one["backend"]) for one in found["inputs"]] == [
        (name, backend)
        for name in ("silence", "quiet noise", "noise", "your input's first 20 steps")
        for backend in ("c:generic", "numpy")
    ]
    assert all(one["agrees"] and one["step"] < 0.2 for one in found["inputs"])
    assert max(one["sequence"] for one in found["inputs"]) > 10
    assert max(one["limit"] for one in found["inputs"]) > 100
    assert main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Errors by input" in said
    assert "Rounding is magnified by the network itself, in " in said

    pretend("c:generic", lstm_forward=wrong)
    assert main(command) == 1
    assert "DISAGREE" in (said := " ".join(capsys.readouterr().out.split()))
    assert "c:generic on silence; c:generic on quiet noise; c:generic on noise; c:generic on your input" in said
    assert "numpy on" not in said


@pytest.mark.parametrize(
    "net",
    [
        lambda: lk.LSTM(3, 5, 2, bidirectional=True, proj_size=2, initial_state=True, batch_first=True, seed=1),
        lambda: lk.LSTM(3, 5, 2, reverse=True, seed=1),
        lambda: lk.LSTM(3, 5, bidirectional=True, variant=lk.Variant(peephole=True), seed=1),
        lambda: lk.Stack([lk.LSTM(3, 5, seed=1), lk.Dense(5, 4, "relu", seed=1), lk.LSTM(4, 3, seed=1)], skip=1),
    ],
)
def test_errors_by_input_of_every_kind_of_network(net: Callable[[], Any], dtype: str) -> None:
    network = on(net(), "numpy", dtype)
    own = np.random.default_rng(0).standard_normal((4, 7, 3))
    given = inputs.inputs(net(), 6, 2, own)
    assert [x.shape for x in given.values()] == [(6, 2, 3)] * 3 + [(7, 4, 3) if net().batch_first else (4, 7, 3)]
    for name, x in given.items():
        for found in inputs.measure(network, name, x.astype(dtype), ["numpy", "c:generic"]):
            assert found.agrees
            assert 0 <= found.step < 0.1
            assert found.limit == 1


def test_compare_takes_a_prefix(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    path = str(data / "silero" / "silero_vad_16k.safetensors")
    arguments = ["compare", "--weights", path, "--prefix", "lstm_cell", "--backend", "auto", "--seconds", "0"]
    assert main([*arguments, "--steps", "3"]) == 0
    assert "lstm_cell" in capsys.readouterr().out


def test_compare_runs_only_what_was_asked_beside_numpy(
    capsys: pytest.CaptureFixture[str], pretend: Callable[..., None]
) -> None:
    pretend("c:avx2")
    pretend("c:generic")
    assert main(["compare", *QUICK, "--backend", "c:generic", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["times_numpy"]) == {"c:generic", "numpy"}
    assert "not in this test" in refused(capsys, "compare", *QUICK, "--backend", "c:neon")
    assert "'fortran'" in refused(capsys, "compare", *QUICK, "--backend", "fortran")


@pytest.mark.parametrize("shape", ["1,2,3", "1,2,3,0", "1,2,3,x", "1,2,3,4,1,3", "nobody", ""])
def test_compare_refuses_a_shape(capsys: pytest.CaptureFixture[str], shape: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["compare", "--shape", shape])
    assert exit_.value.code == 2
    assert repr(shape) in capsys.readouterr().err


def test_compare_refuses_what_goes_with_weights_without_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--weights" in refused(capsys, "compare", *QUICK, "--steps", "3")
    assert "--weights" in refused(capsys, "compare", *QUICK, "--input", "x.npy")


def test_compare_refuses_a_json_file_before_it_measures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compare, "run", lambda request: pytest.fail("measured first"))
    path = str(tmp_path / "missing" / "result.json")
    assert refused(capsys, "compare", *QUICK, "--json", path).endswith(f"{path}: No such file or directory\n")


def test_compare_says_when_blas_may_use_more_threads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pretend: Callable[..., None]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert main(["compare", *QUICK]) == 0
    assert "several threads" in capsys.readouterr().err


def test_compare_holds_blas_to_one_thread() -> None:
    """By starting itself again: the warning of the test above does not come."""
    environment = {name: value for name, value in os.environ.items() if name not in one_thread.VARIABLES}
    done = run_module("compare", *QUICK, "--backend", "numpy", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Whole networks" in done.stdout


# ---------------------------------------------------------------- the command line itself


COMMANDS = (*(["info"], ["compare"], ["run"], ["convert"], ["explain"], ["bench"], ["bench", "stream"], ["cache"]),)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"lstmkernel {lk.__version__}\n"


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help_ends_with_examples_and_fits_80_columns(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--help"])
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    assert all(len(line) <= 80 for line in said.splitlines())
    examples = said.partition("\nexamples:\n")[2]
    assert f"lstmkernel {' '.join(command)}".rstrip() in examples


def test_without_a_command_the_help_is_shown() -> None:
    done = run_module()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run_module("--help").stdout
    assert all(f"    {command[0]} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("arguments", [["sing"], ["run"], ["compare", "--seconds", "soon"]])
def test_a_wrong_command_line_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: lstmkernel" in capsys.readouterr().err


def test_the_installed_script_is_the_module() -> None:
    script = Path(sys.executable).with_name("lstmkernel")
    if not script.exists():
        pytest.skip("lstmkernel is not installed beside this Python")
    said = subprocess.run([script, "info", "--json"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert json.loads(said) == json.loads(run_module("info", "--json").stdout)


def test_ctrl_c_is_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pretend: Callable[..., None]
) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "run", interrupt)
    assert main(["compare", *QUICK]) == 130
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(
    "arguments", [["info"], ["info", "--json"], ["compare", *QUICK, "--backend", "numpy"], ["--help"]]
)
def test_a_reader_that_went_away_is_no_error_to_speak_of(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what is buffered fails late
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run_module(*arguments, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


# ---------------------------------------------------------------- what the commands share


def test_every_kernel_of_the_contract_is_compared() -> None:
    assert tuple(workloads.ALONE) == backends.KERNELS


def test_workloads_compute_what_their_names_say() -> None:
    """All backends get the same workloads, so no comparison of backends notices a wrong workload."""
    net = lk.LSTM(3, 5, dtype="float64", batch_first=True, backend="numpy", seed=0)
    given = cases.of_net("", "", "", net, B=2, T=4)
    named = net.state_dict()
    answers = {name: workloads.prepare(name, given, "numpy").answer() for name in workloads.NAMES}

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    i, f, g, o = given.gates.swapaxes(0, 1)
    c = sigmoid(f) * given.cells + sigmoid(i) * np.tanh(g)
    layer_out, (h_n, c_n) = net(given.x_steps.swapaxes(0, 1), (given.h[None], given.c[None]))
    network_out, states = net(given.x.swapaxes(0, 1))
    flat = given.gates.reshape(-1)
    expected = {
        "activation": (flat, np.tanh(flat), sigmoid(flat), np.maximum(flat, 0)),
        "gate_matmul": (given.x_rows @ named["weight_ih_l0"].T + named["bias_ih_l0"] + named["bias_hh_l0"],),
        "cell_update": (c, sigmoid(o) * np.tanh(c)),
        "dense_forward": (np.tanh(given.x_rows @ named["weight_ih_l0"][:5].T + flat[:5]),),
        "layer_forward": (layer_out.swapaxes(0, 1), h_n[0], c_n[0]),
        "network": (network_out.swapaxes(0, 1), *states),
    }
    for name, arrays in expected.items():
        for got, right in zip(answers[name], arrays, strict=True):
            np.testing.assert_allclose(got, right.reshape(got.shape), rtol=1e-12, atol=1e-12, err_msg=name)


# ---------------------------------------------------------------- bench stream


@pytest.mark.slow
def test_bench_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    figures_file, picture = tmp_path / "latency.json", tmp_path / "latency.png"
    assert main(["bench", "stream", "--seconds", "0", "--json", str(figures_file), "--png", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert all(len(line) <= 80 for line in printed.splitlines())
    for part in ("silero_step", "1024 of silero_step", "proteus_h40, 512 samples", "p99.9", "real time"):
        assert part in printed
    found = json.loads(figures_file.read_text())
    assert found["backend"] == backends.get().name
    assert len(found["rows"]) == 7 + 4 + 6
    for row in found["rows"]:
        assert 0 < row["p50"] <= row["p99"] <= row["p999"] <= row["max"]
        assert row["calls"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_bench_stream_of_a_network_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lk.save(lk.Stack([lk.LSTM(1, 4, seed=0, batch_first=True), lk.Dense(4, 1)]), tmp_path / "amp.safetensors")
    run = ["bench", "stream", "--weights", str(tmp_path / "amp.safetensors"), "--seconds", "0"]
    figures_file = tmp_path / "latency.json"
    assert main([*run, "--block", "64", "--block", "16", "--json", str(figures_file)]) == 0
    printed = capsys.readouterr().out
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert re.search(r"^deadlines +next block after +p99.9 missed of calls an hour$", printed, re.MULTILINE)
    assert re.search(r"^amp.safetensors, 64 steps +1.33 ms ", printed, re.MULTILINE)
    assert [row["audio_seconds"] for row in json.loads(figures_file.read_text())["rows"]] == [64 / 48000, 16 / 48000]
    assert main([*run, "--rate", "8000"]) == 0
    assert re.search(r"64 steps +8.00 ms ", capsys.readouterr().out)


def test_bench_stream_takes_the_sample_rate_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = np.random.default_rng(1).uniform(-1, 1, 16).tolist()
    config = {"num_layers": 1, "input_size": 1, "hidden_size": 1}
    model = {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": weights, "sample_rate": 16000}
    (tmp_path / "amp.nam").write_text(json.dumps(model))
    assert main(["bench", "stream", "--weights", str(tmp_path / "amp.nam"), "--seconds", "0"]) == 0
    assert re.search(r"amp.nam, 64 steps +4.00 ms ", capsys.readouterr().out)


def test_bench_stream_refuses_what_needs_weights(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--block", "64"], ["--rate", "8000"], ["--prefix", "lstm"]):
        assert f"{given[0]}: needs --weights" in refused(capsys, "bench", "stream", *given)


def test_missed_deadlines() -> None:
    subject = latency.Subject(latency.SOUND, "it", "", lambda: None, audio_seconds=0.5)
    found = latency.Latency.of(subject, [0.1, 0.5, 0.6, 0.2, 0.7, 0.3, 0.4, 0.1, 0.1, 0.1])
    assert (found.missed, found.missed_an_hour) == (2, 2 / 10 * 7200)
    assert latency.Latency.of(subject, [0.5] * 10).missed == 0
    assert latency.Latency.of(subject, [0.5] * 10).missed_an_hour == 720  # the most that ten calls can tell


def test_latencies_are_of_every_call_but_the_first_two(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(latency, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(latency, "TURN_SECONDS", 999.0)
    calls: list[int] = []
    subject = latency.Subject(latency.STEPS, "it", "1,1,1,1", lambda: calls.append(1))
    (found,) = latency.measure([subject], 0, lambda passed: None)
    assert (len(calls), found.calls) == (1001, 999)
    assert (found.p50, found.p999, found.most) == (1, 1, 1)
    of_many = latency.Latency.of(subject, [float(n) for n in range(1000, 0, -1)])
    assert (of_many.p50, of_many.p99, of_many.p999, of_many.most) == (500, 990, 999, 1000)


def test_bench_says_what_it_wants(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "stream", "--backend", "cuda"]) == 2
    assert "unknown backend 'cuda'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["bench"])
    assert "required: WHAT" in capsys.readouterr().err


def test_the_shapes_read_as_they_are_written() -> None:
    for shape in shapes.GRID:
        assert shapes.parse(shape.name) is shape
        assert shapes.parse(shape.sizes())[1:7] == shape[1:7]
    assert len(shapes.BY_NAME) == len(shapes.GRID)


def test_medians_take_turns_and_tell_slow_from_fast() -> None:
    order = []

    def call(name: str, sums: int) -> Callable[[], None]:
        def call() -> None:
            order.append(name)
            sum(range(sums))

        return call

    medians = timing.medians({"slow": call("slow", 1_000_000), "fast": call("fast", 1_000)}, 0.1)
    assert medians["slow"] > 50 * medians["fast"] > 0
    turns = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert turns.count("slow") >= timing.LEAST_ROUNDS
    assert turns == ["slow", "fast"] * turns.count("slow")


def test_numbers_have_three_digits_and_a_unit() -> None:
    assert [numbers_text.duration(s) for s in (12.34, 9.5, 1, 0.02615, 9.996e-4, 8.41e-5, 5e-8)] == [
        *("12.3 s", "9.50 s", "1.00 s", "26.1 ms", "1.00 ms", "84.1 us", "50.0 ns")
    ]
    assert [numbers_text.count(n) for n in (4, 999.6, 36_700, 4.783e6, 2e9)] == [
        "4.00",
        "1.00k",
        "36.7k",
        "4.78M",
        "2.00G",
    ]
