"""csrc/kernels/ in Numba, module for header."""
