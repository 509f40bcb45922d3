"""Consistent pickles and copies of models, even if another thread writes to the model meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recurra import _core

if TYPE_CHECKING:
    from recurra.layers.layer import Layer


class Remainder:
    """The end of a model's pickle, after its layers: empty, or a state_dict() if the layers were written to meanwhile.

    Each layer pickles its own arrays, so that models in one pickle still share their layers.
    """

    def __init__(self, model: Layer) -> None:
        self._model, self._versions = model, self._now(model)

    @staticmethod
    def _now(model: Layer) -> list[int]:
        weights = model._all_parameters
        return _core.read_whole(weights, f"{model.label}.__reduce__", lambda: [one.version for one in weights])

    def __reduce__(self) -> tuple[Any, ...]:
        moved = self._now(self._model) != self._versions
        return dict, (self._model.state_dict() if moved else {},)
