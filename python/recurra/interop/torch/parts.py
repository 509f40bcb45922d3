"""The layers of a module or a state_dict by name, to compose a model by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recurra.common import checks
from recurra.interop.named import Layers, checked_options, read_layers
from recurra.interop.torch import by_hand
from recurra.interop.torch.chain import Chain, plain, take
from recurra.interop.torch.convert import convert, converter_name, dtype_of
from recurra.interop.torch.guess import guessed, narrow
from recurra.interop.torch.options import options_of
from recurra.layers.leaf import LeafLayer
from recurra.saving import container, foreign


def torch_layers(source: Any, *, options: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, LeafLayer]:
    """The layers of a PyTorch model by name, with copies of their parameters, to compose a model by hand.

        layers = rc.interop.torch_layers(torch.load("encoder.pt", weights_only=True))
        model = rc.Sequential(layers["lstm"], rc.Pool("last"), layers["linear"])

    A module gives those of its submodules that have a counterpart here. A state_dict only has names and shapes, which
    identify recurrent layers and cells, Linear, Embedding, Conv1d, LayerNorm and BatchNorm; a matrix without a bias is
    an Embedding if its name contains "emb". Options that shapes do not determine have the constructors' defaults,
    unless `options` sets them.

    Args:
        source: a module, a state_dict, or the path of a safetensors file.
        options: for a layer's name, arguments of its constructor here, and "type" for its class, as in
            {"conv": {"stride": 2, "padding": "same"}, "table": {"type": "Embedding"}}. For a module on images, their
            "height", "width" unless the columns are the steps, and for a pool "channels". A module's own options hold
            beside those given.

    Returns:
        A dict by name; "" if `source` is a single layer. Layers that could not be read are missing; the KeyError says
        why.

    Raises:
        TypeError, ValueError, ModelFormatError: as in `from_torch`.

    Example:
        >>> state_dict = rc.Sequential(rc.GRU(3, 8), rc.Linear(8, 2)).state_dict()
        >>> layers = rc.interop.torch_layers(state_dict)
        >>> layers["0"]
        GRU(input_size=3, hidden_size=8)
    """
    given = checked_options("torch_layers", options)
    if isinstance(source, str | os.PathLike | Mapping):
        return layers_of_parameters("torch_layers", read_parameters("torch_layers", source), given)
    if not hasattr(source, "named_modules"):
        raise TypeError(
            f"torch_layers: got {type(source).__name__}, expected a torch.nn.Module, a state_dict or the path of a "
            "safetensors file; give one of them"
        )
    return _of_module(source, given)


def _of_module(source: Any, options: Mapping[str, dict[str, Any]]) -> Layers[LeafLayer]:
    dtype = dtype_of(source)
    whole: dict[str, LeafLayer] = {}
    modules: dict[str, Any] = {}
    for name, module in source.named_modules():
        if config := getattr(module, "recurra_config", None):  # of to_torch: it knows its layers
            model = by_hand.rebuilt(module, config, dtype)
            whole |= {".".join(filter(None, (name, prefix[:-1]))): leaf for prefix, leaf in model.leaves}
        is_part = any(not one or name == one or name.startswith(f"{one}.") for one in whole)
        if not is_part and (_has_own(module) or converter_name(module) is not None or not list(module.children())):
            modules[name] = module

    def made(name: str, module: Any) -> LeafLayer:
        given = options.get(name, {})
        if isinstance(module, LeafLayer):
            described = {"type": module.label, **module.config(), **given}
            return _from_parameters("torch_layers", name, module.state_dict(), described) if given else module
        image = set(given) <= {"height", "width", "channels"}
        chain = Chain(dtype, "any", *(given.get(key) if image else None for key in ("channels", "height", "width")))
        chain.place = name
        if not image:
            own = {} if "type" in given or not _has_own(module) else options_of(module, chain, given)
            return _from_parameters("torch_layers", name, module.state_dict(), {**own, **given})
        if converter_name(module) is None:
            raise ValueError(f"it is of class {type(module).__name__}, which has no counterpart here")
        convert(module, chain)
        if not chain.layers or not isinstance(chain.layers[0], LeafLayer):
            raise ValueError(f"it is of class {type(module).__name__}, which is no layer alone here")
        return chain.layers[0]

    return read_layers("torch_layers", {**modules, **whole}, made).answering(options)


def _has_own(module: Any) -> bool:
    return any(True for _one in module.parameters(recurse=False))


def read_parameters(operation: str, source: Any) -> dict[str, Any]:
    """Arrays by name, from a mapping or a file."""
    if isinstance(source, Mapping):
        for name, value in source.items():
            if not isinstance(name, str) or not hasattr(value, "shape"):
                raise _not_a_tensor(operation, source, name)
            if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # which numpy has not
                raise narrow(operation, name, "bfloat16")
        return {name: plain(value) for name, value in source.items()}
    path = checks.path(operation, "source", source)
    if path.endswith(foreign.PICKLES) or _is_pickle(path):
        raise ValueError(
            f"{operation}: got {path}, a pickle file, which may run any code when it is read, expected a safetensors "
            "file or a state_dict; if you trust it, write "
            f"{operation}(torch.load({path!r}, map_location='cpu', weights_only=True))"
        )
    return dict(container.read(operation, path).arrays)


def _not_a_tensor(operation: str, source: Mapping[Any, Any], name: Any) -> TypeError:
    """The error for a value of `source` that is no tensor; a checkpoint of a training has its state_dict within."""
    inner = [key for key, value in source.items() if isinstance(value, Mapping) and _has_tensors_only(value)]
    if inner:
        cure = "give the state_dict within: " + " or ".join(f"source[{key!r}]" for key in inner[:4])
    elif isinstance(name, str):
        cure = f"leave {name!r} out, or give a state_dict"
    else:
        cure = "give a state_dict, whose names are strings"
    return TypeError(f"{operation}: got {type(source[name]).__name__} as {name!r}, expected tensors by name; {cure}")


def _has_tensors_only(mapping: Mapping[Any, Any]) -> bool:
    return bool(mapping) and all(isinstance(key, str) and hasattr(one, "shape") for key, one in mapping.items())


def _is_pickle(path: str) -> bool:
    """Whether a file begins like those of torch.save: with a zip archive or a pickle."""
    file = Path(path)
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        head = opened.read(4)
    return head == foreign.ZIP or head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def layers_of_parameters(
    operation: str, parameters: Mapping[str, Any], options: Mapping[str, dict[str, Any]]
) -> Layers[LeafLayer]:
    """Layers by name, each made from the parameters that share a prefix, up to the last dot."""
    groups: dict[str, dict[str, Any]] = {}
    for name, value in parameters.items():
        prefix, _, own = name.rpartition(".")
        groups.setdefault(prefix, {})[own] = value

    def made(name: str, group: dict[str, Any]) -> LeafLayer:
        return _from_parameters(operation, name, group, options.get(name, {}))

    return read_layers(operation, groups, made).answering(options)


def _from_parameters(operation: str, name: str, group: Mapping[str, Any], options: dict[str, Any]) -> LeafLayer:
    arrays = {key: plain(value) for key, value in group.items() if key != "num_batches_tracked"}
    layer, names = guessed(operation, name, arrays, options)
    take(layer, {own: arrays[given] for own, given in names.items()})
    return layer
