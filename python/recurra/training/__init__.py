"""How models learn from data: `fit`, `evaluate`, `predict` and what they are made of."""

from __future__ import annotations

from recurra.training.history import History
from recurra.training.model import TrainableModel
from recurra.training.truncation import TruncatedBPTT

__all__ = ["History", "TrainableModel", "TruncatedBPTT"]
