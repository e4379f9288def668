"""Targets of this project that peers.py and roofline.py do not measure: one line for each.

    python bench/reach.py                                        # all; some minutes
    python bench/reach.py --only step --only pool --seconds 20

numba         Numba's kernels against the C kernels: whole networks, every shape of the grid
special       C kernels with a layer's sizes as constants against the prebuilt ones: one row of at most 64 units
cycles        cycles of a step of one row with one input, on the kernels that LSTM.compile chooses
build         seconds that the C compiler takes for one layer's kernels
again         LSTM.compile with a plan in the cache, in a process that has not compiled before
step          a voice-activity step through Stream.step against its kernel alone, and against ONNX Runtime's run
pool          64 such streams in a pool against 64 steps
lengths       rows of unequal length against PyTorch's packed ones, and against the same call without lengths
ragged        many short rows of unequal length in one array: against the same rows sorted and padded beforehand, with
              the sorting and padding, and against PyTorch's packed rows; and the last steps alone
ragged_two    the same against PyTorch, two threads each on two cores, and against one thread
window        an answer for the last 250 inputs at each input: its latency against a stream's step, and the whole tick
              against the step of a pool of 250 streams
command       lstmkernel run over 400,000 sequences of 30 steps in a file, against the same from Python; and its memory
int8          8-bit weights: a stream's step against float32's; on AVX2, networks that wait for their weights (one row,
              256 units or more) against float32; Numba's kernels against the C kernels, every shape of the grid

Everything but int8 is float32. All but ragged_two runs on one core and one thread. Calls that are compared take turns;
their medians are compared. Needs a C compiler, and torch, onnx and onnxruntime for the measures that use them.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import geometric_mean, median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from onnx_file import onnx_model
from samples import each, last_cores

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.backends.c import specialised
from lstmkernel.backends.c.specialised import SPECIALISED
from lstmkernel.engine.call import call
from lstmkernel.host import compile_c
from lstmkernel.tuning import candidates
from lstmkernel.tuning.timing import medians
from lstmkernel.workbench import shapes

GRID = shapes.GRID
#: The most cycles that one step should take, by units.
CYCLES = {8: 160, 16: 128, 20: 360, 32: 256, 40: 528, 64: 1384}
STEPS = 2048

#: Rows, and how many of them are padded together by hand.
RAGGED, TOGETHER = 100_000, 1024
WINDOW = 250

#: Sequences of the command's input: 30 steps of 8 numbers, 384 MB in all, and four times as much output.
SEQUENCES = 400_000

#: Of 8-bit weights; and the units from which one row waits for its weights.
ACTIVATIONS, STREAMED_UNITS = ("int16", "int8"), 256

#: Pairs of steps in one call of reach_probes.c, and operations in a chain.
PAIRS, CHAIN = 50, 100_000


class Target(NamedTuple):
    """One measured number, and its target."""

    what: str
    seen: float
    target: float
    at_least: bool = False

    def __str__(self) -> str:
        reached = self.seen >= self.target if self.at_least else self.seen <= self.target
        bound = "at least" if self.at_least else "at most"
        return f"{self.what}: {self.seen:.3g}, {bound} {self.target:g}{'' if reached else '  MISSED'}"


def probes() -> ctypes.CDLL:
    return compile_c.load(compile_c.library(Path(__file__).with_name("reach_probes.c"), ["-O2"]).code)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, dtype="float32")


def on_each(shape: shapes.Shape, seconds: float, named: dict[str, str]) -> dict[str, float]:
    """Median seconds of a network on each backend. " special" after a backend's name: with the sizes as constants."""
    calls, x = {}, normal(shape.T, shape.B, shape.I)
    lstm = lk.LSTM(shape.I, shape.H, shape.L, bidirectional=shape.D == 2, num_threads=1, seed=0)
    for name, backend in named.items():
        built, _ = candidates.build(backend, lstm.shape.layer_sizes(), lstm.shape.backwards, lstm.dtype)
        network = lstm.engine.on(built, 1)
        calls[name] = partial(call, network, x, out=call(network, x)[0])
    return medians(calls, seconds)


