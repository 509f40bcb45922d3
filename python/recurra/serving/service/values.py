"""A model's inputs and outputs as JSON, safetensors and plain bytes."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.graph.graph import Port
from recurra.saving import container
from recurra.serving.service.problems import Problem

if TYPE_CHECKING:
    from recurra.layers.layer import Layer

#: Bytes of Python's objects for a byte of JSON, at most: an empty list is 64 bytes for 3.
JSON_COST = 24


def read_json(operation: str, text: str | bytes) -> Any:
    """The value that a JSON text stands for."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        what = f"{error}" if isinstance(error, ValueError) else "nested too deeply"
        raise Problem(
            400, "ValueError", f"{operation}: got no JSON ({what}), expected an object; see /v1/model"
        ) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def plain(array: Array) -> Any:
    """An output for JSON, which has no NaN and no infinities: null stands for them."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array.tolist()
    holes = array.astype(object)
    holes[~np.isfinite(array)] = None
    return holes.tolist()


def written(value: Any) -> str:
    """JSON of a value, item by item, between which other threads have their turn."""
    return f"[{', '.join(map(json.dumps, value))}]" if isinstance(value, list) else json.dumps(value)


class Values:
    """Reads inputs of one model, and writes its outputs. Arrays are in the order of the model's inputs."""

    def __init__(self, model: Layer) -> None:
        graph, runner = model._graph(), model._runner()
        self.ports, self._dtype = graph.inputs, model.dtype or np.dtype(np.float32)
        self.inputs, self.outputs = runner.inputs, runner.outputs
        self._names = [self._name("x", self.inputs.names, index) for index in range(self.inputs.count or 1)]
        #: Numbers that a step of a call takes and makes, in all layers.
        self._width = sum(port.size or 1 for port in self.ports if port.kind != "tokens") + 2 * sum(
            node.layer.output_size or 1 for node in graph.nodes
        )
        self._bytes = self._in_bytes()

    def _name(self, letter: str, names: tuple[str, ...] | None, index: int) -> str:
        alone = (self.inputs if letter == "x" else self.outputs).count is None
        return letter if alone else f"{letter}.{names[index] if names else index}"

    def describe(self) -> list[dict[str, Any]]:
        """The inputs as plain data."""
        return [
            {"name": name, "kind": port.kind, "size": port.size, "axis": port.axis, "dtype": str(self._of(port))}
            for name, port in zip(self._names, self.ports, strict=True)
        ]

    @property
    def output_names(self) -> list[str]:
        """The outputs' names in answers that are safetensors."""
        return [self._name("y", self.outputs.names, index) for index in range(self.outputs.count or 1)]

    def _of(self, port: Port) -> np.dtype[Any]:
        return np.dtype(np.int64) if port.kind == "tokens" else np.dtype(port.dtype or self._dtype)

    def cost(self, steps: int, as_json: bool) -> int:
        """Bytes of a call of so many steps, and of its answer."""
        return steps * self._width * self._dtype.itemsize * (8 if as_json else 1)

    # Reading

    def from_json(self, operation: str, x: Any, chunk: bool = True, batches: bool = False) -> list[Array]:
        """Inputs as nested lists: of a sequence, of a step if not `chunk`, or, if `batches`, also of several
        sequences."""
        return [
            _array(
                operation,
                self.inputs.label("x", index),
                port,
                one,
                self._rank(port, chunk, batches, one),
                self._of(port),
            )
            for index, (port, one) in enumerate(zip(self.ports, self._spread(operation, x), strict=True))
        ]

    def _spread(self, operation: str, x: Any) -> list[Any]:
        return self.inputs.spread(operation, "x", x)

    @staticmethod
    def _rank(port: Port, chunk: bool, batches: bool, value: Any) -> int:
        rank = (port.kind != "tokens") + (chunk and port.axis != "vector")
        return rank + 1 if batches and _depth(value, rank + 1) == rank + 1 else rank

    def from_safetensors(self, operation: str, body: bytes) -> tuple[list[Array], Array | None]:
        """Inputs as the arrays of a file, and the lengths, if it has them."""
        try:
            found = container.read_bytes(operation, body).arrays
        except ModelFormatError as error:
            what = f"{operation}: got a body that is no safetensors file"
            raise Problem(400, "ValueError", f"{what}, expected one; {error}") from None
        lengths = found.pop("lengths", None)
        if set(found) != set(self._names):
            got, expected = ", ".join(sorted(found)) or "none", ", ".join(self._names)
            raise ValueError(f"{operation}: got the arrays {got}, expected {expected}; rename them")
        arrays = [found[name] for name in self._names]
        for name, port, array in zip(self._names, self.ports, arrays, strict=True):
            rank = self._rank(port, True, False, None)
            if array.ndim not in (rank, rank + 1):
                raise ValueError(f"{operation}: got {name} of shape {array.shape}, expected {_axes(port, rank)}")
        return arrays, lengths

    def has_batch(self, operation: str, arrays: Sequence[Array]) -> bool:
        """Whether inputs have a batch axis."""
        more = {
            array.ndim - self._rank(port, True, False, None) for port, array in zip(self.ports, arrays, strict=True)
        }
        if len(more) > 1:
            raise ValueError(
                f"{operation}: got inputs with and without a batch axis, expected all with one, or none; add x[None]"
            )
        return more == {1}

    def _in_bytes(self) -> tuple[int, np.dtype[Any], np.dtype[Any]] | None:
        """Of steps in bytes, the numbers of one, their dtype, and the dtype that the model takes; None if it has no
        single input of a known size."""
        port = self.ports[0]
        if self.inputs.count is not None or self.outputs.count is not None or not port.size:
            return None
        dtype = self._of(port)
        return (1, np.dtype("<i4"), dtype) if port.kind == "tokens" else (port.size, dtype.newbyteorder("<"), dtype)

    def from_bytes(self, operation: str, data: bytes) -> Array:
        """A chunk as the numbers of its steps, one after the other."""
        if self._bytes is None:
            raise ValueError(
                f"{operation}: got bytes, expected JSON, as this model has no single input of a known size"
            )
        width, dtype, own = self._bytes
        if len(data) % (width * dtype.itemsize):
            raise ValueError(
                f"{operation}: got {len(data)} bytes, expected a multiple of {width * dtype.itemsize}, the bytes of a "
                f"step; send {width} {dtype.name} numbers for each step"
            )
        numbers = np.frombuffer(data, dtype).astype(own, copy=False)
        return numbers if self.ports[0].kind == "tokens" else numbers.reshape(-1, width)

    # Writing

    def to_json(self, y: Any) -> Any:
        """Outputs in the model's structure: a list, or an object by names."""
        if self.outputs.count is None:
            return plain(y)
        joined = self.outputs.join([plain(one) for one in self.outputs.spread("", "y", y)])
        return list(joined) if isinstance(joined, tuple) else joined

    def to_safetensors(self, y: Any) -> bytes:
        """Outputs by name: y, y.0, y.1, ... or y.name."""
        import safetensors.numpy  # late, to keep the import of this cheap

        made = self.outputs.spread("", "y", y)
        named = {name: np.ascontiguousarray(one) for name, one in zip(self.output_names, made, strict=True)}
        return bytes(safetensors.numpy.save(named))


