"""A user's own kernels, in C or Python: load them, check them."""
