"""Many live streams of one model, batched as they come: a pool for services.

    pool = rc.serving.Pool(model, max_streams=1000)
    with pool.open() as stream:
        y = stream.step(x)            # plain; submit_step gives a Future, and `await stream.astep(x)` is for asyncio

Each step has the bits that it would have in a `Stream` of its own.

`Service` is a pool behind HTTP and WebSocket, for `python -m recurra serve` and for other ASGI applications.
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from recurra.common import keywords as _keywords
from recurra.common import later as _later
from recurra.serving.errors import Overloaded
from recurra.serving.pool import Pool
from recurra.serving.pool_stream import PoolStream
from recurra.serving.stats import Histogram, PoolStats

if _TYPE_CHECKING:
    from recurra.serving.service.service import Service

__getattr__, __dir__ = _later.attributes(globals(), {"Service": "recurra.serving.service.service"})

__all__ = ["Histogram", "Overloaded", "Pool", "PoolStats", "PoolStream", "Service"]

_keywords.explain_all(globals(), __all__)
