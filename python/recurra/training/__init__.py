"""How models learn from data: `fit`, `evaluate`, `predict` and what they are made of."""
