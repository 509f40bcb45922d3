"""Errors that show how to convert by hand a model that cannot be read as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from recurra.interop.torch.chain import CONVERTERS, Chain, take
from recurra.layers.layer import Layer
from recurra.layers.leaf import LeafLayer
from recurra.saving import registry

#: Containers without a forward.
_CONTAINERS = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict")


def unreadable(module: Any, chain: Chain) -> ValueError | TypeError:
    """The error for a module without a converter, of torch.nn or with a custom forward."""
    name, place = type(module).__name__, chain.place or "module"
    if type(module).__module__.startswith("torch.nn.") and name not in _CONTAINERS:
        return TypeError(
            f"from_torch: got {place} of class {name}, which has no counterpart here yet, expected one of "
            f"{', '.join(sorted(CONVERTERS))}; take the other layers by rc.interop.torch_layers(module), and write a "
            f"rc.PythonLayer for this one"
        )
    names = [child for child, inner in module.named_modules() if child and type(inner).__name__ in CONVERTERS]
    return TypeError(
        f"from_torch: got {place} of class {name}, with a forward of its own, which cannot be read, expected modules "
        "of torch.nn, alone or in Sequential; read its layers by name, and write its forward again:\n"
        + _lines("module", names)
    )


def no_order(what: str, layers: Mapping[str, Layer]) -> ValueError:
    """The error for the parameters of several layers, which do not tell the order in which layers run."""
    return ValueError(
        f"from_torch: got {what} of {len(layers)} layers, expected one layer, as names and shapes do not say in which "
        "order layers run, nor what is between them; read its layers by name, and write the order again:\n"
        + _lines("state_dict", layers)
    )


def _lines(source: str, names: Iterable[str]) -> str:
    """Lines of code that convert by hand."""
    some = list(names)[:6] or ["name"]
    return "\n".join(
        [
            f"    layers = rc.interop.torch_layers({source})",
            f"    model = rc.Sequential({', '.join(f'layers[{name!r}]' for name in some)})  # as forward has them",
            "    # or, with branches: x = rc.Input(features=...); model = rc.Model(x, layers['a'](x) + layers['b'](x))",
        ]
    )


def rebuilt(source: Any, config: Mapping[str, Any], dtype: str) -> Layer:
    """The layer or model of a module from `to_torch`, with the module's current parameters, of which frozen ones stay
    frozen."""
    model = registry.build(config, {})
    parameters = _of_model(model, source.state_dict())
    if parameters and dtype != str(model.dtype):
        cure = "double" if dtype == "float32" else "float"
        raise ValueError(f"from_torch: got a module of {dtype}, expected {model.dtype}, as made; write module.{cure}()")
    take(model, {name: parameters[name] for name in (*model.params, *model.buffers)})
    learns = {name: one.requires_grad for name, one in _of_model(model, dict(source.named_parameters())).items()}
    for prefix, leaf in model.leaves:
        own = [learns[prefix + name] for name in leaf.params]
        leaf.trainable = any(own) if own else leaf.trainable
    return model


def _of_model(model: Layer, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a module by their names in the model; a layer alone may be in a Network, as "layer"."""
    return {name.removeprefix("layer.") if isinstance(model, LeafLayer) else name: one for name, one in values.items()}