# ---------------------------------------------------------------- compiled at run time


def numba(seconds: float) -> Iterator[Target]:
    ratios = {}
    for shape in GRID:
        found = on_each(shape, seconds / len(GRID), {"c": "c", "numba": "numba"})
        ratios[shape.name] = found["c"] / found["numba"]
    worst = min(ratios, key=lambda name: ratios[name])
    yield Target("numba / C, geometric mean", geometric_mean(ratios.values()), 0.95, at_least=True)
    yield Target(f"numba / C, worst row, {worst}", ratios[worst], 0.85, at_least=True)


def special(seconds: float) -> Iterator[Target]:
    own = lk.LSTM(1, 1).backend
    rows = [shape for shape in GRID if shape.B == 1 and shape.H <= 64]
    rows += [shapes.parse(f"1,{STEPS},1,{H}") for H in CYCLES if H not in {shape.H for shape in rows}]
    ratios = {}
    for shape in rows:
        found = on_each(shape, seconds / len(rows), {"prebuilt": own, "special": own + SPECIALISED})
        ratios[shape.name] = found["prebuilt"] / found["special"]
        yield Target(f"specialised / prebuilt C, {shape.name}", ratios[shape.name], 1.0, at_least=True)
    grid = [ratios[shape.name] for shape in rows if shape in GRID]
    yield Target("specialised / prebuilt C, geometric mean of the grid", geometric_mean(grid), 1.2, at_least=True)


def cycles(seconds: float) -> Iterator[Target]:
    chain, x = partial(probes().cycles, ctypes.c_int64(CHAIN)), normal(STEPS, 1, 1)
    for H, target in CYCLES.items():
        fast = lk.LSTM(1, H, num_threads=1, seed=0).compile(1, STEPS)
        calls = {"steps": partial(fast, x, out=fast(x)[0]), "chain": chain}
        found = medians(calls, seconds / len(CYCLES))
        seen = found["steps"] / STEPS / (found["chain"] / CHAIN)
        yield Target(f"cycles of a step, 1 -> {H}, {fast.backend}", seen, target)


def build(seconds: float) -> Iterator[Target]:
    isa = lk.LSTM(1, 1).backend.removeprefix("c:")
    for sizes in [(1, 16, 0), (1, 40, 0), (128, 128, 0)]:
        times = each(partial(specialised.compiled, isa, np.dtype("float32"), sizes), 3)
        yield Target(f"seconds to build {sizes[0]} -> {sizes[1]}", median(times), 1.5)


AGAIN = """
from time import perf_counter
import lstmkernel as lk
lstm = lk.LSTM(1, 40, num_threads=1, seed=0)
start = perf_counter()
fast = lstm.compile(1, 2048)
print(perf_counter() - start)
"""


def again(seconds: float) -> Iterator[Target]:
    def fresh() -> float:
        return float(subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, text=True, check=True).stdout)

    fresh()  # builds, where nothing is remembered yet
    yield Target("milliseconds of compile() again, fresh process", 1e3 * median(fresh() for _ in range(5)), 50)


# ---------------------------------------------------------------- streams


def silero() -> lk.LSTM:
    return lk.LSTM(128, 128, num_threads=1, seed=0)


def step(seconds: float) -> Iterator[Target]:
    x, out = normal(1, 128), np.empty((1, 128), "float32")
    alone, stream = silero().stream(), silero().stream()
    calls: dict[str, Callable[[], object]] = {"step": partial(stream.step, x, out)}
    calls["kernel"] = kernel_alone(alone, x, np.empty_like(out))
    calls["ONNX Runtime"] = onnxruntime_step(silero(), x)
    found = medians(calls, seconds)
    yield Target("Stream.step / its kernel", found["step"] / (found["kernel"] / (2 * PAIRS)), 1.3)
    yield Target("Stream.step / ONNX Runtime", found["step"] / found["ONNX Runtime"], 0.42)


