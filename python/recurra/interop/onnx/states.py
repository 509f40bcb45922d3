"""Pairs a graph's state inputs with the outputs that hold their next values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from recurra.common.errors import ModelFormatError
from recurra.interop.onnx import recurrent
from recurra.interop.onnx.graph import Graph, Value

#: Words in names that distinguish a state's input from its output.
_WORDS = {
    *(
        "in",
        "out",
        "input",
        "output",
        "new",
        "next",
        "prev",
        "previous",
        "initial",
        "init",
        "final",
        "last",
        "old",
        "updated",
    ),
    *("n", "t", "0", "1"),
}
#: Words, one of which a state's name contains.
_STATES = {
    "state",
    "states",
    "h",
    "c",
    "hx",
    "cx",
    "hidden",
    "cell",
    "cache",
    "memory",
    "mem",
    "carry",
    "buffer",
    "context",
    "past",
}
#: Operators that forward a state, in whole or in part.
_PASSING = {
    "Where",
    *(
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Reshape",
        "Slice",
        "Split",
        "Gather",
        "Concat",
        "Identity",
        "Cast",
        "Add",
        "Mul",
    ),
}


def pairs(graph: Graph, said: Mapping[str, str] | None) -> dict[str, str]:
    """The output for each state input: as in `said`, else found at recurrent nodes' states or by name."""
    inputs, outputs = {one.name: one for one in graph.inputs}, {one.name: one for one in graph.outputs}
    if said is not None:
        for before, after in said.items():
            if before not in inputs or after not in outputs:
                raise ModelFormatError(
                    f"got states={{{before!r}: {after!r}}}, expected an input and an output of the graph: "
                    f"{', '.join(inputs)}; {', '.join(outputs)}"
                )
        return dict(said)
    found: dict[str, str] = {}
    for before, after in (*_through_cells(graph), *_by_name(graph)):
        fits = _alike(inputs[before], outputs[after])
        if before not in found and after not in found.values() and fits:
            found[before] = after
    return {name: found[name] for name in inputs if name in found}


def _alike(before: Value, after: Value) -> bool:
    """Whether `after` may be the next value of `before`."""
    if before.dims is None or after.dims is None:
        return before.dtype == after.dtype
    sizes = zip(before.dims, after.dims, strict=False)
    same = all(not isinstance(a, int) or not isinstance(b, int) or a == b for a, b in sizes)
    return before.dtype == after.dtype and len(before.dims) == len(after.dims) and same


def _through_cells(graph: Graph) -> Iterator[tuple[str, str]]:
    inputs = {one.name for one in graph.inputs}
    for node in graph.nodes:
        if node.op not in recurrent.KINDS or node.domain:
            continue
        for begin, end in zip(node.inputs[5:7], node.outputs[1:3], strict=False):
            if not begin or not end:
                continue
            sources = _behind(graph, begin) & inputs
            sinks = _before(graph, end)
            for before in sorted(sources):
                outputs = zip(graph.outputs, graph.sources(), strict=True)
                yield from ((before, one.name) for one, source in outputs if source in sinks)


def _behind(graph: Graph, name: str) -> set[str]:
    """The names that a value is forwarded from."""
    makers: dict[str, Any] = {output: node for node in graph.nodes for output in node.outputs}
    found, waiting = set[str](), [name]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        node = makers.get(one)
        if node is not None and node.op in _PASSING:
            waiting += [value for value in node.inputs if value]
    return found


def _before(graph: Graph, name: str) -> set[str]:
    """The names that a value is forwarded to."""
    found = {name}
    for node in graph.nodes:
        if node.op in _PASSING and any(value in found for value in node.inputs):
            found.update(node.outputs)
    return found


def _plain(name: str) -> tuple[str, ...]:
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).replace(".", "_").replace("/", "_").lower()
    words = re.sub(r"([a-z])(\d)", r"\1_\2", words)
    parts = [one for one in words.split("_") if one and one not in _WORDS]
    return tuple({"hn": "h", "cn": "c"}.get(one, one) for one in parts)


def plumbing(graph: Graph, pairs: Mapping[str, str]) -> set[int]:
    """The ids of nodes that only forward states, from inputs to cells or from cells to outputs."""
    given = {*pairs, *graph.constants}
    found: set[int] = set()
    for node in graph.nodes:
        if node.op in _PASSING and all(name in given for name in node.reads()):
            given.update(node.outputs)
            found.add(id(node))
    outputs = list(zip(graph.outputs, graph.sources(), strict=True))
    after = {source for one, source in outputs if one.name in pairs.values()}
    others = {source for one, source in outputs if one.name not in pairs.values()}
    for node in reversed(graph.nodes):
        if node.op in _PASSING and all(name in after and name not in others for name in node.outputs if name):
            after.update(node.reads())
            found.add(id(node))
        else:
            others.update(node.reads())
    return found


def _by_name(graph: Graph) -> Iterator[tuple[str, str]]:
    """Pairs by name: state and stateN, h_in and h_out, cache_0 and new_cache_0."""
    for one in graph.inputs:
        for other in graph.outputs:
            plain = _plain(one.name)
            if _STATES.intersection(plain) and plain == _plain(other.name):
                yield one.name, other.name
