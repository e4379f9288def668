"""The Numba kernels: csrc written once more, line by line, over the same vector operations, with the same bits.

It runs where no C compiler did, is compiled for this very CPU, and shows that Python can be as fast as C. Modules carry
the names of the C headers that they mirror; vec.py explains how. Arguments were checked above; kernels trust them.
"""
