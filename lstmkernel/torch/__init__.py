"""PyTorch's LSTM on lstmkernel's kernels, forward and backward: drop-in classes, and ``accelerate`` for a whole model.

    from lstmkernel.torch import LSTM, LSTMCell, accelerate

    lstm = LSTM(40, 128, num_layers=2)    # a torch.nn.LSTM: constructor, state_dict, results, gradients
    print(accelerate(model))              # every nn.LSTM and nn.LSTMCell of a model; prints what was replaced
    restore(model)                        # and back

Needs PyTorch: ``pip install lstmkernel[torch]``.
"""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "lstmkernel.torch: expected PyTorch, which is not installed; pip install lstmkernel[torch]", name="torch"
    ) from error

from lstmkernel.torch.accelerated import Accelerated, accelerate, restore
from lstmkernel.torch.cell import LSTMCell
from lstmkernel.torch.lstm import LSTM

__all__ = ["LSTM", "Accelerated", "LSTMCell", "accelerate", "restore"]


def __dir__() -> list[str]:
    """The public names, without modules: the module ``lstm`` would stand beside the class ``LSTM``."""
    return sorted(__all__)
