"""How long the slowest calls take: the median, p99, p99.9 and maximum of very many calls, one by one, on one core.

python bench/latency.py                                     # silero_step, 100,000 calls
python bench/latency.py --shape dtln_step --calls 20000 --backend numba
"""

from __future__ import annotations

import argparse

import numpy as np
from samples import each, last_cores, percentile

import lstmkernel as lk
from lstmkernel import figures
from lstmkernel.cli import shapes

WARM_CALLS = 100


def line(times: list[float]) -> str:
    """What is said about the seconds of all calls."""
    parts = {"median": 50.0, "p99": 99.0, "p99.9": 99.9, "maximum": 100.0}
    found = {name: percentile(times, percent) for name, percent in parts.items()}
    told = [f"{name} {figures.duration(seconds)}" for name, seconds in found.items()]
    return f"{', '.join(told)}; p99 / median {found['p99'] / found['median']:.2f}; {len(times):,} calls"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=shapes.parse, default="silero_step", help="of the grid, or B,T,I,H[,L[,D]]")
    parser.add_argument("--calls", type=int, default=100_000, help="(100000)")
    parser.add_argument("--backend", default="auto", help="(auto)")
    options = parser.parse_args()
    shape = options.shape
    directions = {"bidirectional": shape.D == 2}
    lstm = lk.LSTM(shape.I, shape.H, shape.L, **directions, backend=options.backend, num_threads=1, seed=0)
    x = np.random.default_rng(1).standard_normal((shape.T, shape.B, shape.I), dtype="float32")
    with last_cores(1):
        each(lambda: lstm(x), WARM_CALLS)
        print(f"{shape.name} on {lstm.backend}: {line(each(lambda: lstm(x), options.calls))}")


if __name__ == "__main__":
    main()
