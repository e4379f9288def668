"""Trained networks that come with the package, each small, each with the script that made it."""

from pathlib import Path

#: (T, 1) yearly sunspot numbers, from 1700 on -> (T, 1), each year's forecast for the next. examples/train_sunspots.py
SUNSPOTS = Path(__file__).parent / "sunspots.safetensors"
