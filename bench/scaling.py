"""lstmkernel and its peers from one thread to all cores: what each further thread gives.

    python bench/scaling.py                                     # every shape of the grid: 1, 2, 4, ... threads
    python bench/scaling.py --shape pyannote --threads 1,2 --seconds 30
    python bench/scaling.py --neighbours 1 --json scaling.json --plot scaling.png

Every contender has a process of its own for each number of threads, on as many cores. All of them take turns, round by
round, so that a slow moment of the machine slows all alike. Each is first checked against the float64 definition. With
--neighbours K, K other processes spin meanwhile, one on each of the first K cores. The contenders get the last cores:
they meet a neighbour only where they have more threads than there are free cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from contender_process import Process
from contenders import CONTENDERS, OURS, PEERS
from peers import QUIET_SECONDS, ROUNDS, in_rounds, machine, thread_counts, write_case
from scaling_report import Key, Scaling, as_json, markdown

import lstmkernel as lk
from lstmkernel.host import cores
from lstmkernel.tuning import accuracy
from lstmkernel.workbench import progress, shapes
from lstmkernel.workbench.shapes import Shape


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that spin, each on its own one of the first cores that this process may use."""
    spinning = []
    try:
        for core in sorted(os.sched_getaffinity(0))[:count] if count else ():  # macOS has no affinity
            spin = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
            spinning.append(subprocess.Popen([sys.executable, "-c", spin]))
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def prepared(
    shape: Shape, processes: dict[Key, Process], advance: Callable[[], object]
) -> tuple[dict[Key, float], dict[Key, str]]:
    """The error of each process that can run the shape, and why the others cannot.

    lstmkernel's must be within the tolerance.
    """
    errors, failed = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        case = write_case(shape, folder)
        for (name, threads), process in processes.items():
            try:
                errors[name, threads] = process.prepare(case)
            except ValueError as error:
                if name == OURS:
                    raise SystemExit(f"{OURS} on {shape.name}, threads: {threads}: {error}") from error
                failed[name, threads] = str(error)
            advance()
    for (name, threads), found in errors.items():
        if name == OURS and not accuracy.agrees(found):
            raise SystemExit(f"{OURS} on {shape.name}, threads: {threads}: {found:.3g} times the tolerance off")
    return errors, failed


def measure(
    shape: Shape, processes: dict[Key, Process], pause: float, seconds: float, advance: Callable[[], object]
) -> Scaling:
    """Check all processes, then time those that can run the shape, in rounds; ``seconds`` for each turn."""
    errors, failed = prepared(shape, processes, advance)
    return Scaling(shape, in_rounds(processes, errors, pause, seconds, advance), failed)


def run(names: Sequence[str], counts: Sequence[int], chosen: Sequence[Shape], seconds: float) -> list[Scaling]:
    """All shapes; ``seconds`` of timing in all."""
    processes = {(name, threads): Process(name, threads) for threads in counts for name in names}
    turn = seconds / (len(chosen) * len(processes) * ROUNDS)
    found = []
    with progress.bar() as bar:
        task = bar.add_task("", total=len(chosen) * len(processes) * (1 + ROUNDS))
        for shape in chosen:
            bar.update(task, description=shape.name)
            found.append(measure(shape, processes, QUIET_SECONDS, turn, lambda: bar.advance(task)))
    for process in processes.values():
        process.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", type=shapes.parse, help="a name of the grid, or B,T,I,H[,L[,D]]")
    parser.add_argument("--threads", type=thread_counts, help="numbers of threads, as 1,2,4 (1, 2, 4, ... all cores)")
    parser.add_argument("--neighbours", type=int, default=0, metavar="K", help="processes that spin meanwhile (0)")
    parser.add_argument("--ours", action="store_true", help="lstmkernel alone, without peers")
    parser.add_argument("--seconds", type=float, default=240, help="to spend on timing, in all (240)")
    parser.add_argument("--json", metavar="FILE", help="also write all that was measured")
    parser.add_argument("--plot", metavar="FILE", help="also draw it; needs matplotlib")
    options = parser.parse_args()
    if not 0 <= options.neighbours <= cores.available():
        parser.error(f"--neighbours: expected 0 to {cores.available()}, the cores here, got {options.neighbours}")
    if options.neighbours and not hasattr(os, "sched_setaffinity"):
        parser.error("--neighbours: expected a system that binds processes to cores, as Linux; leave it out here")
    if options.plot:
        import scaling_plot  # fails here, before an hour of measuring, if matplotlib is missing
    peers = () if options.ours else PEERS
    missing = {name: CONTENDERS[name].missing() for name in peers if CONTENDERS[name].missing()}
    names = [OURS, *(name for name in peers if name not in missing)]
    counts = sorted({1, *(options.threads or cores.doubling(cores.available()))})
    with neighbours(options.neighbours):
        found = run(names, counts, options.shape or shapes.GRID, options.seconds)
    beside = f", beside {options.neighbours} that spin" if options.neighbours else ""
    title = f"{lk.info()['cpu']}, {date.today()}, float32{beside}"
    print(f"\n{title}\n\n{markdown(found)}")
    for name, packages in missing.items():
        print(f"- {name} left out, not installed: {', '.join(packages)}")
    if options.json:
        about = {**machine(), "neighbours": options.neighbours, "not_installed": missing}
        Path(options.json).write_text(json.dumps({**about, "shapes": as_json(found)}, indent=2))
    if options.plot:
        scaling_plot.draw(found, title, options.plot)


if __name__ == "__main__":
    main()