def to_bytes(y: Array) -> bytes:
    """The little-endian numbers of an output."""
    return (y if sys.byteorder == "little" else y.byteswap()).tobytes()


def _depth(value: Any, most: int) -> int:
    depth = 0
    while isinstance(value, list) and depth < most:
        depth, value = depth + 1, value[0] if value else None
    return depth


def _axes(port: Port, rank: int) -> str:
    names = ["t"] * (rank > (port.kind != "tokens")) + [str(port.size or "features")] * (port.kind != "tokens")
    return f"({', '.join(names)}{',' * (rank == 1)})" if names else "a number"


def _array(operation: str, name: str, port: Port, value: Any, rank: int, dtype: np.dtype[Any]) -> Array:
    """Nested lists as an array. Every list is looked at first: numpy would also take text, null, and rows of any
    length."""
    kinds: set[type] = {int} if port.kind == "tokens" else {int, float}
    shape: list[int] = []
    _look(operation, name, value, rank, kinds, shape, 0)
    if len(shape) < rank:  # no steps, or no rows
        shape += [0] * (rank - len(shape))
        if port.kind != "tokens" and port.size:
            shape[-1] = port.size
        return np.zeros(shape, dtype)
    try:
        with np.errstate(over="ignore"):
            array = np.array(value, np.int64 if port.kind == "tokens" else np.float64).astype(dtype)
    except OverflowError:
        array = np.array(math.inf)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            f"{operation}: got a number in {name} beyond those of {dtype}, expected smaller ones; scale it"
        )
    return array


def _look(operation: str, name: str, value: Any, rank: int, kinds: set[type], shape: list[int], depth: int) -> None:
    if depth == rank:
        if type(value) not in kinds:
            raise _unlike(operation, name, value, kinds)
        return
    if not isinstance(value, list):
        raise ValueError(  # noqa: TRY004 - of JSON, where there is no other kind of mistake
            f"{operation}: got {_named(value)} in {name}, expected {rank} levels of lists; write one list for each axis"
        )
    if len(shape) == depth:
        shape.append(len(value))
    elif shape[depth] != len(value):
        raise ValueError(
            f"{operation}: got lists of {shape[depth]} and of {len(value)} in {name}, expected as many in each; fill "
            "them up"
        )
    if depth == rank - 1:
        if not kinds.issuperset(map(type, value)):
            raise _unlike(operation, name, next(one for one in value if type(one) not in kinds), kinds)
        return
    for one in value:
        _look(operation, name, one, rank, kinds, shape, depth + 1)


def _unlike(operation: str, name: str, value: Any, kinds: set[type]) -> ValueError:
    expected = "numbers" if float in kinds else "integers, the numbers of tokens"
    return ValueError(f"{operation}: got {_named(value)} in {name}, expected {expected}; see /v1/model")


def _named(value: Any) -> str:
    """A value of JSON in messages, at any size of it."""
    kind = "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else None
    return kind or ("null" if value is None else "a text" if isinstance(value, str) else str(value)[:40])
