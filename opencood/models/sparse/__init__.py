"""Sparse volumes and their convolutions: one small interface, plain PyTorch everywhere, spconv where it is faster."""
