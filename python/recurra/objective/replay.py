"""Checks that a resumed run gets the same batches as the run before."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

from recurra.common import errors
from recurra.common.errors import ResumeWarning
from recurra.data.batch import Batch, Batches
from recurra.data.fingerprint import Fingerprint

#: Bytes of each array of a batch that are hashed.
_SAMPLE = 1 << 16


class Seen(NamedTuple):
    """The number of batches seen of an epoch, and their fingerprint."""

    epoch: int
    batches: int
    fingerprint: str


_NONE = Seen(-1, 0, "")


class Replay:
    """Fingerprints batches from user code, whose content is unknown in advance, and compares them after a resume."""

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self._on = False
        self._trace = Fingerprint(_SAMPLE)
        self._seen = self._expected = _NONE

    def watch(self) -> None:
        """Start fingerprinting batches."""
        self._on = True

    def see(self, epoch: int, index: int, batch: Batch) -> None:
        """Add batch `index` of an epoch; compare once as many batches as before the break have been seen."""
        if not self._on:
            return
        if not index:
            self._trace = Fingerprint(_SAMPLE)
        self._seen = Seen(epoch, index + 1, self._trace.add(batch).text)
        if self._seen[:2] == self._expected[:2]:
            self._compare(self._seen.fingerprint)

    def end(self, epoch: int) -> None:
        """End an epoch; warn if it had more batches before the break."""
        if self._expected.epoch == epoch:
            self._compare("")

    def _compare(self, fingerprint: str) -> None:
        expected, self._expected = self._expected, _NONE
        if fingerprint != expected.fingerprint:
            errors.warn(
                f"{self._operation}: got batches in epoch {expected.epoch + 1} that are not those of the run to "
                f"resume, expected the same {expected.batches} in the same order: rows may be used twice, or never; "
                "give arrays, or a function of the epoch's number that seeds its generator with it",
                ResumeWarning,
            )

    def state_dict(self) -> dict[str, Any]:
        """The number and fingerprint of the batches seen in the last epoch."""
        return {"seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the batches to compare with."""
        self._expected = Seen(*state["seen"])

    def begin(self, batches: Batches, batch: int) -> None:
        """Resume at `batch` of an epoch: compare the batches that are not replayed anyway, and warn if none can be."""
        if not batches.repeatable:
            errors.warn(
                f"{self._operation}: got an iterable whose batches cannot be compared with those of the run before, "
                "expected the same in the same order: a loader that shuffles may start with another order; give "
                "arrays, a list, or a function of the epoch's number that seeds its generator with it",
                ResumeWarning,
            )
        elif batch == 0 and self._expected.batches:  # past batch 0, the epoch's earlier batches are replayed anyway
            trace, expected = Fingerprint(_SAMPLE), self._expected
            made = [trace.add(one).text for one in islice(batches.epoch(expected.epoch), expected.batches)]
            self._compare(made[-1] if len(made) == expected.batches else "")
