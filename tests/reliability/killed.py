"""A process is killed at a random moment while it saves, writes to the cache, or compiles. What it leaves is whole.

Usage: python tests/reliability/killed.py [--rounds 200] [--compile-rounds 10]
It prints how often each was killed. The exit status is 1 where a file is broken, or where a later process
gets a wrong answer.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import lstmkernel as lk
from lstmkernel.host import disk_cache

#: Large enough that most kills come while a file is being written.
UNITS = 256
X = np.random.default_rng(0).normal(size=(5, 2, 8)).astype("float32")
SEED = 0

#: Without Numba, whose kernels take minutes to compile; they come to the cache in the same way.
COMPILE = """
import sys
sys.modules["numba"] = None
import numpy as np, lstmkernel as lk
x = np.random.default_rng(0).normal(size=(5, 2, 8)).astype("float32")
print("ready", flush=True)
lstm = lk.LSTM(8, 12, seed=0, backend="c")
fast = lstm.compile(batch_size=2, steps=5)
assert np.array_equal(fast(x)[0], lstm(x)[0])
"""


def killed_while(action: Callable[[], None], after: float) -> None:
    """A child of fork repeats ``action`` until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            while True:
                action()
        finally:
            os._exit(3)  # only if the action fails
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise AssertionError("the child failed before it was killed")


def save(rounds: int, folder: Path, moments: random.Random) -> str:
    """One file, to which two networks are saved in turn: it is always one of them."""
    networks = [lk.LSTM(8, UNITS, seed=seed) for seed in (1, 2)]
    answers = [net(X)[0] for net in networks]
    count = 0
    for suffix in ("safetensors", "onnx"):
        path = folder / f"net.{suffix}"
        try:
            lk.save(networks[0], path)
        except ModuleNotFoundError:  # the extra onnx
            continue

        def both(path: Path = path) -> None:
            for net in networks:
                lk.save(net, path)

        for _ in range(rounds):
            killed_while(both, moments.uniform(0, 0.03))
            got = lk.load(path)(X)[0]
            if not any(np.array_equal(got, answer) for answer in answers):
                raise AssertionError(f"{path.name}: neither of the networks that were saved")
            count += 1
    left = len(list(folder.glob("*.unfinished")))
    return f"save: killed {count} times, the file is whole each time; {left} unfinished ones lie beside it"


def cache(rounds: int, moments: random.Random) -> str:
    """An entry of the cache is one of the contents that were kept, or is not there."""
    name = f"entry-{'0' * 20}.bin"
    contents = [bytes([letter]) * 300_000 for letter in b"ab"]
    found = 0
    for _ in range(rounds):
        killed_while(
            lambda: [disk_cache.keep("numba", name, content) for content in contents], moments.uniform(0, 0.02)
        )
        entry = disk_cache.find("numba", name)
        if entry and entry.content not in contents:
            raise AssertionError("the cache gave what nobody kept")
        found += bool(entry)
    left = disk_cache.clear()
    if list(disk_cache.entries()):
        raise AssertionError("clear() left something")
    return f"cache: killed {rounds} times, {found} times there was an entry, always a whole one; {left} files cleared"


def compiling(rounds: int, moments: random.Random) -> str:
    """``compile`` on the cache that killed ones left."""
    for _ in range(rounds):
        with subprocess.Popen([sys.executable, "-c", COMPILE], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(moments.uniform(0, 4))
            child.kill()
    subprocess.run([sys.executable, "-c", COMPILE], check=True, stdout=subprocess.DEVNULL)
    return f"compile: killed {rounds} times, then it compiled and gave the right bits"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--compile-rounds", type=int, default=10)
    arguments = parser.parse_args()
    moments = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LSTMKERNEL_CACHE_DIR"] = str(Path(folder, "cache"))
        Path(folder, "saved").mkdir()
        try:
            print(save(arguments.rounds, Path(folder, "saved"), moments), flush=True)
            print(cache(arguments.rounds, moments), flush=True)
            if arguments.compile_rounds:
                print(compiling(arguments.compile_rounds, moments), flush=True)
        except Exception as problem:
            print(f"{type(problem).__name__}: {problem}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
