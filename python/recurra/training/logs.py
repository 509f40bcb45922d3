"""The logs of an epoch so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property


class LazyLogs(Mapping[str, float]):
    """Logs computed on first access: AUC sorts all scores so far, which would take hours after every step."""

    def __init__(self, make: Callable[[], dict[str, float]]) -> None:
        self._make = make

    @cached_property
    def _logs(self) -> dict[str, float]:
        return self._make()

    def __getitem__(self, name: str) -> float:
        return self._logs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._logs)

    def __len__(self) -> int:
        return len(self._logs)

    def __repr__(self) -> str:
        return repr(self._logs)
