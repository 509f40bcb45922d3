"""Shared by the exporters of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recurra.interop.onnx.writer import Tensor, Writer
from recurra.layers.layer import Layer


@dataclass(frozen=True)
class Made:
    """The output of a layer and the names of its final states."""

    output: Tensor
    finals: list[str] = field(default_factory=list)


Exporter = Callable[[Writer, Any, Sequence[Tensor], Sequence[str]], Made]


def refuse(layer: Layer, why: str) -> ValueError:
    """The error for a layer that ONNX cannot express."""
    return ValueError(f"to_onnx: got {layer.label}, which {why}; export the layers around it, or replace it")


def over_steps(writer: Writer, op: str, x: str, *others: str, **attributes: Any) -> str:
    """An ONNX operator on (N, features, T), applied to (N, T, features)."""
    made = writer.node(op, [writer.node("Transpose", [x], perm=[0, 2, 1]), *others], **attributes)
    return writer.node("Transpose", [made], perm=[0, 2, 1])


def same(tensor: Tensor, name: str) -> Made:
    """An output with the input's axes and lengths."""
    return Made(replace(tensor, name=name))
