"""The C kernels of csrc/."""
