"""Shared by all rooms: argument checks, errors, seeds, types."""
