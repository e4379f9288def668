"""The definition: every kernel in plain NumPy."""
