"""Converters for layers and operations of Keras that merge values or take parts of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurra.interop.keras.layer import Apply, KerasLayer, Kwargs, converts
from recurra.interop.keras.source import refused
from recurra.interop.keras.values import Mask, Value
from recurra.layers.merge import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Reverse,
    Subtract,
)
from recurra.layers.pooling import Pool
from recurra.models.compose import MERGES

_MERGES = {cls.__name__: cls for cls in (Add, Subtract, Multiply, Average, Maximum, Minimum)}
#: Modes of the Merge of Keras 1.
_OLD_MODES = {mode: cls.__name__ for mode, cls in {**MERGES, "max": Maximum}.items()}


@converts(*_MERGES)
def convert_merge(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To an elementwise merge; also of a tensor and a number."""
    merge = _MERGES[layer.kind](dtype=layer.dtype)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        given = [*args, *(kwargs[name] for name in ("x1", "x2", "y") if name in kwargs)]
        if len(given) == 2 and any(isinstance(one, int | float) for one in given):
            return _with_number(layer, *given)
        values = layer.several(tuple(given))
        if len({one.sequence for one in values}) > 1:
            raise refused("got vectors and sequences together, expected only one of them")
        return _joined(values, merge(tuple(one.symbol for one in values)))

    return apply


def _joined(values: Sequence[Value], symbol: Any) -> Value:
    """The merged value, masked if all `values` are, by the same mask."""
    ports = {one.port for one in values if one.sequence}
    masked = all(one.masked for one in values)
    if masked and len(ports) > 1:
        raise refused("got values with the masks of different inputs, expected that of one")
    steps = next((one.steps for one in values if one.steps is not None), None)
    port = next((one.port for one in values if one.port is not None), None)
    return values[0].now(symbol, steps=steps, port=port, masked=masked)


def _with_number(layer: KerasLayer, one: Any, other: Any) -> Value:
    first = isinstance(one, Value)
    value = layer.one((one if first else other,))
    number = float(other if first else one)
    affine, x = layer.functions.affine, value.symbol
    if layer.kind == "Add":
        return value.now(affine(x, 1.0, number))
    if layer.kind == "Subtract":
        return value.now(affine(x, 1.0, -number) if first else affine(x, -1.0, number))
    if layer.kind == "Multiply":
        return value.now(affine(x, number))
    if layer.kind == "Minimum":
        return value.now(layer.functions.below(x, number))
    if layer.kind == "Maximum":
        return value.now(affine(layer.functions.below(affine(x, -1.0), -number), -1.0))
    raise refused(f"got a number in {layer.kind}, expected tensors")


