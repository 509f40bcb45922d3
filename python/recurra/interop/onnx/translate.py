"""Rules that turn operators into layers, by (domain, name). A rule returns None if no layer fits."""

from __future__ import annotations

from recurra.interop.onnx import (
    rules_affine,
    rules_cells,
    rules_images,
    rules_layers,
    rules_merge,
    rules_views,
    rules_windows,
)
from recurra.interop.onnx.ops import OWN
from recurra.interop.onnx.rules import Rule

#: In the order in which they are tried.
RULES: dict[tuple[str, str], list[Rule]] = {}
for _module in (rules_cells, rules_layers, rules_merge, rules_affine, rules_views, rules_windows, rules_images):
    for _name, _rule in _module.RULES.items():
        RULES.setdefault(("", _name), []).append(_rule)
RULES[OWN, "Affine"] = [rules_affine.affine]
