"""csrc/vec/ in Numba."""
