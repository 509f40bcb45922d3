"""How many live streams a core carries: callers on one event loop, who come and go, each with a step every 32 ms.

    python benchmarks/serving.py                            # some minutes
    python benchmarks/serving.py --rate 100 --hidden 256 --json serving.json
    python benchmarks/serving.py --streams 200,400 --seconds 2
    python benchmarks/serving.py --silero                   # the voice detector in the package silero-vad

Callers join by a Poisson process and stay for an exponential time, five seconds in the mean. Each asks for a step at
its rate, whether or not the one before was late, and a step's latency counts from the moment at which it was due.
Callers and engine share one core, so what asyncio costs is part of every row; "nothing" shows how much, with a step
that does nothing.

    pool            recurra.serving.Pool, `await stream.astep(x)`
    a session each  an onnxruntime session for each caller, run on the event loop
    by hand         one onnxruntime session; a coroutine gathers steps and states that wait, and scatters the results

The number of streams grows until the 99th percentile is above 10 ms. Before anything is timed, the engines' outputs are
compared.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from engines import Array, Problem, make_problem
from measure import pin
from workloads import Workload

LIFETIME = 5.0  # seconds that a caller stays, in the mean
RATE = np.array(16000)  # samples a second
LATE = 10e-3  # the 99th percentile's limit
WARM_UP = 0.5  # seconds that do not count
#: Streams that are tried, until one number is too large.
STREAMS = [25, 50, 100, 200, 300, 400, 600, 800, 1000, 1250, 1500, 2000, 2500, 3000, 4000, 5000]


class Network:
    """An LSTM as a layer and as an ONNX graph. States of n rows are arrays (any, n, size)."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        workload = problem.workload
        self.name, self.features = f"LSTM {workload.input_size}-{workload.hidden_size}", workload.input_size
        self.states = [np.zeros((1, workload.hidden_size), np.float32)] * 2

    def model(self) -> Any:
        import recurra as rc

        layer = rc.LSTM(self.features, self._problem.workload.hidden_size)
        layer.load_state_dict(self._problem.weights)
        return layer

    def graph(self) -> bytes:
        from engines.onnx_graph import build_model

        any_batch = replace(self._problem.workload, batch="N")  # type: ignore[arg-type] # a name is a size left open
        return build_model(any_batch, self._problem.weights).SerializeToString()

    def session(self) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return ort.InferenceSession(self.graph(), options, providers=["CPUExecutionProvider"])

    def run(self, session: Any, x: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Of (n, features) and states, the outputs (n, ...) and the next states."""
        y, h, c = session.run(None, {"x": x[None], "h_0": states[0], "c_0": states[1]})
        return y[0, 0] if y.ndim == 4 else y[0], [h, c]


class Silero(Network):
    """The voice detector: 32 ms of sound, and the 64 samples before, to a probability."""

    def __init__(self) -> None:
        found = find_spec("silero_vad")
        if found is None or found.origin is None:
            raise SystemExit("serving: silero-vad is not installed; run pip install --no-deps silero-vad")
        self._path = Path(found.origin).parent / "data" / "silero_vad.onnx"
        self.name, self.features = "silero-vad", 576
        self.states = [np.zeros((2, 128), np.float32)]

    def model(self) -> Any:
        import recurra as rc

        return rc.from_onnx(self._path, sr=16000)

    def graph(self) -> bytes:
        return self._path.read_bytes()

    def run(self, session: Any, x: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        y, state = session.run(None, {"input": x, "state": states[0], "sr": RATE})
        return y, [state]


class Service(ABC):
    """An engine with a state for each caller."""

    name: str

    @abstractmethod
    def join(self) -> Any:
        """A new caller's state."""

    @abstractmethod
    async def step(self, caller: Any, x: Array) -> Array:
        """The output of its next step, (H,)."""

    @abstractmethod
    def leave(self, caller: Any) -> None:
        """The caller goes."""

    def about(self) -> str:
        """What else is to be told."""
        return ""


class Nothing(Service):
    name = "nothing"

    def join(self) -> Any:
        return None

    async def step(self, caller: Any, x: Array) -> Array:
        return x

    def leave(self, caller: Any) -> None:
        pass


class RecurraPool(Service):
    name = "pool"

    def __init__(self, network: Network, streams: int) -> None:
        import recurra as rc

        rc.set_num_threads(1)
        self.pool = rc.serving.Pool(network.model(), 2 * streams + 100)

    def join(self) -> Any:
        return self.pool.open()

    async def step(self, caller: Any, x: Array) -> Array:
        return await caller.astep(x)  # type: ignore[no-any-return]

    def leave(self, caller: Any) -> None:
        caller.close()

    def about(self) -> str:
        sizes = self.pool.stats().batch_sizes
        return f"{sizes.total / max(sizes.number, 1):.1f} streams in a batch"


class Sessions(Service):
    """Sessions are made beforehand, and taken over by later callers: making one takes longer than a caller waits."""

    name = "a session each"

    def __init__(self, network: Network, streams: int) -> None:
        self._network = network
        self._zeros = [one[:, None] for one in network.states]
        self._free = [network.session() for _ in range(streams + streams // 4)]

    def join(self) -> Any:
        return [self._free.pop() if self._free else self._network.session(), self._zeros]

    async def step(self, caller: Any, x: Array) -> Array:
        session, states = caller
        y, caller[1] = self._network.run(session, x[None], states)
        return y[0]  # type: ignore[no-any-return]

    def leave(self, caller: Any) -> None:
        self._free.append(caller[0])


class ByHand(Service):
    name = "by hand"

    def __init__(self, network: Network, streams: int) -> None:
        self._network, self._session = network, network.session()
        self._waiting: list[tuple[list[Array], Array, asyncio.Future[Array]]] = []
        self._batches = self._steps = 0

    def join(self) -> Any:
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

    def leave(self, caller: Any) -> None:
        pass

    def about(self) -> str:
        return f"{self._steps / max(self._batches, 1):.1f} streams in a batch"


SERVICES: dict[str, Callable[[Network, int], Service]] = {
    "nothing": lambda network, streams: Nothing(),
    "pool": RecurraPool,
    "a session each": Sessions,
    "by hand": ByHand,
}


@dataclass
class Load:
    """What callers do, and what became of it."""

    streams: int
    rate: float
    seconds: float
    latencies: list[float]
    lags: list[float]


async def _caller(service: Service, load: Load, xs: Array, begin: float, pick: random.Random) -> None:
    """Steps at a fixed rate for a random time."""
    now = perf_counter()
    end = now + pick.expovariate(1 / LIFETIME)
    due = now + pick.random() / load.rate
    caller = service.join()
    while due < min(end, begin + WARM_UP + load.seconds):
        if (pause := due - perf_counter()) > 0:
            await asyncio.sleep(pause)
        await service.step(caller, xs[pick.randrange(len(xs))])
        if due > begin + WARM_UP:
            load.latencies.append(perf_counter() - due)
        due += 1 / load.rate
    service.leave(caller)


async def _watch(load: Load, end: float) -> None:
    """How late the event loop is, every 5 ms."""
    while (due := perf_counter() + 5e-3) < end:
        await asyncio.sleep(5e-3)
        load.lags.append(perf_counter() - due)


async def _serve(service: Service, load: Load, xs: Array) -> None:
    pick = random.Random(0)
    begin = perf_counter()
    end = begin + WARM_UP + load.seconds
    tasks = {asyncio.create_task(_caller(service, load, xs, begin, pick)) for _ in range(load.streams)}
    watch = asyncio.create_task(_watch(load, end))
    while perf_counter() < end:
        await asyncio.sleep(min(pick.expovariate(load.streams / LIFETIME), max(0.0, end - perf_counter())))
        tasks.add(asyncio.create_task(_caller(service, load, xs, begin, pick)))
        tasks = {task for task in tasks if not task.done()} if len(tasks) > 2 * load.streams else tasks
    await asyncio.gather(watch, *tasks)


def measure(name: str, network: Network, streams: int, rate: float, seconds: float) -> dict[str, Any]:
    """Latencies and lag, in ms, with so many streams."""
    service = SERVICES[name](network, streams)
    load = Load(streams, rate, seconds, [], [])
    xs = np.random.default_rng(0).standard_normal((512, network.features)).astype(np.float32)
    gc.collect()
    asyncio.run(_serve(service, load, xs))
    p50, p99, p999 = (float(value) * 1e3 for value in np.percentile(load.latencies, [50, 99, 99.9]))
    lag = float(np.percentile(load.lags, 99)) * 1e3
    result = {"service": name, "streams": streams, "p50": p50, "p99": p99, "p99.9": p999, "lag": lag}
    return {**result, "steps": len(load.latencies), "about": service.about()}


def check(network: Network, names: Sequence[str]) -> None:
    """The outputs of all engines, after some steps of three callers in turns."""
    xs = np.random.default_rng(1).standard_normal((5, 3, network.features)).astype(np.float32)

    async def outputs(service: Service) -> Array:
        callers = [service.join() for _ in range(3)]
        ys = [await asyncio.gather(*(service.step(one, x) for one, x in zip(callers, row, strict=True))) for row in xs]
        return np.array(ys)

    made = {name: asyncio.run(outputs(SERVICES[name](network, 3))) for name in names if name != "nothing"}
    first = next(iter(made.values()), None)
    for name, y in made.items():
        if np.abs(y - first).max() > 1e-3:
            raise SystemExit(f"serving: {name} differs by {np.abs(y - first).max():.1e}, expected at most 0.001")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how many live streams a core carries.")
    parser.add_argument("--input", type=int, default=128, help="features (default: 128)")
    parser.add_argument("--hidden", type=int, default=128, help="units of the LSTM (default: 128)")
    parser.add_argument("--silero", action="store_true", help="the voice detector, not an LSTM")
    parser.add_argument("--rate", type=float, default=31.25, help="steps a second of a stream (default: 31.25)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: 5)")
    parser.add_argument("--streams", help="these numbers only, such as 100,200")
    parser.add_argument("--services", default=",".join(SERVICES), help="some of: " + ", ".join(SERVICES))
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()

    pin(1)
    names = arguments.services.split(",")
    problem = make_problem(Workload("step", "lstm", arguments.input, arguments.hidden, 1, False, 1, 1), False)
    network = Silero() if arguments.silero else Network(problem)
    check(network, names)
    print(f"{network.name}, {arguments.rate:g} steps a second; ms\n")
    print("| service | streams | p50 | p99 | p99.9 | event loop's lag, p99 | |\n|---|---:|---:|---:|---:|---:|---|")
    results, carried = [], {}
    tried = [int(one) for one in arguments.streams.split(",")] if arguments.streams else STREAMS
    for name in names:
        for streams in tried:
            results.append(result := measure(name, network, streams, arguments.rate, arguments.seconds))
            times = " | ".join(f"{result[key]:.2f}" for key in ("p50", "p99", "p99.9", "lag"))
            print(f"| {name} | {streams} | {times} | {result['about']} |", flush=True)
            if result["p99"] > LATE * 1e3:
                break
            carried[name] = streams
    print(f"\nStreams with a 99th percentile of at most {LATE * 1e3:g} ms:")
    print(", ".join(f"{name} {carried.get(name, 0)}" for name in names))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
