"""Layers: what computes, and holds parameters."""
