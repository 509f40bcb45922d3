"""Training: `fit`, `evaluate`, `predict` and their parts."""
