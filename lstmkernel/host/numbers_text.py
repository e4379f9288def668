"""Numbers and durations as text: ASCII, three digits, with a unit."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """ "84.1 us", "2.62 ms", "1.3 s", "0 s"."""
    if not seconds:
        return "0 s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * scale:
            return f"{digits(seconds / scale)} {unit}"
    return f"{digits(seconds / 1e-9)} ns"


def count(number: float) -> str:
    """ "367k", "4.78M"."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * scale:
            return f"{digits(number / scale)}{unit}"
    return digits(number)


def size(number: float) -> str:
    """Bytes: "16 KiB", "1.5 MiB"."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:g} B"


def digits(number: float) -> str:
    """Three significant digits, and no exponent."""
    if number >= 99.95:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
