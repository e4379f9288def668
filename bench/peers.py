"""lstmkernel beside PyTorch and ONNX Runtime: the same weights and input, each checked against float64, then timed.

    python bench/peers.py                    # the shapes of `lstmkernel compare`; prints a Markdown table
    python bench/peers.py --shape silero_step --shape pyannote --seconds 20

Each contender has a process of its own, on one core with one thread, and they take turns round by round, so that a slow
spell of the machine falls on all alike. A contender that is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import geometric_mean, median
from time import perf_counter
from typing import Any

import numpy as np

import lstmkernel as lk
from lstmkernel.cli import shapes

ROUNDS = 7
TOLERANCE = 1e-5
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}

Call = Callable[[], np.ndarray]


def numpy_call(lstm: lk.LSTM, x: np.ndarray) -> Call:
    return lstmkernel_call(lk.LSTM.from_config({**lstm.config(), "backend": "numpy"}, lstm.state_dict()), x)


def lstmkernel_call(lstm: lk.LSTM, x: np.ndarray) -> Call:
    return lambda: lstm(x)[0]


def torch_call(lstm: lk.LSTM, x: np.ndarray) -> Call:
    import torch

    torch.set_num_threads(1)
    module = torch.nn.LSTM(lstm.input_size, lstm.hidden_size, lstm.num_layers, bidirectional=lstm.bidirectional)
    module.load_state_dict({name: torch.tensor(value) for name, value in lstm.state_dict().items()})
    module.requires_grad_(False)
    tensor = torch.from_numpy(x)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return module(tensor)[0].numpy()

    return call


def onnxruntime_call(lstm: lk.LSTM, x: np.ndarray) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_model(lstm), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["out"], {"x": x})[0]


def onnx_model(lstm: lk.LSTM) -> bytes:
    """One LSTM node a layer, its directions side by side again behind it. ONNX orders gates i, o, f, c."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    H, D, named = lstm.hidden_size, lstm.shape.directions, lstm.state_dict()

    def gates(name: str) -> np.ndarray:
        return named[name].reshape(4, H, -1)[[0, 3, 1, 2]].reshape(4 * H, -1)

    nodes, constants, below = [], [numpy_helper.from_array(np.array([0, 0, D * H]), "merged")], "x"
    for layer in range(lstm.num_layers):
        ends = [lstm.shape.suffix(layer, direction) for direction in range(D)]
        weights = {
            f"W{layer}": [gates(f"weight_ih{end}") for end in ends],
            f"R{layer}": [gates(f"weight_hh{end}") for end in ends],
            f"B{layer}": [np.concatenate([gates(f"bias_ih{end}"), gates(f"bias_hh{end}")])[:, 0] for end in ends],
        }
        constants += [numpy_helper.from_array(np.stack(parts), name) for name, parts in weights.items()]
        above = "out" if layer == lstm.num_layers - 1 else f"out{layer}"
        way = "bidirectional" if D == 2 else "forward"
        nodes += [
            helper.make_node("LSTM", [below, *weights], [f"Y{layer}"], hidden_size=H, direction=way),
            helper.make_node("Transpose", [f"Y{layer}"], [f"Z{layer}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"Z{layer}", "merged"], [above]),
        ]
        below = above
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", lstm.input_size])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["T", "B", D * H])]
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


#: Name, the packages it needs, and how to prepare a call.
CONTENDERS: dict[str, tuple[tuple[str, ...], Callable[[lk.LSTM, np.ndarray], Call]]] = {
    "lstmkernel": ((), lstmkernel_call),
    "PyTorch": (("torch",), torch_call),
    "ONNX Runtime": (("onnxruntime", "onnx"), onnxruntime_call),
    "NumPy": ((), numpy_call),
}


def work(contender: str) -> None:
    """A contender's process: for each line {"problem": file, "seconds": s}, the median seconds of a call."""
    calls: dict[str, Call] = {}
    for line in sys.stdin:
        order = json.loads(line)
        file = order["problem"]
        if file not in calls:
            with np.load(file) as data:
                config, x, expected = json.loads(str(data["config"])), data["x"], data["expected"]
                lstm = lk.LSTM.from_config(config, {name: data[name] for name in data if name.startswith(("w", "b"))})
            call = calls[file] = CONTENDERS[contender][1](lstm, x)
            error = np.abs(call() - expected) / (TOLERANCE * (1 + np.abs(expected)))
            if not error.max() <= 1:
                raise SystemExit(f"{contender}: wrong by {error.max():.3g} times the tolerance")
        print(json.dumps(timed(calls[file], order["seconds"])), flush=True)


def timed(call: Call, seconds: float) -> float:
    times, end = [], perf_counter() + seconds
    while len(times) < 3 or perf_counter() < end:
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return median(times)


def write_problem(shape: shapes.Shape, folder: str) -> str:
    """Weights, input, and the output by the float64 definition."""
    lstm = lk.LSTM(shape.I, shape.H, shape.L, bidirectional=shape.D == 2, seed=0)
    x = np.random.default_rng(1).standard_normal((shape.T, shape.B, shape.I), dtype="float32")
    reference = lk.LSTM.from_config({**lstm.config(), "dtype": "float64", "backend": "numpy"}, lstm.state_dict())
    file = str(Path(folder) / f"{shape.name}.npz")
    np.savez(file, config=json.dumps(lstm.config()), x=x, expected=reference(x)[0], **lstm.state_dict())
    return file


def start(contender: str) -> subprocess.Popen[str]:
    """On the last core that this process may use."""
    command = [sys.executable, __file__, "--contender", contender]
    if hasattr(os, "sched_getaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD}
    )


def ask(process: subprocess.Popen[str], problem: str, seconds: float) -> float:
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps({"problem": problem, "seconds": seconds}) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise SystemExit("a contender failed; its message is above")
    return float(json.loads(answer))


def table(results: dict[str, dict[str, float]], contenders: list[str]) -> str:
    """Markdown: microseconds, and how many times as fast lstmkernel is as the fastest and as each other."""
    others = contenders[1:]
    lines = [f"| | {' | '.join(f'{name}, us' for name in contenders)} | {' | '.join(f'x {name}' for name in others)} |"]
    lines.append("|---|" + "---:|" * (len(contenders) + len(others)))
    for shape, times in results.items():
        cells = [f"{times[name] * 1e6:.4g}" for name in contenders]
        cells += [f"{times[name] / times[contenders[0]]:.2f}" for name in others]
        lines.append(f"| {shape} | {' | '.join(cells)} |")
    means = [geometric_mean(times[name] / times[contenders[0]] for times in results.values()) for name in others]
    lines.append(f"| geometric mean | {'| ' * len(contenders)}{' | '.join(f'{mean:.2f}' for mean in means)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", type=shapes.parse, help="a name of the grid, or B,T,I,H[,L[,D]]")
    parser.add_argument("--seconds", type=float, default=120, help="to spend on timing (120)")
    parser.add_argument("--json", metavar="FILE", help="also write the seconds of every contender and shape")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        work(arguments.contender)
        return
    chosen = arguments.shape or shapes.DEFAULT
    missing = {name: [p for p in packages if find_spec(p) is None] for name, (packages, _) in CONTENDERS.items()}
    contenders = [name for name in CONTENDERS if not missing[name]]
    processes = {name: start(name) for name in contenders}
    share = arguments.seconds / (len(chosen) * len(contenders) * ROUNDS)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for shape in chosen:
            problem = write_problem(shape, folder)
            rounds = [{name: ask(p, problem, share) for name, p in processes.items()} for _ in range(ROUNDS)]
            results[f"{shape.name} {shape.sizes()}"] = {name: median(r[name] for r in rounds) for name in contenders}
            print(f"{shape.name} done", file=sys.stderr)
    for process in processes.values():
        process.communicate()
    if arguments.json:
        plain: dict[str, Any] = {"machine": lk.info(), "seconds": results}
        Path(arguments.json).write_text(json.dumps(plain, indent=2))
    print(table(results, contenders))
    for name, packages in missing.items():
        if packages:
            print(f"\n{name} left out: not installed: {', '.join(packages)}")


if __name__ == "__main__":
    main()
