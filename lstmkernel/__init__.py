"""lstmkernel: LSTM networks on CPUs, fast, and the same bits every time.

    import lstmkernel as lk

    lstm = lk.LSTM(input_size=64, hidden_size=128, num_layers=2, seed=0)
    out, (h_n, c_n) = lstm(x)             # x (T, B, 64) -> out (T, B, 128)

Shapes, in every docstring: T time steps, B batch rows, I input_size, H hidden_size, P proj_size, R = P or H (the width
of h), L num_layers, D directions. Gates are in PyTorch's order i, f, g, o.
"""

from lstmkernel.host import starting  # noqa: F401 - before all that takes time

# isort: split
from lstmkernel._version import __version__
from lstmkernel.backends import BackendError
from lstmkernel.cell import LSTMCell
from lstmkernel.dense import Dense
from lstmkernel.formats import FormatError, from_torch, inspect, load, save
from lstmkernel.gradient_flow import GradientFlow, gradient_flow
from lstmkernel.info import info
from lstmkernel.lstm import LSTM
from lstmkernel.model import Model
from lstmkernel.pool import Pool
from lstmkernel.stack import Stack
from lstmkernel.stream import Stream
from lstmkernel.trace import Trace, trace
from lstmkernel.variant import Variant
from lstmkernel.warmup import warmup

__all__ = [
    "LSTM",
    "BackendError",
    "Dense",
    "FormatError",
    "GradientFlow",
    "LSTMCell",
    "Model",
    "Pool",
    "Stack",
    "Stream",
    "Trace",
    "Variant",
    "__version__",
    "from_torch",
    "gradient_flow",
    "info",
    "inspect",
    "load",
    "save",
    "trace",
    "warmup",
]


def __dir__() -> list[str]:
    """The public names, without modules: the module ``stream`` would stand beside the class ``Stream``."""
    return sorted(__all__)