@converts("TrueDivide", "Divide")
def convert_divide(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """Division by a number."""

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        if len(args) != 2 or isinstance(args[1], bool) or not isinstance(args[1], int | float) or not args[1]:
            raise refused("got a division, expected one by a number other than 0")
        value = layer.one(args[:1])
        return value.now(layer.functions.affine(value.symbol, 1.0 / args[1]))

    return apply


@converts("Concatenate")
def convert_concatenate(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a Concatenate of features."""
    join = Concatenate(dtype=layer.dtype)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Any:
        if args and isinstance(args[0], list) and any(isinstance(one, Mask) for one in args[0]):
            return _mask_of(layer, args[0])
        values = layer.several(args[:1])
        axis = kwargs.get("axis", layer.get("axis", layer.get("concat_axis", -1)))
        if axis not in (-1, 2 if values[0].sequence else 1):
            raise refused(f"got axis={axis!r:.80}, expected the last one, the features")
        return _joined(values, join(tuple(one.symbol for one in values)))

    return apply


@converts("Merge")
def convert_old_merge(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """Keras 1's Merge, whose mode is one of the merges."""
    mode = layer.get("mode", "sum")
    if mode not in _OLD_MODES:
        raise refused(f"got mode={mode!r:.80}, expected one of {', '.join(_OLD_MODES)}")
    layer.kind = _OLD_MODES[mode]
    return (convert_concatenate if mode == "concat" else convert_merge)(layer, args, kwargs)


@converts("Dot")
def convert_dot(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a Dot of two vectors."""
    if layer.get("normalize", False) or layer.get("axes") not in (-1, 1, [1, 1], [-1, -1]):
        raise refused("got other axes than the features, or normalize=True, expected the features alone")
    dot = Dot(dtype=layer.dtype)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        values = layer.several(args[:1])
        if any(one.sequence for one in values):
            raise refused("got sequences, expected two vectors")
        return values[0].vector(dot(tuple(one.symbol for one in values)))

    return apply


@converts("GetItem")
def convert_slice(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """Slices: the last step, the first step, or a range of features."""

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value, key = layer.one(args[:1]), args[1] if len(args) > 1 else kwargs.get("key")
        parts = list(key) if isinstance(key, list | tuple) else [key]
        everything = slice(None)
        if parts[0] is Ellipsis:
            parts = [everything] * (2 if value.sequence else 1) + parts[1:]
        if parts[0] != everything or len(parts) > (3 if value.sequence else 2):
            raise refused(f"got [{key!r:.80}], expected all rows")
        parts += [everything] * ((3 if value.sequence else 2) - len(parts))
        if value.sequence and parts[1] != everything:
            value = _step(layer, value, parts[1])
        features = parts[-1]
        if features == everything:
            return value
        if not isinstance(features, slice):
            raise refused(f"got [{key!r:.80}], expected a range of features")
        return value.now(value.symbol[..., features])

    return apply


def _step(layer: KerasLayer, value: Value, step: Any) -> Value:
    if step not in (0, -1) or isinstance(step, slice):
        raise refused(f"got step {step!r:.80} alone, expected the first or the last one")
    layer.reads(value)
    symbol = value.symbol if step else Reverse(dtype=layer.dtype)(value.symbol)
    return value.vector(Pool("last", dtype=layer.dtype)(symbol))


@converts("NotEqual")
def convert_not_equal(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """The comparison that computes an input's mask."""

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Mask:
        value, number = args[0], args[1] if len(args) > 1 else kwargs.get("x2")
        plain = isinstance(value, Value) and value.port is not None and value.given is None
        if not plain or isinstance(number, bool) or not isinstance(number, int | float):
            raise refused(
                "got a mask that is not an input's, expected one by Masking or mask_zero directly after an input"
            )
        value.port.mask_by(number)
        return Mask(value.port)

    return apply


@converts("Any", "Squeeze", "ExpandDims", "LogicalOr", "LogicalAnd", "ConvertToTensor", "ZerosLike", "OnesLike")
def convert_mask(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """Operations with which Keras computes masks from masks."""
    return lambda args, kwargs: _mask_of(
        layer, [one for one in (*args, *kwargs.values()) if isinstance(one, Mask | Value)]
    )


def _mask_of(layer: KerasLayer, given: Sequence[Any]) -> Any:
    if layer.kind in ("ZerosLike", "OnesLike"):
        return Mask(None, everywhere=layer.kind == "OnesLike")
    if layer.kind == "ConvertToTensor" and len(given) == 1:
        return given[0]
    masks = [one for one in given if isinstance(one, Mask) and (one.port is not None or one.everywhere)]
    if not masks or any(isinstance(one, Value) for one in given):
        raise refused("got a computation that is not on masks, expected masks of inputs")
    whole = [one for one in masks if one.everywhere]
    if whole:
        return whole[0]
    if len({one.port for one in masks}) > 1:
        raise refused("got masks of different inputs together, expected those of one")
    return masks[0]


@converts("Relu", "Sigmoid", "Tanh", "Elu", "Silu", "Softplus", "Exp", "Gelu", "Square", "Absolute", "Sqrt", "Log")
def convert_function(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """An elementwise function of keras.ops."""
    name = {"Absolute": "abs"}.get(layer.kind, layer.kind.lower())

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        if len(args) != 1:
            raise refused("got a function of several arguments, expected one")
        value = layer.one(args)
        if layer.kind in ("Gelu", "Elu") and any(
            one not in (False, 1.0) for one in layer.config.values() if not isinstance(one, str)
        ):
            raise refused("got arguments other than the defaults, expected the defaults")
        return value.now(layer.functions.plain(name, value.symbol))

    return apply
