"""PyTorch's files and names."""
