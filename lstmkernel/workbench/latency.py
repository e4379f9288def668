"""How long each of many thousand calls takes: every call is timed alone, and the subjects take turns."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from time import perf_counter
from typing import NamedTuple

import numpy as np

from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack
from lstmkernel.workbench.shapes import BY_NAME, GRID, Shape

#: Numbers of streams in a pool; samples of a block of audio, and samples a second.
POOLS = (1, 8, 64, 1024)
BLOCKS, SAMPLE_RATE = (64, 128, 512), 48_000
#: The shapes that pools and audio use.
POOLED, AUDIO = "silero_step", ("nam_h16", "proteus_h40")

#: A subject runs for about so long before the next one has its turn.
TURN_SECONDS = 0.02

STEPS, STREAMS, SOUND = "one step", "pools", "audio"


class Subject(NamedTuple):
    """A call that production repeats without end."""

    kind: str
    name: str
    sizes: str
    call: Callable[[], object]
    streams: int = 1  # that one call advances
    audio_seconds: float | None = None  # that one call processes: the next block comes after so long


class Latency(NamedTuple):
    """Seconds of a subject's calls."""

    subject: Subject
    calls: int
    p50: float
    p99: float
    p999: float
    most: float
    times: tuple[float, ...]  # sorted

    @classmethod
    def of(cls, subject: Subject, times: Sequence[float]) -> Latency:
        """times: of every call, in any order."""
        ordered = tuple(sorted(times))
        p50, p99, p999 = (ordered[ceil(len(ordered) * share) - 1] for share in (0.5, 0.99, 0.999))
        return cls(subject, len(ordered), p50, p99, p999, ordered[-1], ordered)

    @property
    def missed(self) -> int:
        """Calls that took longer than the audio that they processed."""
        deadline = self.subject.audio_seconds
        return 0 if deadline is None else len(self.times) - bisect_right(self.times, deadline)

    @property
    def missed_an_hour(self) -> float:
        """So many of an hour's blocks; where no call was late, one call would have been that many."""
        assert self.subject.audio_seconds is not None
        return max(self.missed, 1) / self.calls * 3600 / self.subject.audio_seconds

    def as_json(self) -> dict[str, object]:
        subject = self.subject
        return {
            **{field: getattr(subject, field) for field in ("kind", "name", "sizes", "streams", "audio_seconds")},
            **{field: getattr(self, field) for field in ("calls", "p50", "p99", "p999")},
            "max": self.most,
            **({} if subject.audio_seconds is None else {"missed": self.missed}),
        }


def subjects(backend: str) -> list[Subject]:
    """Every shape of one step in the grid, pools of one network, and audio in blocks; on one thread."""
    steps = [_step(shape, backend) for shape in GRID if shape.T == 1]
    pools = [_pool(BY_NAME[POOLED], count, backend) for count in POOLS]
    return [*steps, *pools, *(_block(BY_NAME[name], size, backend) for name in AUDIO for size in BLOCKS)]


def subjects_of(net: LSTM | Stack, name: str, blocks: Sequence[int], rate: float) -> list[Subject]:
    """A network of one's own in blocks of so many steps, of which ``rate`` come a second; on one thread."""
    random = np.random.default_rng(0)
    found = []
    for steps in blocks:
        stream, x = net.stream(), random.standard_normal((steps, net.input_size)).astype(net.dtype)
        found.append(Subject(SOUND, f"{name}, {steps} steps", "", partial(stream, x), audio_seconds=steps / rate))
    return found


def _network(shape: Shape, backend: str) -> LSTM:
    return LSTM(shape.I, shape.H, shape.L, backend=backend, num_threads=1, seed=0)


def _input(rows: int, shape: Shape) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((rows, shape.I), dtype=np.float32)


def _step(shape: Shape, backend: str) -> Subject:
    stream, x = _network(shape, backend).stream(shape.B), _input(shape.B, shape)
    out = np.empty((shape.B, shape.H), np.float32)
    return Subject(STEPS, shape.name, shape.sizes(), lambda: stream.step(x, out), shape.B)


def _pool(shape: Shape, count: int, backend: str) -> Subject:
    pool, x = _network(shape, backend).pool(count), _input(count, shape)
    ids, out = pool.open(count), np.empty((count, shape.H), np.float32)
    return Subject(STREAMS, f"{count} of {shape.name}", shape.sizes(), lambda: pool.step(ids, x, out), count)


def _block(shape: Shape, samples: int, backend: str) -> Subject:
    stream, x = _network(shape, backend).stream(), _input(samples, shape)
    out = np.empty((samples, shape.H), np.float32)
    name = f"{shape.name}, {samples} samples"
    return Subject(SOUND, name, shape.sizes(), lambda: stream(x, out), audio_seconds=samples / SAMPLE_RATE)


def measure(subjects: Sequence[Subject], seconds: float, tick: Callable[[float], None]) -> list[Latency]:
    """Measure for about so long in all. tick: called with the seconds that have passed."""
    times: list[list[float]] = [[] for _ in subjects]
    start = perf_counter()
    while not all(times) or perf_counter() < start + seconds:
        for subject, taken in zip(subjects, times, strict=True):
            taken += _turn(subject.call)
        tick(perf_counter() - start)
    return [Latency.of(subject, taken) for subject, taken in zip(subjects, times, strict=True)]


def _turn(call: Callable[[], object]) -> list[float]:
    """Seconds of each call of a turn. The first two do not count: the caches hold the data of other subjects."""
    call()
    call()
    taken: list[float] = []
    now = perf_counter()
    end = now + TURN_SECONDS
    while now < end:
        call()
        before, now = now, perf_counter()
        taken.append(now - before)
    return taken