def kernel_alone(stream: Any, x: np.ndarray, out: np.ndarray) -> Callable[[], object]:
    """2 PAIRS steps of the stream, called from C. A stream's two prepared calls take turns."""
    from lstmkernel.backends.c._kernels import ffi, lib

    def pointer(data: Any) -> ctypes.c_void_p:
        return ctypes.c_void_p(int(ffi.cast("intptr_t", data)))

    one, other = (pointer(side.args[0]) for side in stream._steps)
    arrays = (pointer(ffi.from_buffer(x)), pointer(ffi.from_buffer(out)))
    advance = pointer(ffi.addressof(lib, "lk_advance"))
    call = partial(probes().pairs, advance, one, other, *arrays, ctypes.c_int64(PAIRS))
    call.__dict__["keep_alive"] = (stream, x, out)
    return call


def onnxruntime_step(lstm: lk.LSTM, x: np.ndarray) -> Callable[[], object]:
    """One step. The caller keeps the states and gives them to the next step."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = onnx_model(lstm, with_states=True)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = {"x": x[None], "h0": np.zeros((1, 1, 128), "float32"), "c0": np.zeros((1, 1, 128), "float32")}

    def call() -> np.ndarray:
        out, given["h0"], given["c0"] = session.run(["out", "h_n0", "c_n0"], given)
        return out

    return call


def pool(seconds: float) -> Iterator[Target]:
    lstm, count = silero(), 64
    x, out = normal(count, 128), np.empty((count, 128), "float32")
    together = lstm.pool(count)
    ids, streams = together.open(count), [lstm.stream() for _ in range(count)]
    rows = [(stream.step, x[i : i + 1], out[i : i + 1]) for i, stream in enumerate(streams)]

    def separate() -> None:
        for one_step, row, its_out in rows:
            one_step(row, its_out)

    found = medians({"pool": partial(together.step, ids, x, out), "streams": separate}, seconds)
    yield Target(f"pool of {count} / {count} steps", found["pool"] / found["streams"], 0.35)


def lengths(seconds: float) -> Iterator[Target]:
    lstm, x = lk.LSTM(128, 128, 2, num_threads=1, seed=0), normal(64, 32, 128)
    steps = np.random.default_rng(0).integers(8, 65, 32)
    out = np.empty((64, 32, 128), "float32")
    calls: dict[str, Callable[[], object]] = {"lengths": partial(lstm, x, lengths=steps, out=out)}
    calls["padded"] = partial(lstm, x, out=np.empty_like(out))
    calls |= torch_packed(lstm, x, steps)
    found = medians(calls, seconds)
    for name in ("packed and run", "run"):
        yield Target(f"PyTorch's packed rows, {name}, / lengths", found[name] / found["lengths"], 3, at_least=True)
    yield Target("lengths / the same without", found["lengths"] / found["padded"], 1)


def torch_packed(lstm: lk.LSTM, x: np.ndarray, steps: np.ndarray, threads: int = 1) -> dict[str, Callable[[], object]]:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    torch.set_num_threads(threads)
    module = torch.nn.LSTM(lstm.input_size, lstm.hidden_size, lstm.num_layers)
    module.load_state_dict({name: torch.tensor(value) for name, value in lstm.state_dict().items()})
    module.requires_grad_(False)
    pack = partial(pack_padded_sequence, torch.from_numpy(x), torch.from_numpy(steps), enforce_sorted=False)
    packed = pack()

    def run(rows: Callable[[], Any]) -> Any:
        with torch.inference_mode():
            return module(rows())

    return {"packed and run": partial(run, pack), "run": partial(run, lambda: packed)}


def many_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """flat (N, 8), the offsets of the rows, and where to write 32 outputs of each step."""
    offsets = np.concatenate([[0], np.cumsum(np.random.default_rng(0).integers(4, 61, RAGGED))])
    return normal(int(offsets[-1]), 8), offsets, np.zeros((offsets[-1], 32), "float32")


def packed_beforehand(lstm: lk.LSTM, flat: np.ndarray, offsets: np.ndarray, threads: int) -> Callable[[], object]:
    """The same rows in PyTorch."""
    runs = [torch_packed(lstm, x, steps, threads)["run"] for x, steps, _ in padded(flat, offsets)]
    return lambda: [run() for run in runs]


def ragged(seconds: float) -> Iterator[Target]:
    lstm, (flat, offsets, out) = lk.LSTM(8, 32, num_threads=1, seed=0), many_rows()
    batches = [(x, steps, np.zeros((*x.shape[:2], 32), "float32")) for x, steps, _ in padded(flat, offsets)]

    def by_hand() -> None:
        for x, steps, own in batches:
            lstm(x, lengths=steps, out=own)

    def all_by_hand() -> None:
        for x, steps, places in padded(flat, offsets):
            own, _ = lstm(x, lengths=steps)
            out[places] = own.swapaxes(0, 1)[np.arange(len(x)) < steps[:, None]]

    calls = {"ragged": partial(lstm.ragged, flat, offsets, out=out), "before": by_hand, "all": all_by_hand}
    calls["last"] = partial(lstm.ragged, flat, offsets, last=True)
    found = medians({**calls, "torch": packed_beforehand(lstm, flat, offsets, 1)}, seconds)
    for name, what, target in (
        ("before", "rows padded beforehand", 0.9),
        ("all", "rows sorted and padded by hand", 1),
        ("torch", "PyTorch's rows packed beforehand", 3),
    ):
        yield Target(f"{what} / ragged", found[name] / found["ragged"], target, at_least=True)
    yield Target("last steps alone / ragged", found["last"] / found["ragged"], 1.1)


def ragged_two(seconds: float) -> Iterator[Target]:
    flat, offsets, out = many_rows()
    one, two = (partial(lk.LSTM(8, 32, num_threads=n, seed=0).ragged, flat, offsets, out=out) for n in (1, 2))
    of_torch = packed_beforehand(lk.LSTM(8, 32, seed=0), flat, offsets, 2)
    found = medians({"one": one, "two": two, "torch": of_torch}, seconds)
    what = "PyTorch's rows packed beforehand / ragged, two threads"
    yield Target(what, found["torch"] / found["two"], 3, at_least=True)
    yield Target("ragged, one thread / two", found["one"] / found["two"], 1.6, at_least=True)


def padded(flat: np.ndarray, offsets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """x (T, B, I), the lengths and the places in flat of every so many rows, sorted by length."""
    lengths = np.diff(offsets)
    order = np.argsort(-lengths, kind="stable")
    for rows in np.split(order, range(TOGETHER, len(order), TOGETHER)):
        T, steps = lengths[rows[0]], lengths[rows]
        within = np.arange(T) < steps[:, None]
        places = (offsets[rows, None] + np.arange(T))[within]
        x = np.zeros((T, len(rows), flat.shape[1]), "float32")
        x.swapaxes(0, 1)[within] = flat[places]
        yield x, steps, places


def window(seconds: float) -> Iterator[Target]:
    lstm = lk.LSTM(25, 80, num_threads=1, seed=0)
    x, out, many, its_out = normal(1, 25), np.empty((1, 80), "float32"), normal(WINDOW, 25), normal(WINDOW, 80)
    own, stream, together = lstm.window(WINDOW), lstm.stream(), lstm.pool(WINDOW)
    ids = together.open(WINDOW)
    calls = {
        "pool": partial(together.step, ids, many, its_out),
        "step": partial(stream.step, x, out),
        "advance": own.advance,
        "window": partial(own.step, x, out),
    }
    for _ in range(WINDOW):
        own.step(x, out)
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = perf_counter() + seconds
    while perf_counter() < end or len(times["pool"]) < 3:  # both steps come when many rows have used the caches
        for name, timed in calls.items():
            times[name] += each(timed, 1)
    found = {name: median(taken) for name, taken in times.items()}
    yield Target("window.step / stream.step", found["window"] / found["step"], 1.3)
    tick = found["window"] + found["advance"]
    yield Target(f"a pool's step of {WINDOW} rows / step and advance", found["pool"] / tick, 0.8, at_least=True)


# ---------------------------------------------------------------- the command line

#: What the command does, written in Python.
BY_HAND = """
import sys
import numpy as np
import lstmkernel as lk
np.save(sys.argv[3], lk.load(sys.argv[1], batch_first=True)(np.load(sys.argv[2]))[0])
"""


class Finished(NamedTuple):
    """A process that has ended."""

    seconds: float
    gigabytes: float  # the most memory that it had


def command(seconds: float) -> Iterator[Target]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, x, out = (str(folder / file) for file in ("weights.safetensors", "x.npy", "out.npy"))
        lk.save(lk.LSTM(8, 32, batch_first=True, seed=0), weights)
        np.save(x, normal(SEQUENCES, 30, 8))
        ways = {
            "by hand": ["-c", BY_HAND, weights, x, out],
            "run": ["-m", "lstmkernel", "run", "--weights", weights, "--batch-first", x, "-o", out],
        }
        rounds, until = [], perf_counter() + seconds
        while not rounds or perf_counter() < until:
            rounds.append({way: finished(arguments) for way, arguments in ways.items()})
    ratio = median(found["run"].seconds / found["by hand"].seconds for found in rounds)
    yield Target("lstmkernel run / load, call and save in Python, both with their start", ratio, 1.3)
    yield Target("GB of memory of lstmkernel run", max(found["run"].gigabytes for found in rounds), 1)


def finished(arguments: list[str]) -> Finished:
    """Python with these arguments, to its end."""
    start = perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return Finished(perf_counter() - start, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9)


# ---------------------------------------------------------------- 8-bit weights


def int8(seconds: float) -> Iterator[Target]:
    share, streamed = seconds / (3 * len(ACTIVATIONS)), [row for row in GRID if row.B == 1 and row.H >= STREAMED_UNITS]
    for activations in ACTIVATIONS:
        what = f"int8 with {activations} activations"
        yield Target(f"Stream.step, {what} / float32", int8_step(activations, share), 0.6)
        if backends.unavailable("c:avx2") is None:
            gain = int8_gain(streamed, ("c:avx2", None), ("c:avx2", activations), share)
            yield Target(f"c:avx2, weights that stream, float32 / {what}", gain, 2, at_least=True)
        gain = int8_gain(GRID, ("c", activations), ("numba", activations), share)
        yield Target(f"numba / C, {what}", gain, 0.95, at_least=True)


def int8_step(activations: str, seconds: float) -> float:
    x, streams = normal(1, 128), {"float32": silero().stream(), "int8": silero().quantize("int8", activations).stream()}
    calls = {name: partial(stream.step, x, np.empty((1, 128), "float32")) for name, stream in streams.items()}
    found = medians(calls, seconds)
    return found["int8"] / found["float32"]


def int8_gain(
    rows: Sequence[shapes.Shape], slow: tuple[str, str | None], fast: tuple[str, str | None], seconds: float
) -> float:
    """The geometric mean of slow / fast, each a backend and the activations of its 8-bit weights, or None: float32."""
    ratios = []
    for row in rows:
        calls, x = {}, normal(row.T, row.B, row.I)
        for backend, activations in (slow, fast):
            options: dict[str, Any] = {"bidirectional": row.D == 2, "num_threads": 1, "seed": 0}
            lstm = lk.LSTM(row.I, row.H, row.L, **options, backend=backend)
            net = lstm.quantize("int8", activations) if activations else lstm
            calls[backend, activations] = partial(net, x, out=net(x)[0])
        found = medians(calls, seconds / len(rows))
        ratios.append(found[slow] / found[fast])
    return geometric_mean(ratios)


MEASURES: dict[str, Callable[[float], Iterator[Target]]] = {
    measure.__name__: measure
    for measure in (
        numba,
        special,
        cycles,
        build,
        again,
        step,
        pool,
        lengths,
        ragged,
        ragged_two,
        window,
        command,
        int8,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=MEASURES, help="may be repeated")
    parser.add_argument("--seconds", type=float, default=20, help="to spend on timing each measure (20)")
    options = parser.parse_args()
    for name in options.only or MEASURES:
        with last_cores(2 if name == "ragged_two" else 1):
            for target in MEASURES[name](options.seconds):
                print(target, flush=True)


if __name__ == "__main__":
    main()
