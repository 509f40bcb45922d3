"""Models from Keras, read without Keras."""
