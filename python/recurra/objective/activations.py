"""Refuses a model and a loss that both apply the sigmoid or softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recurra.layers.activation import Activation
from recurra.layers.basic import Dropout
from recurra.layers.merge import Average, Concatenate, Reverse
from recurra.layers.pooling import Pool
from recurra.layers.slicing import Slice
from recurra.losses import CTC, PolicyGradient
from recurra.losses.of_logits import OfLogits

if TYPE_CHECKING:
    from recurra.graph.graph import Graph
    from recurra.losses import Loss
    from recurra.objective.trainable import Trainable

#: Layers that turn probabilities into probabilities.
_PASSING = (Average, Concatenate, Dropout, Pool, Reverse, Slice)


def refuse_twice(operation: str, model: Trainable, losses: Sequence[Loss]) -> None:
    """Refuse a model whose outputs are probabilities for a loss that takes logits: it would train, but badly."""
    graph = model._graph()
    for value, loss in zip(graph.outputs, losses, strict=True):
        if isinstance(loss, CTC) or (isinstance(loss, PolicyGradient) and loss.distribution == "categorical"):
            own, instead, then = "softmax", "", ""
        elif isinstance(loss, OfLogits) and loss.from_logits:
            own, instead = loss.activation, f", or write {type(loss).__name__}(from_logits=False)"
            then = " Probabilities come from model.predict_proba(x)."
        else:
            continue
        found = _last_activation(graph, value)
        if found in ("sigmoid", "softmax"):
            kind = type(loss).__name__
            raise ValueError(
                f"{operation}: got a model that ends in Activation({found!r}) for {kind}, expected logits, as the loss "
                f"applies the {own} itself, and a second one trains badly; leave that layer out{instead}.{then}"
            )


def _last_activation(graph: Graph, value: int) -> str | None:
    """The name of the activation that produced `value`, looking through `_PASSING` layers; None if there is none."""
    node = next((node for node in graph.nodes if node.output == value), None)
    if node is None:
        return None
    if isinstance(node.layer, Activation):
        return node.layer.name
    if isinstance(node.layer, _PASSING):
        names = {_last_activation(graph, source) for source in node.inputs}
        return names.pop() if len(names) == 1 else None
    return None
