"""All that is public: what people can write behind `rc.`."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import recurra as rc

#: Modules whose names are public.
PACKAGES = [
    "recurra",
    *(f"recurra.{name}" for name in ("callbacks", "data", "diagnose", "losses", "metrics", "optim")),
    *("recurra.serving", "recurra.sklearn", "recurra.optim.schedules"),
    *("recurra.decoding.ctc", "recurra.decoding.search"),
]


def _members(module: ModuleType) -> list[str]:
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return getattr(module, "__all__", None) or [name for name in own if not name.startswith("_")]


def public_objects() -> dict[str, Any]:
    """Classes and functions by their names: "LSTM", "losses.CTC", "optim.schedules.OneCycle"."""
    import recurra.sklearn  # a module that `rc` does not bring in by itself

    modules = {name: getattr(rc, name) for name in rc.__all__ if inspect.ismodule(getattr(rc, name))}
    modules |= {"sklearn": recurra.sklearn, "optim.schedules": rc.optim.schedules}
    found = {name: getattr(rc, name) for name in rc.__all__ if name not in modules}
    found |= {f"{path}.{name}": getattr(module, name) for path, module in modules.items() for name in _members(module)}
    return {name: value for name, value in found.items() if inspect.isclass(value) or callable(value)}
