"""Which parameters are decayed, and by which factor the learning rate of each is multiplied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from recurra import _core
from recurra.common import checks


class Span(NamedTuple):
    """A span of a flat buffer: weight decay, and the factor of the learning rate."""

    begin: int
    end: int
    decay: float
    factor: float


class Groups(NamedTuple):
    """Parameters by their names: `no_decay` are parts of names, `factors` patterns for whole names."""

    no_decay: tuple[str, ...]
    factors: tuple[tuple[str, float], ...]

    def spans(self, prefix: str, parameters: _core.Parameters, weight_decay: float) -> list[Span]:
        """The spans of a layer whose names have this prefix, in order."""
        found: list[Span] = []
        for name in parameters.names:
            begin, end = parameters.span(name)
            decay = 0.0 if any(text in prefix + name for text in self.no_decay) else weight_decay
            factor = _factor(prefix + name, self.factors)
            last = found[-1] if found else None
            if last is not None and (last.decay, last.factor) == (decay, factor):
                found[-1] = last._replace(end=end)
            else:
                found.append(Span(begin, end, decay, factor))
        return found

    def check(self, operation: str, names: Sequence[str]) -> None:
        """Refuse a pattern that none of the names fits."""
        unused = _unused(tuple(names), self.factors)
        if unused is not None:
            raise ValueError(
                f"{operation}: got lr_multipliers with the pattern {unused!r}, which no parameter fits, expected one "
                f"for the "
                f"names {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}; correct it, such as '0.*' for "
                f"layer 0"
            )


def multipliers(owner: str, value: Any) -> dict[str, float]:
    """The argument lr_multipliers, checked."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError(
            f"{owner}: got lr_multipliers={value!r}, expected a dict from patterns of names to factors; write "
            "lr_multipliers={'0.*': 0.1}"
        )
    return {name: checks.number(owner, f"lr_multipliers[{name!r}]", factor) for name, factor in value.items()}


@lru_cache(4096)
def _factor(name: str, factors: tuple[tuple[str, float], ...]) -> float:
    return next((factor for pattern, factor in factors if fnmatchcase(name, pattern)), 1.0)


@lru_cache(64)
def _unused(names: tuple[str, ...], factors: tuple[tuple[str, float], ...]) -> str | None:
    return next((pattern for pattern, _ in factors if not any(fnmatchcase(name, pattern) for name in names)), None)
