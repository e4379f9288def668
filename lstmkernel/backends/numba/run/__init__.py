"""csrc/run/ in Numba."""
