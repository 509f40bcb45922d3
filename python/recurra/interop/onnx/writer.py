"""An ONNX graph being written: names, nodes and constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra import _core
from recurra.common.typing import Array
from recurra.interop.onnx import schema, tensors
from recurra.interop.onnx.wire import encode

#: The operator set of written files: the first with LayerNormalization.
OPSET = 17
_IR_VERSION = 8
_ATTRIBUTE_NUMBERS = {field: number for number, field in schema.ATTRIBUTE_TYPES.items()}


@dataclass(frozen=True)
class Tensor:
    """A value of the graph: (N, T, features), (N, features) or tokens (N, T).

    lengths: the name of the lengths, (N,) int64; None if all steps are valid or there is no time axis.
    """

    name: str
    sequence: bool
    lengths: str | None = None


class Writer:
    """Collects the nodes, constants, inputs and outputs of a graph."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._nodes: list[dict[str, Any]] = []
        self._constants: dict[tuple[int, tuple[int, ...], bytes], str] = {}
        self._tensors: list[dict[str, Any]] = []
        self._inputs: list[dict[str, Any]] = []
        self._outputs: list[dict[str, Any]] = []
        self._masks: dict[tuple[str, str], str] = {}

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        return self.nodes(op, inputs, 1, **attributes)[0]

    def nodes(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs; returns their names."""
        names = [f"{op}_{len(self._nodes)}" + (f"_{at}" if at else "") for at in range(outputs)]
        self._nodes.append(
            {
                "input": inputs,
                "output": names,
                "name": f"{op}_{len(self._nodes)}",
                "op_type": op,
                "attribute": [_attribute(name, value) for name, value in attributes.items()],
            }
        )
        return names

    def constant(self, array: Array) -> str:
        """Add a constant; returns its name, which equal arrays share."""
        tensor = tensors.write(f"constant_{len(self._constants)}", array)
        key = tensor["data_type"], tensor["dims"], tensor["raw_data"]
        if key not in self._constants:
            self._constants[key] = tensor["name"]
            self._tensors.append(tensor)
        return self._constants[key]

    def number(self, value: float) -> str:
        """A constant scalar of the model's dtype."""
        return self.constant(np.array(value, self.dtype))

    def integers(self, *values: int) -> str:
        """A constant vector of int64."""
        return self.constant(np.array(values, np.int64))

    def parameter(self, array: Array) -> str:
        """A constant array in the model's dtype."""
        return self.constant(array.astype(self.dtype, copy=False))

    def input(self, name: str, dims: Sequence[int | str], dtype: Any = None) -> str:
        """Add an input of the graph; returns its name."""
        self._inputs.append(_value(name, dims, np.dtype(dtype or self.dtype)))
        return name

    def output(self, name: str, source: str, dims: Sequence[int | str]) -> None:
        """Add an output of the graph."""
        self._nodes.append({"input": [source], "output": [name], "name": f"Identity_{name}", "op_type": "Identity"})
        self._outputs.append(_value(name, dims, self.dtype))

    def mask(self, tensor: Tensor) -> str:
        """The mask of valid steps, (N, T, 1) bool."""
        assert tensor.lengths is not None
        key = tensor.name, tensor.lengths
        if key not in self._masks:
            steps = self.node("Shape", [tensor.name], start=1, end=2)
            zero = self.constant(np.array(0, np.int64))
            one = self.constant(np.array(1, np.int64))
            count = self.node("Range", [zero, self.node("Squeeze", [steps, self.integers(0)]), one])
            valid = self.node("Unsqueeze", [tensor.lengths, self.integers(1)])
            within = self.node("Less", [count, valid])
            self._masks[key] = self.node("Unsqueeze", [within, self.integers(2)])
        return self._masks[key]

    def without_padding(self, tensor: Tensor, fill: float = 0.0) -> str:
        """The value with padding replaced by `fill`."""
        if tensor.lengths is None or not tensor.sequence:
            return tensor.name
        return self.node("Where", [self.mask(tensor), tensor.name, self.number(fill)])

    def cast(self, name: str, dtype: Any) -> str:
        """The value in another dtype."""
        return self.node("Cast", [name], to=tensors.number_of(np.dtype(dtype)))

    def at_least_one(self, lengths: str) -> str:
        """The lengths with 0 raised to 1, as some runtimes refuse 0."""
        return self.node("Max", [lengths, self.integers(1)])

    def has_steps(self, lengths: str) -> str:
        """Whether each row has steps, (N, 1) bool."""
        return self.node("Unsqueeze", [self.node("Greater", [lengths, self.integers(0)]), self.integers(1)])

    def parts(self) -> list[bytes]:
        """The file's content, in parts."""
        graph = {
            "node": self._nodes,
            "name": "recurra",
            "initializer": self._tensors,
            "input": self._inputs,
            "output": self._outputs,
        }
        model = {
            "ir_version": _IR_VERSION,
            "producer_name": "recurra",
            "producer_version": _core.__version__,
            "graph": graph,
            "opset_import": [{"domain": "", "version": OPSET}],
        }
        return encode(schema.MODEL, model)


def _attribute(name: str, value: Any) -> dict[str, Any]:
    kind = _kind(value)
    plain = value.encode() if kind == "s" else [one.encode() for one in value] if kind == "strings" else value
    return {"name": name, "type": _ATTRIBUTE_NUMBERS[kind], kind: plain}


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "s"
    if isinstance(value, list | tuple):
        return {str: "strings", float: "floats"}.get(type(value[0]) if value else int, "ints")
    return "f" if isinstance(value, float) else "i"


def _value(name: str, dims: Sequence[int | str], dtype: np.dtype[Any]) -> dict[str, Any]:
    shape = [{"dim_value": one} if isinstance(one, int) else {"dim_param": one} for one in dims]
    return {"name": name, "type": {"tensor_type": {"elem_type": tensors.number_of(dtype), "shape": {"dim": shape}}}}
