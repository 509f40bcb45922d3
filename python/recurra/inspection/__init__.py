"""Inspection of a model's forward and backward, layer by layer."""
