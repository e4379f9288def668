"""What a type checker says of a user's file: right uses pass, and wrong ones are found (so the types are not Any)."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lstmkernel

ROOT = Path(lstmkernel.__file__).parents[1]

USER = """
import numpy as np

import lstmkernel as lk

x = np.zeros((3, 2, 4), np.float32)
net = lk.load("net.pt", prefix="rnn", dtype="float32", backend="numpy", num_threads=1, batch_first=False)
out, _ = net(x)
y = lk.load("net.safetensors").stream(2)(x)
step = lk.load("net.onnx").pool(3).step([0], x[0])
fast = lk.load("net.keras").compile(batch_size=1, steps=64)
fast_y = fast.last(x, lengths=[3, 1]).mean()
plan: str = str(fast.plan)
sizes: tuple[int, int, int | None] = (net.in_features, net.out_features, net.num_threads)


def trained(model: lk.Model) -> dict[str, float]:
    out, _, tape = model.forward(x)
    return {name: float(value.sum()) for name, value in model.backward(tape, out).items()}


stack = lk.Stack([lk.LSTM(4, 3), lk.Dense(3, 1)])
widths: list[int] = [layer.in_features for layer in stack]
again: lk.Stack = lk.Stack.from_config(stack.config(), stack.state_dict()).compile()
names_of: dict[str, float] = trained(stack) | trained(net) | trained(again)
lstm = lk.from_torch({"weight_ih_l0": x}, prefix="rnn")
lk.save(lstm, "net.onnx")
lk.save(net, "net.safetensors")
contents = lk.inspect("net.nam")
names: list[str] = [tensor.name for tensor in contents.tensors]
words: list[str] = [network.description for network in contents.networks]
rate: float | None = contents.sample_rate
lk.save(3, "net.onnx")  # wrong
lk.from_torch({}).hidden  # wrong
lk.inspect("net.nam").network  # wrong
lk.load("net.pt", batch_first="yes")  # wrong
lk.load("net.pt").streams()  # wrong
fast.last(x, length=[1])  # wrong
stack["0"]  # wrong
trained(lk.Dense(3, 1))  # wrong
"""

WRONG = {number for number, line in enumerate(USER.splitlines(), 1) if line.endswith("# wrong")}


@pytest.fixture
def user(tmp_path):
    path = tmp_path / "user.py"
    path.write_text(USER)
    return path


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy(user):
    options = ["--strict", "--config-file=", "--follow-imports=silent", "--no-error-summary"]
    command = [sys.executable, "-m", "mypy", *options, "--cache-dir", str(user.parent / "cache"), user.name]
    done = subprocess.run(
        command, cwd=user.parent, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    found = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert {int(line.split(":")[1]) for line in found} == WRONG, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright(user):
    (user.parent / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, user.name]
    done = subprocess.run(command, cwd=user.parent, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}
    assert errors == WRONG, done.stdout
