"""A part of a graph as a graph of its own."""

from __future__ import annotations

from collections.abc import Sequence

from recurra.graph.graph import Graph, Node, Port


def part(graph: Graph, nodes: Sequence[Node], outputs: Sequence[int]) -> tuple[Graph, list[int]]:
    """The graph of some of the nodes, in their order, and the values of the whole that are its inputs. States that
    begin as values from elsewhere are its own."""
    made = {value for node in nodes for value in range(node.output, node.output + 1 + len(node.states))}
    inputs = sorted({value for node in nodes for value in node.inputs if value not in made})
    number = {value: index for index, value in enumerate(inputs)}
    following = len(inputs)
    calls = []
    for node in nodes:
        states = [number[value] if value in made else None for value in node.states]
        calls.append((node.layer, [number[value] for value in node.inputs], states))
        for offset in range(1 + len(node.states)):
            number[node.output + offset] = following + offset
        following += 1 + len(node.states)
    ports = [graph.inputs[value] if value < len(graph.inputs) else _port(graph, value) for value in inputs]
    return Graph(ports, calls, [number[value] for value in outputs]), inputs


def _port(graph: Graph, value: int) -> Port:
    return Port("features", graph.features[value], "vector" if graph.sources[value] is None else "sequence")
