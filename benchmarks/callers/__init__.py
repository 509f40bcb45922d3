"""What `serving.py` measures: networks, services around them, and callers."""
