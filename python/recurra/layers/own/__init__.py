"""Cells that users define by their equations."""
