"""Decoding: from scores to sequences."""
