"""The network as workers hold it: each has one copy, and its calls take no more threads than a task may."""

from __future__ import annotations

from copy import copy
from typing import Any

from dask.base import tokenize
from dask.delayed import Delayed, delayed

from lstmkernel.engine import arguments
from lstmkernel.engine.at_once import engines_of, replace_engines
from lstmkernel.engine.network import Network
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

Net = LSTM | Stack


class WorkerNetwork:
    """A network as it was when this was made, whose calls take at most ``num_threads`` threads.

    ``net`` is what runs. A pickle holds the network as it was given, and the bound.
    """

    def __init__(self, given: Net, num_threads: int) -> None:
        # Copies: later load_state_dicts of the caller change neither what runs nor a pickle.
        self.given, self.num_threads, self.net = copy(given), num_threads, copy(given)
        layers = self.net.layers if isinstance(self.net, Stack) else (self.net,)
        replace_engines(layers, [_bounded(engine, num_threads) for engine in engines_of(layers)])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.given, self.num_threads)


def _bounded(engine: Any, num_threads: int) -> Any:
    """The same engine on at most that many threads. Heads run on the calling thread."""
    return engine.on(engine.backend, num_threads) if isinstance(engine, Network) else engine


def on_workers(net: Net, num_threads: int | None) -> Delayed:
    """The network as one node of the graph, which all tasks name. A worker fetches it for its first task and keeps it.

    Its name comes from its content: the same network gives the same node, and results can be found again by it.
    """
    if not isinstance(net, LSTM | Stack):
        raise TypeError(f"net: expected an LSTM or a Stack, got {type(net).__name__}; Stack([layer]) makes one")
    threads = arguments.num_threads(num_threads)
    if threads is None:
        raise TypeError("num_threads: expected an integer, the threads that one task may take; got None")
    held = WorkerNetwork(net, threads)
    return delayed(held, name=f"lstm_network-{tokenize(held)}", traverse=False)
