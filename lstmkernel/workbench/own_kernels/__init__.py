"""A user's own kernels, in C or Python, beside ours."""
