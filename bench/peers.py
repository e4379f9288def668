"""lstmkernel beside PyTorch, ONNX Runtime, OpenVINO, JAX and NumPy: the same weights and input, checked, then timed.

    python bench/peers.py                                   # every shape of the grid, one thread: a Markdown table
    python bench/peers.py --shape silero_step --shape pyannote --seconds 20
    python bench/peers.py --threads 1,2 --json peers.json --plot peers.png
    python bench/peers.py --threads 16 --peer PyTorch --peer "ONNX Runtime"
    python bench/peers.py --precision                       # float16 and int8, with their errors

Each contender has its own process, on as many cores as it has threads. They take turns round by round, so a slow phase
of the machine slows all of them. Each is first checked against the float64 definition. A contender that is not
installed is left out, and the output says so.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

from contender_process import Process, write
from contenders import CONTENDERS, OURS
from peers_report import ALONE, Row, Run, Timing, heading, markdown

import lstmkernel as lk
from lstmkernel.host import cores
from lstmkernel.tuning import accuracy
from lstmkernel.workbench import progress, shapes
from lstmkernel.workbench.shapes import Shape

Key = TypeVar("Key")

ROUNDS = 5
#: A pause before each turn, in which the idle threads of other pools stop spinning: with Intel's OpenMP after 0.2 s.
#: With one thread there are no pools, and no pause.
QUIET_SECONDS = 0.25


def write_case(shape: Shape, folder: str) -> str:
    """A file with weights, x, and the output of the float64 definition."""
    return write(shape, folder, lambda lstm, x: lstm(x)[0])


def measure(
    shape: Shape, processes: dict[str, Process], pause: float, seconds: float, advance: Callable[[], object]
) -> Row:
    """Check all contenders, then time those that can run the case, in rounds; ``seconds`` for each turn."""
    errors, failed = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        case = write_case(shape, folder)
        for name, process in processes.items():
            try:
                errors[name] = process.prepare(case)
            except ValueError as error:
                failed[name] = str(error)
            advance()
    for name in {OURS, ALONE} & {*processes}:
        if name in failed or not accuracy.agrees(errors[name]):
            raise SystemExit(
                f"{name} on {shape.name}: {failed.get(name) or f'{errors[name]:.3g} times the tolerance off'}"
            )
    return Row(shape, in_rounds(processes, errors, pause, seconds, advance), failed)


def in_rounds(
    processes: Mapping[Key, Process],
    errors: Mapping[Key, float],
    pause: float,
    seconds: float,
    advance: Callable[[], object],
) -> dict[Key, Timing]:
    """Time the processes that have an error, which can run the case; ``seconds`` for each turn."""
    times: dict[Key, list[float]] = {key: [] for key in errors}
    for _ in range(ROUNDS):
        for key, taken in times.items():
            sleep(pause)
            taken += processes[key].time(seconds)
            advance()
    return {key: Timing.of(taken, errors[key]) for key, taken in times.items()}


def run(threads: int, names: Sequence[str], chosen: Sequence[Shape], seconds: float) -> Run:
    """All shapes with so many threads; ``seconds`` of timing in all."""
    processes = {name: Process(name, threads) for name in names}
    if threads > 1:
        processes = {OURS: processes.pop(OURS), ALONE: Process(OURS, 1), **processes}
    turn = seconds / (len(chosen) * len(processes) * ROUNDS)
    pause = QUIET_SECONDS if threads > 1 else 0
    rows = []
    with progress.bar() as bar:
        task = bar.add_task("", total=len(chosen) * len(processes) * (1 + ROUNDS))
        for shape in chosen:
            bar.update(task, description=f"{shape.name}, threads: {threads}")
            rows.append(measure(shape, processes, pause, turn, lambda: bar.advance(task)))
    for process in processes.values():
        process.close()
    return Run(threads, list(processes), rows)


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """When and on what it was measured, for JSON."""
    packages = sorted({package for contender in CONTENDERS.values() for package in contender.packages})
    return {
        "date": date.today().isoformat(),
        "machine": lk.info(),
        "versions": {package: installed_version(package) for package in ["lstmkernel", "numpy", *packages]},
        "dtype": "float32",
        "rounds": ROUNDS,
    }


def plain(runs: Sequence[Run], missing: dict[str, list[str]]) -> dict[str, Any]:
    """Everything, for JSON."""
    return {**machine(), "not_installed": missing, "runs": [run.as_json() for run in runs]}


def thread_counts(text: str) -> list[int]:
    """ "1,2" """
    counts = [int(part) if part.isdecimal() else 0 for part in text.split(",")]
    if not all(0 < count <= cores.available() for count in counts):
        raise argparse.ArgumentTypeError(
            f"expected numbers of threads from 1 to {cores.available()}, the cores here, got {text!r}"
        )
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", type=shapes.parse, help="a name of the grid, or B,T,I,H[,L[,D]]")
    parser.add_argument("--threads", type=thread_counts, default=[1], help="one or more numbers, as 1,2 (1)")
    parser.add_argument(
        "--peer", action="append", choices=[name for name in CONTENDERS if name != OURS], help="only this one (all)"
    )
    parser.add_argument("--precision", action="store_true", help="networks of fewer bits, with their errors")
    parser.add_argument("--weights", metavar="FILE", help="with --precision: a network whose LSTM is one more case")
    parser.add_argument("--prefix", help="which LSTM of a larger model")
    parser.add_argument("--input", metavar="FILE", help="its x (T, I) or (T, B, I) as .npy")
    parser.add_argument("--seconds", type=float, default=120, help="to spend on timing, in all (120)")
    parser.add_argument("--json", metavar="FILE", help="also write all that was measured")
    parser.add_argument("--plot", metavar="FILE", help="also draw it; needs matplotlib")
    options = parser.parse_args()
    if options.plot:
        import peers_plot  # fails here, before an hour of measuring, if matplotlib is missing
    asked = [OURS, *(options.peer or CONTENDERS)]
    missing = {name: CONTENDERS[name].missing() for name in asked if CONTENDERS[name].missing()}
    names = [name for name in CONTENDERS if name in asked and name not in missing]
    chosen = options.shape or shapes.GRID
    if options.precision:
        import narrow_peers

        if bool(options.weights) != bool(options.input):
            parser.error("expected --weights and --input together")
        own = (options.weights, options.input, options.prefix) if options.weights else None
        for threads in options.threads:
            rows = narrow_peers.run(chosen, own, threads, options.seconds)
            print(f"\nThreads: {threads}, {lk.info()['cpu']}, {date.today()}\n")
            narrow_peers.report(rows, {**machine(), "threads": threads}, options.json, options.plot)
        return
    runs = []
    for threads in options.threads:
        runs.append(run(threads, names, chosen, options.seconds / len(options.threads)))
        print(f"\n{heading(threads)}, {lk.info()['cpu']}, {date.today()}\n\n{markdown(runs[-1])}")
    for name, packages in missing.items():
        print(f"- {name} left out, not installed: {', '.join(packages)}")
    if options.json:
        Path(options.json).write_text(json.dumps(plain(runs, missing), indent=2))
    if options.plot:
        peers_plot.draw(runs, f"{lk.info()['cpu']}, {date.today()}", options.plot)


if __name__ == "__main__":
    main()
