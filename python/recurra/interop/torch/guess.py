"""Identifies a layer by the names and shapes of its parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from recurra.common.typing import Array
from recurra.layers.leaf import LeafLayer
from recurra.saving import registry

_GATES = {4: "LSTM", 3: "GRU", 1: "RNN"}
#: The default class for the number of axes of a weight.
_BY_AXES = {1: "LayerNorm", 2: "Linear", 3: "Conv1d", 4: "Conv2d"}


def guessed(
    operation: str, name: str, arrays: Mapping[str, Array], options: Mapping[str, Any]
) -> tuple[LeafLayer, dict[str, str]]:
    """A layer with parameters of these shapes, and the name in `arrays` for each of its parameters' names.

    Raises:
        ValueError: no layer has parameters of these names and shapes.
    """
    weights = {key for key in arrays if key.startswith("weight")}
    dtype = next((str(one.dtype) for one in arrays.values()), "")
    if dtype not in ("float32", "float64"):
        if not arrays:
            raise _unknown(operation, name, arrays, "float32 or float64")
        raise narrow(operation, name or "layer", dtype)
    if "weight_ih_l0" in weights or "weight_ih" in weights:
        kind, sizes = _recurrent(operation, name, arrays)
    elif "weight" in weights:
        kind, sizes = _plain(name, arrays, options)
    else:
        raise _unknown(operation, name, arrays, "a weight")
    settings = {**sizes, "dtype": dtype, **{key: value for key, value in options.items() if key != "type"}}
    try:
        made: Any = registry.find(options.get("type", kind))(**settings)
    except TypeError as error:
        raise ValueError(f"{operation}: {name or 'layer'}: got options that {kind} does not take; {error}") from error
    names = {own: own if own in arrays else own.removesuffix("_l0") for own in (*made.params, *made.buffers)}
    if missing := [own for own, given in names.items() if given not in arrays]:
        raise _unknown(operation, name, arrays, f"{', '.join(missing)} of a {kind}")
    if extra := set(arrays) - set(names.values()):
        raise _unknown(operation, name, arrays, f"no {', '.join(sorted(extra))} in a {kind}")
    return made, names


def _recurrent(operation: str, name: str, arrays: Mapping[str, Array]) -> tuple[str, dict[str, Any]]:
    end = "_l0" if "weight_ih_l0" in arrays else ""
    inner, outer = arrays[f"weight_ih{end}"], arrays.get(f"weight_hh{end}")
    if outer is None or inner.ndim != 2 or outer.ndim != 2 or not outer.shape[1]:
        raise _unknown(operation, name, arrays, "matrices weight_ih and weight_hh")
    projection = arrays.get(f"weight_hr{end}")
    hidden = projection.shape[-1] if projection is not None else outer.shape[1]
    kind = _GATES.get(inner.shape[0] // hidden if hidden and not inner.shape[0] % hidden else 0)
    if kind is None:
        raise _unknown(operation, name, arrays, "4, 3 or 1 gates of as many units as h has")
    found = [re.fullmatch(r"weight_ih_l(\d{1,4})(_reverse)?", key) for key in arrays]
    sizes: dict[str, Any] = {
        "input_size": inner.shape[1],
        "hidden_size": hidden,
        "num_layers": max([1 + int(one[1]) for one in found if one], default=1),
        "bias": f"bias_ih{end}" in arrays,
        "bidirectional": any(one[2] for one in found if one),
    }
    return kind, sizes | ({"proj_size": projection.shape[0]} if projection is not None else {})


def _plain(name: str, arrays: Mapping[str, Array], options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    chosen = options.get("type")
    weight, bias = arrays["weight"], "bias" in arrays
    kind = chosen or _BY_AXES.get(weight.ndim, "")
    if "running_mean" in arrays and weight.ndim == 1 and chosen is None:
        kind = "BatchNorm"
    elif kind == "Linear" and not bias and chosen is None and "emb" in name.lower():
        kind = "Embedding"
    shape, groups = weight.shape, options.get("groups", 1)
    if kind in ("LayerNorm", "BatchNorm"):
        return kind, {"features": shape[0]}
    if kind == "Embedding" and len(shape) == 2:
        return kind, {"num_embeddings": shape[0], "embedding_dim": shape[1]}
    if kind == "Linear" and len(shape) == 2:
        return kind, {"in_features": shape[1], "out_features": shape[0], "bias": bias}
    if (kind, len(shape)) in (("Conv1d", 3), ("Conv2d", 4)):
        size = shape[2] if kind == "Conv1d" else shape[2:]
        return kind, {"in_channels": shape[1] * groups, "out_channels": shape[0], "kernel_size": size, "bias": bias}
    if kind in ("PReLU", "BatchNorm2d", "InstanceNorm1d") and len(shape) == 1:
        return kind, {{"PReLU": "num_parameters", "BatchNorm2d": "channels"}.get(kind, "features"): shape[0]}
    if kind == "GroupNorm" and len(shape) == 1:
        return kind, {"num_channels": shape[0]}
    if kind == "ConvTranspose1d" and len(shape) == 3:
        return kind, {"in_channels": shape[0], "out_channels": shape[1] * groups, "kernel_size": shape[2], "bias": bias}
    raise ValueError(f"got a weight of shape {shape}, which no layer here has")


def narrow(operation: str, what: str, dtype: str) -> ValueError:
    """The error for parameters of another dtype."""
    return ValueError(
        f"{operation}: {what}: got {dtype}, expected float32 or float64; convert the parameters: "
        "{name: value.float() for name, value in state_dict.items()}"
    )


def _unknown(operation: str, name: str, arrays: Mapping[str, Array], expected: str) -> ValueError:
    got = ", ".join(f"{key} {value.shape}" for key, value in arrays.items())
    return ValueError(
        f"{operation}: {name or 'layer'}: got {got or 'no parameters'}, expected {expected}; give the parameters of a "
        "layer"
    )
