"""Rows of unequal length from files: one machine, then Dask's workers, each the same work.

    python bench/at_scale.py                       # 1,000,000 rows: 1.2 GB of input, made by the script
    python bench/at_scale.py --rows 200000 --rounds 5 --folder /data/tmp
    python bench/at_scale.py --way memmap.*1 --way "2 workers"

Each way gives the output at each row's last step, and all must give the same bits. The ways take turns, round by round,
so that a slow moment of the machine slows all alike. The table has medians. Its last column is the median over the
rounds of the time that one thread or worker took, divided by that of two. "CPU time" is that of the busiest process: on
a machine that others use, it says more than a clock about what free cores would give. ``docs/at_scale.md`` has a run.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import dask.dataframe as dd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, LocalCluster

import lstmkernel as lk
from lstmkernel.dask import score

#: The rows have 4 to 60 steps of I numbers.
I, H = 8, 32
#: Rows in one Parquet file, which is one partition.
FILE_ROWS = 12_500


class Way(NamedTuple):
    """How to get the answer: (rows, H), or the folder of Parquet files with it."""

    name: str
    run: Callable[[], np.ndarray | Path]
    cpu: Callable[[], list[float]]  # seconds of CPU time that each process has taken since it began


class Took(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float  # of the busiest process


def main() -> None:
    arguments = options()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name, clusters() as clients:
        folder = Path(name)
        steps = write_rows(folder, arguments.rows)
        chosen = [way for way in ways(folder, clients) if re.search("|".join(arguments.way), way.name)]
        print(table(in_turns(chosen, arguments.rounds), arguments.rows, steps))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", action="append", default=[], help="only ways whose name has this pattern; repeatable")
    parser.add_argument("--folder", type=Path, help="where the files are written; the system's folder for such files")
    return parser.parse_args()


def write_rows(folder: Path, rows: int) -> int:
    """The same rows as flat.npy and offsets.npy, and as Parquet files. Returns the number of steps."""
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(random.integers(4, 61, rows))])
    flat = np.lib.format.open_memmap(folder / "flat.npy", "w+", np.float32, (int(offsets[-1]), I))
    (folder / "rows").mkdir()
    for start in range(0, rows, FILE_ROWS):
        ends = offsets[start : start + FILE_ROWS + 1]
        some = flat[ends[0] : ends[-1]]
        random.standard_normal(out=some, dtype=np.float32)
        numbers = pa.array(np.asarray(some).reshape(-1))
        of_steps = pa.ListArray.from_arrays(np.arange(0, some.size + 1, I, dtype=np.int32), numbers)
        of_rows = pa.ListArray.from_arrays((ends - ends[0]).astype(np.int32), of_steps)
        file = folder / "rows" / f"{start // FILE_ROWS:05}.parquet"
        pq.write_table(pa.table({"x": of_rows}), file, use_dictionary=False, compression="none")
    np.save(folder / "offsets.npy", offsets)
    flat.flush()
    return int(offsets[-1])


@contextmanager
def clusters() -> Iterator[dict[int, Client]]:
    """One cluster of one worker and one of two, all with one thread. Both live as long as the run."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as one,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as two,
        Client(one, set_as_default=False) as of_one,
        Client(two, set_as_default=False) as of_two,
    ):
        yield {1: of_one, 2: of_two}


def ways(folder: Path, clients: dict[int, Client]) -> list[Way]:
    """What is timed: one thread and two, one worker and two."""
    found = []
    for count in (1, 2):
        name = f"`net.ragged` on a memmap, {count} thread{'s' * (count > 1)}"
        found.append(Way(name, partial(by_ragged, folder, count), lambda: [time.process_time()]))
    for count, client in clients.items():
        name = f"`score` on Parquet, {count} worker{'s' * (count > 1)} of 1 thread"
        run = partial(by_dask, folder, client, folder / f"out{count}")
        found.append(Way(name, run, partial(cpu_of_workers, client)))
    return found


def cpu_of_workers(client: Client) -> list[float]:
    return [seconds for _, seconds in sorted(client.run(time.process_time).items())]


def by_ragged(folder: Path, threads: int) -> np.ndarray:
    """From a memmap, in slices that need little memory."""
    net = lk.LSTM(I, H, num_threads=threads, seed=0)
    flat, offsets = np.load(folder / "flat.npy", mmap_mode="r"), np.load(folder / "offsets.npy")
    last = np.empty((len(offsets) - 1, H), np.float32)
    for start in range(0, len(last), FILE_ROWS):
        ends = offsets[start : start + FILE_ROWS + 1]
        net.ragged(flat[ends[0] : ends[-1]], ends - ends[0], last=True, out=last[start : start + FILE_ROWS])
    return last


def by_dask(folder: Path, client: Client, answers: Path) -> Path:
    """From Parquet to Parquet."""
    shutil.rmtree(answers, ignore_errors=True)
    frame = dd.read_parquet(folder / "rows", dtype_backend="pyarrow")
    written = score(lk.LSTM(I, H, seed=0), frame, column="x", last=True).to_parquet(answers, compute=False)
    client.compute(written.optimize()).result()  # which joins the steps of a partition into one task
    return answers


def in_turns(timed: list[Way], rounds: int) -> dict[str, list[Took]]:
    """What each way took in each round. Raises if two answers differ in a bit."""
    taken: dict[str, list[Took]] = {way.name: [] for way in timed}
    expected = None
    for turn in range(rounds):
        for way in timed:
            cpu, start = way.cpu(), time.perf_counter()
            answer = way.run()
            wall = time.perf_counter() - start
            took = Took(wall, max(after - before for before, after in zip(cpu, way.cpu(), strict=True)))
            taken[way.name].append(took)
            print(f"round {turn + 1}: {way.name}: {took.wall:.1f} s, {took.cpu:.1f} s of CPU time", flush=True)
            if isinstance(answer, Path):
                answer = np.asarray(dd.read_parquet(answer).compute(scheduler="threads"))
            expected = answer if expected is None else expected
            if not np.array_equal(answer, expected):
                raise AssertionError(f"{way.name}: other bits than the first way")
    return taken


def table(taken: dict[str, list[Took]], rows: int, steps: int) -> str:
    """Markdown."""
    lines = [
        f"{rows:,} rows, {steps:,} steps, {I} -> {H}",
        "",
        "| way | rows a second | million steps a second | CPU time, s | times as fast as one |",
        "|---|---:|---:|---:|---:|",
    ]
    one: list[Took] = []
    for name, own in taken.items():
        if ", 1 " in name:
            one = own
        wall, cpu = median(took.wall for took in own), median(took.cpu for took in own)
        ratios = [before.wall / after.wall for before, after in zip(one, own, strict=True)] if one else [1]
        lines.append(f"| {name} | {rows / wall:,.0f} | {steps / wall / 1e6:.2f} | {cpu:.1f} | {median(ratios):.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
