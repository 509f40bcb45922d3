"""Engines with a state for each caller, in the callers' process."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from callers.networks import Network
from engines import Array


class Service(ABC):
    """An engine with a state for each caller."""

    name: str

    @abstractmethod
    async def join(self) -> Any:
        """A new caller's state."""

    @abstractmethod
    async def step(self, caller: Any, x: Array) -> Array:
        """The output of its next step, (H,)."""

    @abstractmethod
    async def leave(self, caller: Any) -> None:
        """The caller goes."""

    def about(self) -> str:
        """What else is to be told."""
        return ""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """After the last caller."""


class Nothing(Service):
    name = "nothing"

    async def join(self) -> Any:
        return None

    async def step(self, caller: Any, x: Array) -> Array:
        return x

    async def leave(self, caller: Any) -> None:
        pass


class RecurraPool(Service):
    name = "pool"

    def __init__(self, network: Network, streams: int) -> None:
        import recurra as rc

        rc.set_num_threads(1)
        self.pool = rc.serving.Pool(network.model(), 2 * streams + 100)

    async def join(self) -> Any:
        return self.pool.open()

    async def step(self, caller: Any, x: Array) -> Array:
        return await caller.astep(x)  # type: ignore[no-any-return]

    async def leave(self, caller: Any) -> None:
        caller.close()

    def about(self) -> str:
        sizes = self.pool.stats().batch_sizes
        return f"{sizes.total / max(sizes.number, 1):.1f} streams in a batch"

    def close(self) -> None:
        self.pool.close()


class Sessions(Service):
    """Sessions are made beforehand, and taken over by later callers: making one takes longer than a caller waits."""

    name = "a session each"

    def __init__(self, network: Network, streams: int) -> None:
        self._network = network
        self._zeros = [one[:, None] for one in network.states]
        self._free = [network.session() for _ in range(streams + streams // 4)]

    async def join(self) -> Any:
        return [self._free.pop() if self._free else self._network.session(), self._zeros]

    async def step(self, caller: Any, x: Array) -> Array:
        session, states = caller
        y, caller[1] = self._network.run(session, x[None], states)
        return y[0]  # type: ignore[no-any-return]

    async def leave(self, caller: Any) -> None:
        self._free.append(caller[0])


class ByHand(Service):
    name = "by hand"

    def __init__(self, network: Network, streams: int) -> None:
        self._network, self._session = network, network.session()
        self._waiting: list[tuple[list[Array], Array, asyncio.Future[Array]]] = []
        self._batches = self._steps = 0

    async def join(self) -> Any:
        return list(self._network.states)

    async def step(self, caller: Any, x: Array) -> Array:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Array] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._run)
        self._waiting.append((caller, x, future))
        return await future

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        states = [np.stack(one, 1) for one in zip(*(state for state, _, _ in waiting), strict=True)]
        y, after = self._network.run(self._session, np.array([x for _, x, _ in waiting]), states)
        for row, (state, _, future) in enumerate(waiting):
            state[:] = [one[:, row].copy() for one in after]
            if not future.done():
                future.set_result(y[row].copy())
        self._batches += 1
        self._steps += len(waiting)

    async def leave(self, caller: Any) -> None:
        pass

    def about(self) -> str:
        return f"{self._steps / max(self._batches, 1):.1f} streams in a batch"


SERVICES: dict[str, Callable[[Network, int], Service]] = {
    "nothing": lambda network, streams: Nothing(),
    "pool": RecurraPool,
    "a session each": Sessions,
    "by hand": ByHand,
}
