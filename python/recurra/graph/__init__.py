"""Models as graphs of layers, independent of how they run."""
