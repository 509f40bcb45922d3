"""Docstrings that describe every argument of a class, those that its bases describe included."""

from __future__ import annotations

import inspect
import re
from typing import TypeVar

T = TypeVar("T")

_SECTION = re.compile(r"^Args:\n((?:(?: {4,}.*)?\n)*?)(?=\n*(?:\S|\Z))", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*):.*\n(?: {5,}.*\n)*", re.MULTILINE)


def with_inherited_arguments(cls: type[T]) -> type[T]:
    """A decorator: arguments that the class takes and only its bases describe appear in its docstring, too, in the
    order of its signature."""
    if cls.__doc__ is None:  # python -OO
        return cls
    described: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        described.update(described_arguments(owner.__dict__.get("__doc__")))
    wanted = [described[name] for name in inspect.signature(cls).parameters if name in described]
    section, text = "Args:\n" + "".join(dict.fromkeys(wanted)), _clean(cls.__doc__)
    cls.__doc__ = (
        _SECTION.sub(lambda _: section, text, count=1) if _SECTION.search(text) else f"{text}\n{section}"
    ).rstrip()
    return cls


def described_arguments(text: str | None) -> dict[str, str]:
    """What a docstring's Args section says, by the name of the argument; several names may share an entry."""
    section = _SECTION.search(_clean(text or ""))
    if section is None:
        return {}
    return {name: entry[0] for entry in _ENTRY.finditer(section[1]) for name in entry[1].split(", ")}


def _clean(text: str) -> str:
    """Without the indentation, which Python 3.13 leaves out itself."""
    return inspect.cleandoc(text) + "\n"
