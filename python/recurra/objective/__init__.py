"""Batches, losses and metrics of training, and the gradients of the objective."""
