"""Model files, and layers as plain data."""
