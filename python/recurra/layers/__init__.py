"""Layers: computations and their parameters."""
