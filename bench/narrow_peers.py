"""peers.py --precision: networks of fewer bits, each with its time and its error on the same data."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any, NamedTuple

from contender_process import Died, Process, write, write_case
from narrow_contenders import FLOAT16, INT8, INT8_FAST, NARROW, NARROW_PEERS, OURS, WIDE

from lstmkernel.workbench import progress
from lstmkernel.workbench.networks import load_sequence, lstms, read_input
from lstmkernel.workbench.shapes import Shape

ROUNDS = 5


class Found(NamedTuple):
    """A contender on one case."""

    seconds: float  # median of all calls
    rms: float  # error of the output against float64: root mean square
    largest: float


Row = dict[str, Found]

#: What of lstmkernel's is compared with the best of which peers.
COMPARED = {
    INT8: tuple(NARROW_PEERS),
    INT8_FAST: tuple(NARROW_PEERS),
    FLOAT16: tuple(WIDE),
}


def measure(case: str, processes: Mapping[str, Process], seconds: float) -> Row:
    """Each contender computes the case once, then all take turns; ``seconds`` for each turn."""
    errors = {name: error for name, process in processes.items() if (error := _error(process, case))}
    times: dict[str, list[float]] = {name: [] for name in errors}
    for _ in range(ROUNDS):
        for name in list(times):
            try:
                times[name] += processes[name].time(seconds)
            except Died as error:
                print(f"{error}: left out", flush=True)
                del times[name]
    return {name: Found(median(taken), *errors[name]) for name, taken in times.items()}


def _error(process: Process, case: str) -> tuple[float, float] | None:
    """Root mean square and largest; None where the contender cannot run the case."""
    try:
        process.prepare(case)
    except (ValueError, Died) as error:
        print(f"{process.contender}: left out, {error}", flush=True)
        return None
    return process.rms, process.largest


def run(
    chosen: Sequence[Shape], own: tuple[str, str, str | None] | None, threads: int, seconds: float
) -> dict[str, Row]:
    """By the name of the shape: random weights and inputs. own: a file of weights, one of x, and a prefix."""
    names = [name for name, contender in NARROW.items() if not contender.missing()]
    processes = {name: Process(name, threads) for name in names}
    rows: dict[str, Row] = {}
    cases = len(chosen) + bool(own)
    turn = seconds / (cases * len(processes) * ROUNDS)
    with tempfile.TemporaryDirectory() as folder, progress.bar() as bar:
        task = bar.add_task("", total=cases)
        if own:
            bar.update(task, description=own[0])
            rows[Path(own[0]).stem] = measure(_case_of_file(*own, folder), processes, turn)
            bar.advance(task)
        for shape in chosen:
            bar.update(task, description=shape.name)
            rows[shape.name] = measure(write(shape, folder, lambda lstm, x: lstm(x)[0]), processes, turn)
            bar.advance(task)
    for process in processes.values():
        process.close()
    return rows


def _case_of_file(weights: str, file: str, prefix: str | None, folder: str) -> str:
    """The first LSTM of a file, on x (T, I) or (T, B, I)."""
    net = load_sequence(weights, prefix)
    x = read_input(file, net)
    return write_case(lstms(net)[0], x if x.ndim == 3 else x[:, None], folder, lambda lstm, x: lstm(x)[0])


# ---------------------------------------------------------------- what it prints


def ratios(rows: Mapping[str, Row], ours: str, peers: Iterable[str]) -> dict[str, float]:
    """For each case the best peer's time over ours."""
    found = {}
    for case, row in rows.items():
        there = [row[name].seconds for name in peers if name in row]
        if there and ours in row:
            found[case] = min(there) / row[ours].seconds
    return found


def markdown(rows: Mapping[str, Row]) -> str:
    """Microseconds, and the rms error of the output, of every contender on every case; then the ratios."""
    names = [name for name in NARROW if any(name in row for row in rows.values())]
    compared = {ours: ratios(rows, ours, peers) for ours, peers in COMPARED.items()}
    against_float32 = {ours: ratios(rows, ours, (OURS,)) for ours in COMPARED}
    lines = ["| case | " + " | ".join(f"{name}, us (rms error)" for name in names) + " |"]
    lines += ["|---" * (1 + len(names)) + "|"]
    for case, row in rows.items():
        cells = [f"{row[name].seconds * 1e6:,.1f} ({row[name].rms:.1e})" if name in row else "" for name in names]
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    lines += ["", "| case | " + " | ".join(f"best peer / {ours} | float32 / {ours}" for ours in COMPARED) + " |"]
    lines += ["|---" + "|---:" * (2 * len(COMPARED)) + "|"]
    pairs = [each for ours in COMPARED for each in (compared[ours], against_float32[ours])]
    for case in rows:
        lines.append(f"| {case} | " + " | ".join(_ratio(each.get(case)) for each in pairs) + " |")
    means = [geometric_mean(each.values()) if each else None for each in pairs]
    lines.append("| geometric mean | " + " | ".join(map(_ratio, means)) + " |")
    return "\n".join(lines)


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value >= 1 else f"**{value:.2f}**"


def as_json(rows: Mapping[str, Row]) -> dict[str, Any]:
    return {case: {name: found._asdict() for name, found in row.items()} for case, row in rows.items()}


def plot(rows: Mapping[str, Row], file: str) -> None:
    """Error against time, both relative, a dot for each contender and case, on log axes."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    axes.set_prop_cycle(color=plt.get_cmap("tab20").colors[::2] + plt.get_cmap("tab20b").colors[::4])
    for name in NARROW:
        dots = [(row[name].seconds / row[OURS].seconds, row[name].rms) for row in rows.values() if name in row]
        if dots:
            x, y = zip(*dots, strict=True)
            marker = "o" if name.startswith(OURS) else "x"
            (line,) = axes.loglog(x, y, marker, alpha=0.35)
            middle = geometric_mean(x), geometric_mean(y)
            axes.loglog(*middle, marker, color=line.get_color(), markersize=11, markeredgewidth=2, label=name)
    axes.set_xlabel("time, as a multiple of lstmkernel's float32 (left is faster)")
    axes.set_ylabel("rms error of the output (down is better)")
    axes.set_title("A small dot for each case, a large one for the geometric mean")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=150)


def report(rows: Mapping[str, Row], about: Mapping[str, Any], json_file: str | None, plot_file: str | None) -> None:
    print(markdown(rows))
    if json_file:
        Path(json_file).write_text(json.dumps({**about, "rows": as_json(rows)}, indent=1) + "\n")
    if plot_file:
        plot(rows, plot_file)
