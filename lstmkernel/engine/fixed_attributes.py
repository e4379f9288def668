"""Layers have fixed attributes: a typing error, or a weight set as in PyTorch, must not pass without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn


class FixedAttributes:
    """Refuses attributes that a layer does not have, and names the way to change parameters.

    Subclasses outside of lstmkernel may set attributes of their own.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and type(self).__module__.partition(".")[0] == "lstmkernel":
            kind = type(self).__name__
            raise AttributeError(
                f"{kind}.{name} cannot be set: each {kind} is fixed when it is made; load_state_dict replaces its "
                f"parameters, {kind}.from_config makes another one"
            )
        object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute

        def __getattr__(self, name: str) -> NoReturn:
            """Python calls it for an attribute that was not found."""
            kind, hint = type(self).__name__, ""
            if not name.startswith("_") and name in self.parameter_shapes():
                hint = f"; state_dict()[{name!r}] has that parameter"
            raise AttributeError(f"{kind!r} object has no attribute {name!r}{hint}")
