"""The progress bar."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class Progress:
    """A tqdm bar, in terminals and notebooks; does nothing if `shown` is False."""

    def __init__(self, total: int | None, description: str, shown: bool, done: int = 0) -> None:
        self.done = done
        self._bar: Any = None
        if shown:
            from tqdm.auto import tqdm  # late, to keep `import recurra` cheap

            self._bar = tqdm(total=total, desc=description, unit="batch", dynamic_ncols=True, initial=done)

    def update(self, count: int = 1, **numbers: float) -> None:
        """Advance by `count` batches and show `numbers`."""
        self.done += count
        if self._bar is not None:
            self._show(numbers)
            self._bar.update(count)

    def finish(self, **numbers: float) -> None:
        """Show the final `numbers`."""
        if self._bar is not None:
            self._show(numbers)
            self._bar.refresh()

    def _show(self, numbers: dict[str, float]) -> None:
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in numbers.items()}, refresh=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
