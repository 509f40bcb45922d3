"""Refuses a configuration with other sizes than the file's arrays, before anything of that size is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.saving import registry

if TYPE_CHECKING:
    from recurra.layers.layer import Layer


def check(description: Mapping[str, Any], arrays: Mapping[str, Array], custom: Mapping[str, type[Layer]]) -> None:
    """Refuse a configuration whose number of parameters differs from the file's arrays, layer by layer."""
    held: dict[str, int] = {}
    for name, array in arrays.items():
        prefix = name[: name.rfind(".") + 1]
        held[prefix] = held.get(prefix, 0) + array.size
    _check(description, held, custom, "")


def _check(
    description: Mapping[str, Any], held: Mapping[str, int], custom: Mapping[str, type[Layer]], prefix: str
) -> None:
    config = description["config"]
    cls = registry.find(description["type"], custom)
    if cls.made_of_layers:
        for index, inner in enumerate(config["layers"]):
            _check(inner, held, custom, f"{prefix}{index}.")
        return
    expected, found = cls.count_parameters(config), held.get(prefix, 0)
    if expected is not None and expected != found:
        raise ModelFormatError(
            f"got {found} numbers for {prefix}{cls.__name__}, expected {expected} by its configuration; save the model "
            f"again"
        )
