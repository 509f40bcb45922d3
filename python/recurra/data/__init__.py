"""Batches from windows of series, long sequences, sessions, and rows of different lengths.

`fit` takes arrays and lists of ragged arrays directly, and anything that yields a `Batch`, or a tuple of its first two
to four fields, for each step. No function here starts a thread or a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recurra.common import later

if TYPE_CHECKING:
    from recurra.data.batch import Batch
    from recurra.data.lanes import Sessions, Stateful, sessions, stateful
    from recurra.data.missing import Carried, carry_forward
    from recurra.data.order import bucket_batches
    from recurra.data.series import windows

__all__ = [
    "Batch",
    "Carried",
    "Sessions",
    "Stateful",
    "bucket_batches",
    "carry_forward",
    "sessions",
    "stateful",
    "windows",
]

__getattr__, __dir__ = later.attributes(
    globals(),
    {
        "Batch": "recurra.data.batch",
        "Carried": "recurra.data.missing",
        "Sessions": "recurra.data.lanes",
        "Stateful": "recurra.data.lanes",
        "bucket_batches": "recurra.data.order",
        "carry_forward": "recurra.data.missing",
        "sessions": "recurra.data.lanes",
        "stateful": "recurra.data.lanes",
        "windows": "recurra.data.series",
    },
)
