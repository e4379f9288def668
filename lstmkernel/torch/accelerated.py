"""``accelerate``: run every LSTM of a model on lstmkernel's kernels, and ``restore``, which undoes it.

A report says which were not replaced, and why.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import NamedTuple

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from lstmkernel.host.plain_text import plain
from lstmkernel.torch.cell import LSTMCell
from lstmkernel.torch.function import make_plain
from lstmkernel.torch.lstm import LSTM

_REPLACEMENTS: dict[type[nn.Module], type[LSTM] | type[LSTMCell]] = {nn.LSTM: LSTM, nn.LSTMCell: LSTMCell}


class Found(NamedTuple):
    """An LSTM of the model, and whether it was replaced."""

    name: str  # within the model; "" is the model itself
    kind: str
    replaced: bool
    why: str  # why not, or what to know


@dataclass(frozen=True)
class Accelerated:
    """The report of ``accelerate``; prints as a table."""

    modules: list[Found]

    @property
    def replaced(self) -> list[str]:
        """Names of the modules that lstmkernel runs."""
        return [module.name for module in self.modules if module.replaced]

    @property
    def left(self) -> dict[str, str]:
        """Names of the others, and why."""
        return {module.name: module.why for module in self.modules if not module.replaced}

    def __str__(self) -> str:
        if not self.modules:
            return "no LSTM or LSTMCell in this model"
        table = Table(box=box.SIMPLE, padding=0, show_edge=False)
        for heading in ("Module", "Kind", "Runs on", ""):
            table.add_column(heading, overflow="fold")
        for module in self.modules:
            table.add_row(
                module.name or "(the model)", module.kind, "lstmkernel" if module.replaced else "as before", module.why
            )
        text = io.StringIO()
        Console(file=text, width=120).print(table)
        return plain("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def accelerate(model: nn.Module) -> Accelerated:
    """Let lstmkernel run every ``nn.LSTM`` and ``nn.LSTMCell`` inside a model, in place, for inference on the CPU.

    The modules stay the same objects, with the same parameters, names, hooks, mode and ``state_dict``; their class
    becomes that of ``lstmkernel.torch``. ``accelerate`` assumes that the weights no longer change. Changes that PyTorch
    counts (optimizers, ``load_state_dict``, in-place operations) are seen; writes through ``.data`` or a NumPy array
    are not, until ``accelerate`` is called again, or until a call from which the weights can be trained: since then
    all numbers are compared at each call. To train, make the model of ``lstmkernel.torch.LSTM``, which always does.

    Some modules are left as they are, and the report says why: quantized and TorchScript modules, subclasses,
    parametrized or weight-normed modules, other devices and dtypes, modules whose ``forward`` was replaced.

    ``print(model)`` shows the replaced modules as ``lstmkernel.torch.LSTM``. ``restore(model)`` undoes it.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    found = [(name, module) for name, module in model.named_modules() if _is_lstm(module)]
    return Accelerated([_replace(name, module) for name, module in found])


def restore(model: nn.Module) -> list[str]:
    """Make every LSTM and LSTMCell of ``lstmkernel.torch`` inside a model PyTorch's own again, in place.

    The modules stay the same objects, with the same parameters, names, hooks and mode, whether ``accelerate`` replaced
    them or the model was made of them. Returns their names; "" is the model itself.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    own = {replacement: kind for kind, replacement in _REPLACEMENTS.items()}
    found = [(name, module) for name, module in model.named_modules() if type(module) in own]
    for _, module in found:
        make_plain(module, own[type(module)])
    return [name for name, _ in found]


def _is_lstm(module: nn.Module) -> bool:
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return True
    names = {type(module).__name__, getattr(module, "original_name", "")}
    return bool(names & {"LSTM", "LSTMCell"}) and (_is_quantized(module) or isinstance(module, torch.jit.ScriptModule))


def _is_quantized(module: nn.Module) -> bool:
    return type(module).__module__.startswith(("torch.ao.nn.", "torch.nn.quantized"))


def _replace(name: str, module: nn.Module) -> Found:
    kind, already = type(module).__name__, isinstance(module, LSTM | LSTMCell)
    why = _obstacle(module)
    if why is not None:
        return Found(name, kind, False, why)
    if not already:
        module.__class__ = _REPLACEMENTS[type(module)]
    vars(module)["compares_weights"] = False
    vars(module).pop("_models", None)  # pack the weights again, however they have changed
    return Found(name, kind, True, "already lstmkernel's" if already else "")


def _obstacle(module: nn.Module) -> str | None:
    """Why the module cannot be replaced; None if it can."""
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        return "TorchScript, a graph of PyTorch's own operations: accelerate the model that it was made from"
    if _is_quantized(module):
        return "quantized: its weights are integers"
    if nn.utils.parametrize.is_parametrized(module):
        return "parametrized: remove_parametrizations first"
    if kind not in (*_REPLACEMENTS, *_REPLACEMENTS.values()):
        return f"subclass {kind.__module__}.{kind.__qualname__}: its forward may be its own"
    if "forward" in vars(module):
        return "its forward was replaced"
    own = dict(module.named_parameters(recurse=False))
    names = module._flat_weights_names if isinstance(module, nn.LSTM) else ["weight_ih", "weight_hh"]  # noqa: SLF001 - PyTorch's only list
    if any(name not in own for name in names):
        return "a weight is computed again at every call: remove_weight_norm or the like first"
    weight = next(module.parameters())
    if weight.device.type != "cpu":
        return f"on {weight.device}: lstmkernel runs on the CPU"
    if weight.dtype not in (torch.float32, torch.float64):
        return f"{weight.dtype}: lstmkernel runs float32 and float64"
    return None
