"""`to_onnx` of layers and models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra import _core
from recurra.common import checks
from recurra.interop.onnx import (
    export_cells,
    export_channels,
    export_images,
    export_merge,
    export_plain,
    export_windows,
)
from recurra.interop.onnx.exporter import Exporter, Made, refuse
from recurra.interop.onnx.writer import Tensor, Writer
from recurra.layers.layer import Layer
from recurra.saving import whole_file

#: Exporters by the layer's class name.
EXPORTERS: dict[str, Exporter] = {
    **export_cells.EXPORTERS,
    **export_channels.EXPORTERS,
    **export_images.EXPORTERS,
    **export_merge.EXPORTERS,
    **export_plain.EXPORTERS,
    **export_windows.EXPORTERS,
}


def to_onnx(layer: Layer, path: str | os.PathLike[str], lengths: bool = False) -> None:
    """Write a layer or model as an ONNX file; see `Layer.to_onnx`."""
    checks.flag("to_onnx", "lengths", lengths)
    whole_file.write("to_onnx", path, content(layer, lengths))


def content(layer: Layer, lengths: bool) -> list[bytes]:
    """The file's content, from one version of the parameters."""
    return _core.read_whole(layer._all_parameters, f"{layer.label}.to_onnx", lambda: _written(layer, lengths).parts())


def _written(layer: Layer, lengths: bool) -> Writer:
    runner = layer._runner()
    graph = layer._graph() if layer.made_of_layers or getattr(layer, "num_inputs", 1) == 1 else None
    if graph is None:
        raise refuse(layer, "takes several inputs; make a Model of it")
    writer = Writer(np.dtype(layer.dtype or np.float32))
    time_major = not layer.made_of_layers and not getattr(layer, "batch_first", True)
    values: dict[int, Tensor] = {}
    for index, port in enumerate(graph.inputs):
        name = _name(runner.inputs.names, index, len(graph.inputs), port.name or "x")
        values[index] = _input(writer, name, port, "T" if not index else f"T{index}", lengths, time_major)
    taken: dict[str, int] = {}
    finals: list[tuple[str, str, list[Any]]] = []
    for node in graph.nodes:
        export = EXPORTERS.get(type(node.layer).__name__)
        if export is None or not node.layer.is_built_in():
            raise refuse(node.layer, "has no operator in ONNX")
        begin: list[str] = []
        names: list[str | None] = []
        zeros = node.layer.state_zeros(1)
        for at, (state, value) in enumerate(zip(node.layer.state_names, node.states, strict=True)):
            count, _rows, size = zeros[at].shape
            if value is None:
                number = taken[state] = taken.get(state, -1) + 1
                own = f"{state}_{number}" if sum(_uses(one, state) for one in graph.nodes) > 1 else state
                begin.append(writer.input(f"{own}_in", [count, "N", size]))
                names.append(own)
            else:
                begin.append(_unpacked(writer, values[value].name, count, size))
                names.append(None)
        made: Made = export(writer, node.layer, [values[value] for value in node.inputs], begin)
        values[node.output] = made.output
        for at, (final, own_name) in enumerate(zip(made.finals, names, strict=True)):
            if own_name is not None:
                count, _rows, size = zeros[at].shape
                finals.append((f"{own_name}_out", final, [count, "N", size]))
            values[node.output + 1 + at] = Tensor(_packed(writer, final), False)
    for at, value in enumerate(graph.outputs):
        name = _name(runner.outputs.names, at, len(graph.outputs), "y")
        _output(writer, name, values[value], graph.features[value], time_major)
    for name, source, dims in finals:
        writer.output(name, source, dims)
    return writer


def _uses(node: Any, state: str) -> bool:
    return any(name == state and value is None for name, value in zip(node.layer.state_names, node.states, strict=True))


def _name(names: Sequence[str] | None, index: int, count: int, plain: str) -> str:
    if names is not None:
        return names[index]
    return plain if count == 1 or plain not in ("x", "y") else f"{plain}{index}"


def _input(writer: Writer, name: str, port: Any, time: str, lengths: bool, time_major: bool) -> Tensor:
    sequence = port.axis != "vector"
    valid = None
    if port.kind == "tokens":
        given = writer.input(name, ["N", time], np.int64)
    elif sequence:
        size = port.size or "features"
        given = writer.input(name, [time, "N", size] if time_major else ["N", time, size])
        given = writer.node("Transpose", [given], perm=[1, 0, 2]) if time_major else given
    else:
        given = writer.input(name, ["N", port.size or "features"])
    if lengths and sequence:
        valid = writer.input(f"{name}_lengths", ["N"], np.int64)
    return Tensor(given, sequence, valid)


def _output(writer: Writer, name: str, tensor: Tensor, features: int | None, time_major: bool) -> None:
    source = writer.without_padding(tensor)
    size: int | str = features or "features"
    if not tensor.sequence:
        writer.output(name, source, ["N", size])
        return
    source = writer.node("Transpose", [source], perm=[1, 0, 2]) if time_major else source
    time = f"{name}_T"
    writer.output(name, source, [time, "N", size] if time_major else ["N", time, size])


def _unpacked(writer: Writer, vector: str, count: int, size: int) -> str:
    """The state (count, N, size) in a vector (N, count * size)."""
    split = writer.node("Reshape", [vector, writer.integers(0, count, size)])
    return writer.node("Transpose", [split], perm=[1, 0, 2])


def _packed(writer: Writer, state: str) -> str:
    rows = writer.node("Transpose", [state], perm=[1, 0, 2])
    return writer.node("Reshape", [rows, writer.integers(0, -1)])
