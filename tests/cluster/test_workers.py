"""A real cluster of two processes of one thread: what goes to them, names of tasks, what one that dies costs."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import networks
import numpy as np
import pytest
from helpers import assert_same_bits

import lstmkernel as lk

pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
import dask.array as da  # noqa: E402
import dask.bag as db  # noqa: E402

from lstmkernel.dask import gradients, score  # noqa: E402
from lstmkernel.dask.worker_network import WorkerNetwork  # noqa: E402

#: No test may wait longer, whatever hangs.
SECONDS = 120


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    # silence_logs: a worker that is killed is news for the log.
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs="CRITICAL"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def count_arrivals() -> None:
    """In a worker: ``WorkerNetwork.arrived`` counts those that are made there."""
    make = WorkerNetwork.__init__
    WorkerNetwork.arrived = 0

    def counted(self: WorkerNetwork, *arguments: Any) -> None:
        WorkerNetwork.arrived += 1
        make(self, *arguments)

    WorkerNetwork.__init__ = counted


def arrivals() -> int:
    return WorkerNetwork.arrived


def slow(block: np.ndarray) -> np.ndarray:
    time.sleep(0.02)
    return block


def test_the_network_goes_to_each_worker_once(client: Any, random: np.random.Generator) -> None:
    """Also for all of an array's 20 tasks and a bag's; the dashboard shows names."""
    client.run(count_arrivals)
    net = networks.with_head(networks.make("two directions"))
    x = random.standard_normal((6, 40, 5)).astype("f")
    lazy = score(net, da.from_array(x, chunks=(6, 2, 5)).map_blocks(slow, dtype="f"))
    rows = score(net, db.from_sequence([x[:t, 0] for t in range(6)], npartitions=3), last=True)
    got, last = client.gather(client.compute([lazy, rows]), asynchronous=False)
    assert_same_bits(got, net(x)[0])
    for t in range(1, 6):
        assert_same_bits(last[t], net(x[:t, 0])[0][-1])
    assert set(client.run(arrivals).values()) == {1}
    prefixes = client.cluster.scheduler.task_prefixes
    assert {"lstm_score", "lstm_network"} <= set(prefixes)


def logged(block: np.ndarray, folder: str, block_info: Any = None) -> np.ndarray:
    """Leaves a file that says which block this process ran, and takes a while."""
    (_, place, _) = block_info[0]["chunk-location"]
    (Path(folder) / f"{place}-{os.getpid()}-{uuid4().hex}").touch()
    time.sleep(0.1)
    return block


def runs_by_block(folder: Path) -> dict[int, list[int]]:
    """The processes that ran each block."""
    runs = defaultdict(list)
    for file in folder.iterdir():
        block, process, _ = file.name.split("-")
        runs[int(block)].append(int(process))
    return runs


def test_a_killed_worker_costs_what_it_had(client: Any, random: np.random.Generator, tmp_path: Path) -> None:
    """The bits are the same, and little runs again: its own blocks, and maybe one of another worker."""
    net = networks.make("two layers")
    x = random.standard_normal((6, 40, 5)).astype("f")
    blocks = da.from_array(x, chunks=(6, 2, 5)).map_blocks(
        logged, str(tmp_path), dtype="f", meta=np.empty((0, 0, 0), "f")
    )
    victim = next(iter(client.run(os.getpid).values()))
    running = client.compute(score(net, blocks))
    until = time.monotonic() + SECONDS
    while sum(victim in runs for runs in runs_by_block(tmp_path).values()) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(victim, signal.SIGKILL)
    assert_same_bits(running.result(SECONDS), net(x)[0])
    runs = runs_by_block(tmp_path)
    assert set(runs) == set(range(20))
    again = [processes for processes in runs.values() if len(processes) > 1]
    assert again, "nothing ran on the worker that was killed"
    assert any(victim in processes for processes in again)
    assert len(again) <= len(runs) / 2


def halved_squares(out: np.ndarray, state: Any, targets: np.ndarray) -> tuple[float, np.ndarray]:
    error = out - targets
    return float(np.sum(error**2) / 2), error


def test_gradients_do_not_depend_on_the_workers(client: Any, random: np.random.Generator) -> None:
    """The same bits from two workers, which take what they get, and from one thread."""
    net = networks.make("two layers")
    x, y = random.standard_normal((6, 40, 5)).astype("f"), random.standard_normal((6, 40, 9)).astype("f")
    lazy = gradients(net, da.from_array(x, chunks=(6, 2, 5)), halved_squares, da.from_array(y, chunks=5))
    (value, got), (expected, alone) = client.compute(lazy).result(SECONDS), lazy.compute(scheduler="sync")
    assert value == expected
    for name in net.state_dict():
        assert_same_bits(got[name], alone[name], name)


@pytest.mark.slow
def test_the_process_scheduler(random: np.random.Generator) -> None:
    """The one that bags take of themselves."""
    net = lk.LSTM(3, 4, seed=0)
    rows = [random.standard_normal((t, 3)).astype("f") for t in (3, 1, 2)]
    got = score(net, db.from_sequence(rows, npartitions=1)).compute(scheduler="processes", num_workers=1)
    for out, row in zip(got, rows, strict=True):
        assert_same_bits(out, net(row)[0])
