"""The report of an imported graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from recurra.interop.onnx.trace import Plan


def text(plan: Plan, nodes: int, states: Mapping[str, str], plumbing: set[int]) -> str:
    """The report: the native models, their layers, and the nodes in numpy."""
    native = sum(len(one._graph().nodes) for one in plan.models)
    numpy = [node for node in plan.numpy if id(node) not in plumbing]
    passing = len(plan.numpy) - len(numpy)
    lines = [
        f"{nodes} nodes, constants aside: {native} layers in {len(plan.models)} native models, {len(numpy)} nodes in "
        "numpy" + (f", {passing} that pass states on" if passing else "")
    ]
    lines += [f"state: {before} -> {after}" for before, after in states.items()]
    for number, one in enumerate(plan.models):
        lines.append(f"native model {number}: " + ", ".join(layer.label for layer in one.layers))
    if numpy:
        lines.append(
            "in numpy, each some microseconds and a copy of its result; between native models, also a call of each:"
        )
        counts = Counter(f"{node.domain}.{node.op}" if node.domain else node.op for node in numpy)
        for op, count in counts.most_common():
            first = next(node for node in numpy if node.op == op.rpartition(".")[2])
            lines.append(f"  {op} x {count}, first {first.name or first.outputs[0]!r}")
        if loops := [node for node in numpy if node.op in ("Loop", "Scan")]:
            inner = sum(len(graph.nodes) for node in loops for graph in node.graphs)
            lines.append(
                f"  each step of Loop and Scan runs all nodes of its body, {inner} in all, one by one in numpy"
            )
    return "\n".join(lines)
