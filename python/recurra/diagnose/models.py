"""The models that can be diagnosed."""

from __future__ import annotations

from typing import Any

from recurra.inspection.subject import Subject
from recurra.layers.layer import Layer
from recurra.layers.leaf import LeafLayer
from recurra.models.sequential import Sequential
from recurra.objective.trainable import Trainable


def subject_of(operation: str, model: Any, x: Any, lengths: Any) -> Subject:
    """A model, or a layer alone, with its data."""
    return Subject(operation, _as_model(operation, model), x, lengths, given=model)


def _as_model(operation: str, model: Any) -> Trainable:
    """The model itself, or a layer wrapped in a model."""
    if isinstance(model, Trainable):
        return model
    if isinstance(model, LeafLayer) and model.num_inputs == 1:
        return Sequential(model)
    if isinstance(model, Layer):
        raise TypeError(
            f"{operation}: got a {model.label} alone, expected a model, as it takes several inputs; make a Model of it"
        )
    raise TypeError(f"{operation}: got model={model!r}, expected a model or a layer; give a recurra.Sequential")
