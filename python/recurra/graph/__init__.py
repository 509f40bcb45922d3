"""Models as graphs of layers, before anything runs."""
