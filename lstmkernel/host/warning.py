"""Warnings that point to the caller's line, however deep in lstmkernel they arise."""

from __future__ import annotations

import warnings
from inspect import currentframe

PACKAGE = __name__.partition(".")[0]


def warn(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn at the first line outside of lstmkernel that led here."""
    level, frame = 1, currentframe()
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
