"""Whether batches that are asked for again are those of the run that is gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

from recurra.common import errors
from recurra.common.errors import ResumeWarning
from recurra.data.batch import Batch, Batches
from recurra.data.fingerprint import Fingerprint

#: Bytes of each array of a batch that are compared.
_SAMPLE = 1 << 16


class Seen(NamedTuple):
    """So many batches of an epoch, and their fingerprint."""

    epoch: int
    batches: int
    fingerprint: str


_NONE = Seen(-1, 0, "")


class Replay:
    """Follows the batches that users' code makes, whose content is not known before."""

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self._on = False
        self._trace = Fingerprint(_SAMPLE)
        self._seen = self._expected = _NONE

    def watch(self) -> None:
        """Begin to follow."""
        self._on = True

    def see(self, epoch: int, index: int, batch: Batch) -> None:
        """One more batch."""
        if not self._on:
            return
        if not index:
            self._trace = Fingerprint(_SAMPLE)
        self._seen = Seen(epoch, index + 1, self._trace.add(batch).text)
        if self._seen[:2] == self._expected[:2]:
            self._compare(self._seen.fingerprint)

    def end(self, epoch: int) -> None:
        """An epoch is over."""
        if self._expected.epoch == epoch:  # it had more batches before
            self._compare("")

    def _compare(self, fingerprint: str) -> None:
        expected, self._expected = self._expected, _NONE
        if fingerprint != expected.fingerprint:
            errors.warn(
                f"{self._operation}: got batches in epoch {expected.epoch + 1} that are not those of the run that is gone on "
                f"with, expected the same {expected.batches} in the same order: rows may count twice, or never; give arrays, "
                f"or a function of the epoch's number that seeds by it",
                ResumeWarning,
            )

    def state_dict(self) -> dict[str, Any]:
        """What was seen last."""
        return {"seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Expect it again."""
        self._expected = Seen(*state["seen"])

    def begin(self, batches: Batches, batch: int) -> None:
        """Go on at `batch` of an epoch: compare what can be compared now, and say what never can."""
        if not batches.repeatable:
            errors.warn(
                f"{self._operation}: got batches from outside, of which nobody can know whether they go on as in the run "
                f"before, expected the same in the same order: a loader that shuffles may begin anew; give arrays, a list, or "
                f"a function of the epoch's number that seeds by it",
                ResumeWarning,
            )
        elif batch == 0 and self._expected.batches:  # else all that came before in the epoch is made again anyway
            trace, expected = Fingerprint(_SAMPLE), self._expected
            made = [trace.add(one).text for one in islice(batches.epoch(expected.epoch), expected.batches)]
            self._compare(made[-1] if len(made) == expected.batches else "")
