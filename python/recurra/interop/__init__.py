"""Weights of other frameworks."""
