"""Train an LSTM on a CPU in plain NumPy, and compare it with PyTorch step by step.

    pip install -e ".[examples]"      # in a clone
    python examples/train_sunspots.py

The data are the yearly sunspot numbers since 1700, which come with statsmodels. Each year, the network forecasts the
next year's number. It is trained with lstmkernel's forward and backward and an Adam in NumPy; then, if PyTorch is
installed, with PyTorch from the same initial weights. The two losses must agree at every step. ``lstmkernel run`` can
use the file that ``--save`` writes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np
from rich.console import Console
from rich.progress import track
from statsmodels.datasets import sunspots

import lstmkernel as lk

#: Sunspot numbers go up to 190. Networks learn best from numbers around 1.
SCALE = 100.0
#: The network learns from the years up to here. The years after are only forecast.
LAST_YEAR_LEARNED = 1920
#: The two losses, in float64, may differ by this part of the loss.
AGREEMENT = 1e-10


class Adam:
    """Algorithm 1 of Kingma and Ba 2014, with their constants."""

    def __init__(self, parameters: dict[str, np.ndarray], learning_rate: float) -> None:
        self.parameters = {name: value.copy() for name, value in parameters.items()}
        self.learning_rate, self.steps = learning_rate, 0
        self.mean = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.square = {name: np.zeros_like(value) for name, value in parameters.items()}

    def step(self, gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The parameters after one step."""
        self.steps += 1
        for name, parameter in self.parameters.items():
            gradient, m, v = gradients[name], self.mean[name], self.square[name]
            m += 0.1 * (gradient - m)
            v += 0.001 * (gradient**2 - v)
            m_hat, v_hat = m / (1 - 0.9**self.steps), v / (1 - 0.999**self.steps)
            parameter -= self.learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)
        return self.parameters


def with_progress(steps: int, who: str) -> Iterable[int]:
    """The numbers of the steps, and a progress bar if stderr is a terminal."""
    console = Console(stderr=True)
    return track(range(steps), who, console=console, transient=True, disable=not console.is_terminal)


def loss_and_gradients(net: lk.Stack, x: np.ndarray, wanted: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    """Mean squared error of a forecast (T, B, 1), and its gradients by the names of ``net.state_dict()``."""
    lstm, head = net.layers
    h, _, tape = lstm.forward(x)
    error = head(h) - wanted
    d_y = 2 * error / error.size
    of_lstm = lstm.backward(tape, d_out=d_y @ head.state_dict()["weight"])  # y = h W^T + b, so dL/dh = dL/dy W
    gradients = {f"0.{name}": of_lstm[name] for name in lstm.state_dict()}
    gradients["1.weight"] = np.einsum("tbo,tbh->oh", d_y, h)
    gradients["1.bias"] = d_y.sum(axis=(0, 1))
    return float((error**2).mean()), gradients


def train(net: lk.Stack, x: np.ndarray, wanted: np.ndarray, steps: int, learning_rate: float) -> list[float]:
    """Train the network in place; returns the loss before each step."""
    adam, losses = Adam(net.state_dict(), learning_rate), []
    for _ in with_progress(steps, "lstmkernel"):
        loss, gradients = loss_and_gradients(net, x, wanted)
        net.load_state_dict(adam.step(gradients))
        losses.append(loss)
    return losses


def train_torch(
    start: dict[str, np.ndarray], x: np.ndarray, wanted: np.ndarray, steps: int, learning_rate: float
) -> list[float]:
    """The same in PyTorch. start: ``net.state_dict()`` before training."""
    import torch

    width = start["1.weight"].shape[1]
    lstm, head = torch.nn.LSTM(1, width, dtype=torch.float64), torch.nn.Linear(width, 1, dtype=torch.float64)
    both = torch.nn.ModuleList([lstm, head])
    both.load_state_dict({name: torch.tensor(value) for name, value in start.items()})
    x, wanted = torch.tensor(x), torch.tensor(wanted)
    adam, losses = torch.optim.Adam(both.parameters(), lr=learning_rate), []
    for _ in with_progress(steps, "PyTorch"):
        loss = ((head(lstm(x)[0]) - wanted) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses


def compare(ours: list[float], theirs: list[float]) -> float:
    """Print both losses at some steps; returns the largest difference, as a part of the loss."""
    print(f"{'step':>6}{'lstmkernel':>22}{'PyTorch':>22}")
    for step in sorted({*range(0, len(ours), max(1, len(ours) // 10)), len(ours) - 1}):
        print(f"{step:>6}{ours[step]:>22.15f}{theirs[step]:>22.15f}")
    worst = max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))
    print(f"largest difference of {len(ours)} steps: {worst:.1e} of the loss")
    return worst


def unscaled(net: lk.Stack) -> lk.Stack:
    """The same network in float32 for unscaled sunspot numbers: the scale goes into its weights."""
    named = net.state_dict()
    named["0.weight_ih_l0"] = named["0.weight_ih_l0"] / SCALE
    named["1.weight"], named["1.bias"] = named["1.weight"] * SCALE, named["1.bias"] * SCALE
    H = net.layers[0].hidden_size
    plain = lk.Stack([lk.LSTM(1, H), lk.Dense(H, 1)])
    plain.load_state_dict(named)
    return plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120, help="steps of Adam (120)")
    parser.add_argument("--hidden-size", type=int, default=16, help="units of the LSTM (16)")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="learning rate of Adam (0.01)")
    parser.add_argument("--save", metavar="FILE.safetensors", help="write the trained network to this file")
    arguments = parser.parse_args()

    data = sunspots.load_pandas().data
    years, numbers = data["YEAR"].to_numpy(), data["SUNACTIVITY"].to_numpy()
    known = numbers[years <= LAST_YEAR_LEARNED, None, None] / SCALE  # (T, 1, 1)
    x, wanted = known[:-1], known[1:]

    H = arguments.hidden_size
    net = lk.Stack([lk.LSTM(1, H, dtype="float64", seed=0), lk.Dense(H, 1, dtype="float64", seed=0)])
    start = net.state_dict()
    losses = train(net, x, wanted, arguments.steps, arguments.learning_rate)
    try:
        theirs = train_torch(start, x, wanted, arguments.steps, arguments.learning_rate)
    except ModuleNotFoundError:
        print(f"loss {losses[0]:.6f} -> {losses[-1]:.6f}; PyTorch is not installed, so there is nothing to compare")
    else:
        if not compare(losses, theirs) <= AGREEMENT:
            raise SystemExit(f"the curves differ by more than {AGREEMENT:.0e}")

    plain = unscaled(net)
    forecast = plain(numbers[:-1, None])[0][:, 0]
    unseen = years[1:] > LAST_YEAR_LEARNED
    error, as_now = (np.abs(guess - numbers[1:])[unseen].mean() for guess in (forecast, numbers[:-1]))
    print(f"years after {LAST_YEAR_LEARNED}: mean error {error:.1f} sunspots; {as_now:.1f} if nothing changes")
    if arguments.save:
        lk.save(plain, arguments.save)
        print(f"{arguments.save}: {plain!r}")


if __name__ == "__main__":
    main()
