"""Trained networks that come with the package, each small, each with the script that made it."""

from pathlib import Path

#: Forecasts sunspots: yearly numbers from 1700 on, (T, 1), to each next year's number, (T, 1). Made by
#: examples/train_sunspots.py.
SUNSPOTS = Path(__file__).parent / "sunspots.safetensors"
