"""lstmkernel beside PyTorch in training: forward and backward of the same network: errors, time and memory.

    python bench/training.py                          # six shapes on one thread: a Markdown table
    python bench/training.py --threads 1,2 --seconds 60
    python bench/training.py --shape 16,100,40,128,2

Each has its own process, on as many cores as it has threads. They take turns round by round; times are medians of all
calls. Each is first checked against the float64 definition. Memory is the peak of the first call in a new process,
without x and the weights.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from datetime import date
from statistics import geometric_mean, median
from time import sleep
from typing import NamedTuple

from contender_process import Process, write
from peers import QUIET_SECONDS, ROUNDS, thread_counts
from trainers import TRAINERS, d_out_for

import lstmkernel as lk
from lstmkernel.host import numbers_text
from lstmkernel.workbench import progress, shapes
from lstmkernel.workbench.shapes import Shape

SHAPES = ("32,64,64,128", "8,256,256,256,2", "64,128,96,96,5", "50,512,1,40", "1,128,128,128,2", "32,64,512,512")


class Row(NamedTuple):
    shape: Shape
    seconds: list[float]  # of each trainer
    memory: list[int]  # bytes


def write_case(shape: Shape, folder: str) -> str:
    """A file with weights, x, and dL/dx of the float64 definition."""
    return write(shape, folder, lambda lstm, x: lstm.backward(lstm.forward(x)[2], d_out_for(lstm, x))["x"])


def measure(shape: Shape, processes: Sequence[Process], seconds: float, pause: float) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        case = write_case(shape, folder)
        for process in processes:
            process.prepare(case)
        memory = [weighed(process.contender, case) for process in processes]
    times: list[list[float]] = [[] for _ in processes]
    for _ in range(ROUNDS):
        for process, taken in zip(processes, times, strict=True):
            sleep(pause)
            taken += process.time(seconds)
    return Row(shape, [median(taken) for taken in times], memory)


def weighed(trainer: str, case: str) -> int:
    process = Process(trainer, 1)
    found = process.weigh(case)
    process.close()
    return found


def run(threads: int, chosen: Sequence[Shape], seconds: float) -> list[Row]:
    processes = [Process(name, threads) for name in TRAINERS]
    turn = seconds / (len(chosen) * len(processes) * ROUNDS)
    rows = []
    with progress.bar() as bar:
        task = bar.add_task("", total=len(chosen))
        for shape in chosen:
            bar.update(task, description=f"{shape.name}, threads: {threads}")
            rows.append(measure(shape, processes, turn, QUIET_SECONDS if threads > 1 else 0))
            bar.advance(task)
    for process in processes:
        process.close()
    return rows


def markdown(rows: Sequence[Row]) -> str:
    lines = [
        "| B,T,I,H,L | lstmkernel | PyTorch | times PyTorch | memory | PyTorch's |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for shape, (ours, theirs), (our_memory, their_memory) in rows:
        times = f"{numbers_text.duration(ours)} | {numbers_text.duration(theirs)} | {theirs / ours:.2f}"
        lines.append(f"| {shape.sizes()} | {times} | {our_memory / 1e6:.1f} MB | {their_memory / 1e6:.1f} MB |")
    ratios = [theirs / ours for _, (ours, theirs), _ in rows]
    return "\n".join([*lines, "", f"Geometric mean {geometric_mean(ratios):.2f}, least {min(ratios):.2f}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", type=shapes.parse, help="B,T,I,H[,L[,D]]; may be repeated")
    parser.add_argument("--threads", type=thread_counts, default=[1], help="one or more numbers, as 1,2 (1)")
    parser.add_argument("--seconds", type=float, default=60, help="to spend on timing, in all (60)")
    options = parser.parse_args()
    if missing := {package for trainer in TRAINERS.values() for package in trainer.missing()}:
        parser.exit(2, f"needs {', '.join(missing)}\n")
    chosen = options.shape or [shapes.parse(sizes) for sizes in SHAPES]
    for threads in options.threads:
        rows = run(threads, chosen, options.seconds / len(options.threads))
        plural = "one thread" if threads == 1 else f"{threads} threads"
        print(f"\nForward and backward, float32, {plural}, {lk.info()['cpu']}, {date.today()}\n\n{markdown(rows)}")


if __name__ == "__main__":
    main()
