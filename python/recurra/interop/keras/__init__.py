"""Models from Keras, without Keras."""
