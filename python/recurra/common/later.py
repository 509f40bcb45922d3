"""Lazy public names, imported on first use: services that only run models need few of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from recurra.common import keywords


def attributes(
    package: dict[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` (PEP 562) of a package.

    Args:
        package: its `globals()`.
        homes: for each name, the module that defines it, or that has this name.
    """

    def get(name: str) -> Any:
        if name not in homes:
            if name.startswith("_") or "." in package["__name__"]:  # asked by the import of a module of that name
                raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
            from recurra.common import habits

            raise habits.of_module(package["__name__"], name)
        module = import_module(homes[name])
        package[name] = getattr(module, name, module)
        keywords.explain_all(package, [name])
        return package[name]

    return get, lambda: sorted(package["__all__"])  # what an editor completes
