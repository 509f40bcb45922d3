"""Models from PyTorch, and to it."""
