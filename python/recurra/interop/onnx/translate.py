"""Which operators become layers, and how: rules by (domain, name). A rule gives None where no layer does that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recurra.interop.onnx import rules_cells, rules_layers, rules_merge, rules_views, rules_windows
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.rules import Rule, with_time, without_time
from recurra.interop.onnx.values import Value

if TYPE_CHECKING:
    from recurra.interop.onnx.trace import Tracer

RULES: dict[tuple[str, str], Rule] = {
    ("", name): rule
    for module in (rules_cells, rules_layers, rules_merge, rules_views, rules_windows)
    for name, rule in module.RULES.items()
}
_VIEW = RULES["", "Gather"]


def _gather(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    """Of a table by tokens, or some of what a layer gave."""
    return rules_layers.EMBEDDING(tracer, node, inputs) or _VIEW(tracer, node, inputs)


RULES["", "Gather"] = _gather
__all__ = ["RULES", "with_time", "without_time"]
