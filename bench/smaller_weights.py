"""Networks of float16 and int8 weights beside the same ones of float32: time, and error on an input of yours.

    python bench/smaller_weights.py                              # thirteen shapes: a Markdown table
    python bench/smaller_weights.py --shape 1,1,640,640,2 --seconds 5
    python bench/smaller_weights.py --weights model.safetensors --input x.npy

All run on one thread. They take turns, and the table has the ratio of their medians. With ``--weights``, in place of
times: the error of ``out`` against the float64 network on the second half of x (T, I) or (T, B, I), and 8-bit weights
that were fitted to the first half beside those that were rounded.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np

import lstmkernel as lk
from lstmkernel.tuning import timing
from lstmkernel.workbench import shapes
from lstmkernel.workbench.shapes import Shape

SHAPES = (
    *("1,1,128,128", "1,1,256,256", "1,1,640,640,2", "1,1,960,960,3"),
    *("1,300,128,128", "1,100,256,256", "1,20,512,512", "1,10,1024,1024"),
    *("3,20,512,512", "8,100,256,256", "32,20,512,512", "32,50,60,128", "70,50,25,80"),
)


#: The arguments of ``quantize``, by what the table calls them.
PRECISIONS = {
    "float16": ("float16",),
    "int8": ("int8",),
    "int8, 8-bit activations": ("int8", "int8"),
}


def speed(shape: Shape, seconds: float) -> str:
    """A row of the table."""
    wide = lk.LSTM(shape.I, shape.H, shape.L, bidirectional=shape.D == 2, num_threads=1, seed=0)
    nets = {"float32": wide, **{name: wide.quantize(*arguments) for name, arguments in PRECISIONS.items()}}
    x = np.random.default_rng(0).standard_normal((shape.T, shape.B, shape.I), dtype="float32")
    taken = timing.medians({name: partial(net, x) for name, net in nets.items()}, seconds)
    gains = [f"{taken['float32'] / taken[name]:.2f}" for name in PRECISIONS]
    return f"| {shape.sizes()} | {' | '.join(gains)} |"


def errors(weights: str, file: str) -> str:
    """A table: of each precision the error of out on the second half of x, after the states of the first half."""
    wide, exact = lk.load(weights), lk.load(weights, dtype="float64")
    x = np.load(file)
    half, reference = len(x) // 2, exact(x)[0]
    nets = {"float32": wide, **{name: wide.quantize(*arguments) for name, arguments in PRECISIONS.items()}}
    for name in ("int8", "int8, 8-bit activations"):
        nets[f"{name}, fitted to the first half"] = wide.quantize(*PRECISIONS[name], calibrate=x[:half])
    lines = ["| | rms | largest | rms of the last tenth / of the first |", "|---|---:|---:|---:|"]
    for name, net in nets.items():
        error = np.abs(net(x)[0] - reference)
        first, last = (np.sqrt(np.mean(part**2)) for part in (error[: len(x) // 10], error[-len(x) // 10 :]))
        off = error[half:]
        lines.append(f"| {name} | {np.sqrt(np.mean(off**2)):.1e} | {off.max():.1e} | {last / first:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", type=shapes.parse, help="B,T,I,H[,L[,D]]; may be repeated")
    parser.add_argument("--seconds", type=float, default=40, help="to spend on timing, in all (40)")
    parser.add_argument("--weights", metavar="FILE", help="a float32 network of LSTM layers and heads")
    parser.add_argument("--input", metavar="FILE", help="x as .npy, for --weights")
    options = parser.parse_args()
    if bool(options.weights) != bool(options.input):
        parser.error("expected --weights and --input together")
    if options.weights:
        print(errors(options.weights, options.input))
        return
    chosen = options.shape or [shapes.parse(sizes) for sizes in SHAPES]
    print(f"| B,T,I,H[,L[,D]] | {' | '.join(f'float32 / {name}' for name in PRECISIONS)} |")
    print("|---" + "|---:" * len(PRECISIONS) + "|")
    for shape in chosen:
        print(speed(shape, options.seconds / len(chosen)), flush=True)


if __name__ == "__main__":
    main()
