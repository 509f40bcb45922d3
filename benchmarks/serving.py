"""How many live streams a core carries: callers on one event loop, who come and go, each with a step every 32 ms.

    python benchmarks/serving.py                            # some minutes
    python benchmarks/serving.py --rate 100 --hidden 256 --json serving.json
    python benchmarks/serving.py --streams 200,400 --seconds 2
    python benchmarks/serving.py --silero                   # the voice detector in the package silero-vad
    python benchmarks/serving.py --websocket                # callers in another process, on another CPU

Callers join by a Poisson process and stay for an exponential time, five seconds in the mean. Each asks for a step at
its rate, whether or not the one before was late, and a step's latency counts from the moment at which it was due.
Callers and engine share one core, so what asyncio costs is part of every row; "nothing" shows how much, with a step
that does nothing.

    pool            recurra.serving.Pool, `await stream.astep(x)`
    a session each  an onnxruntime session for each caller, run on the event loop
    by hand         one onnxruntime session; a coroutine gathers steps and states that wait, and scatters the results

With --websocket each caller has a connection; the pool is in `recurra serve`'s application (but for the voice detector,
which is no model but a graph), the others are in one that only answers. Engine and connections share one core, callers
have another. Their part of a step is no smaller than the server's, so that "nothing" may be limited by them.

The number of streams grows until the 99th percentile is above 10 ms. Before anything is timed, the engines' outputs are
compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from callers.load import measure
from callers.networks import Network, Silero
from callers.services import SERVICES, Service
from engines import Array
from measure import pin

LATE = 10e-3  # the 99th percentile's limit
#: Streams that are tried, until one number is too large.
STREAMS = [25, 50, 100, 200, 300, 400, 600, 800, 1000, 1250, 1500, 2000, 2500, 3000, 4000, 5000]

Make = Callable[[str, int], Service]


def check(network: Network, make: Make, names: Sequence[str]) -> None:
    """The outputs of all engines, after some steps of three callers in turns."""
    xs = np.random.default_rng(1).standard_normal((5, 3, network.features)).astype(np.float32)

    async def outputs(service: Service) -> Array:
        callers = [await service.join() for _ in range(3)]
        ys = [await asyncio.gather(*(service.step(one, x) for one, x in zip(callers, row, strict=True))) for row in xs]
        return np.array(ys)

    first: Array | None = None
    for name in names:
        if name == "nothing":
            continue
        service = make(name, 3)
        y = asyncio.run(outputs(service))
        service.close()
        first = y if first is None else first
        if np.abs(y - first).max() > 1e-3:
            raise SystemExit(f"serving: {name} differs by {np.abs(y - first).max():.1e}, expected at most 0.001")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how many live streams a core carries.")
    parser.add_argument("--input", type=int, default=128, help="features (default: 128)")
    parser.add_argument("--hidden", type=int, default=128, help="units of the LSTM (default: 128)")
    parser.add_argument("--silero", action="store_true", help="the voice detector, not an LSTM")
    parser.add_argument("--rate", type=float, default=31.25, help="steps a second of a stream (default: 31.25)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: 5)")
    parser.add_argument("--websocket", action="store_true", help="callers with connections, in another process")
    parser.add_argument("--streams", help="these numbers only, such as 100,200")
    parser.add_argument("--services", default=",".join(SERVICES), help="some of: " + ", ".join(SERVICES))
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()

    network = Silero() if arguments.silero else Network(arguments.input, arguments.hidden)
    make: Make = lambda name, streams: SERVICES[name](network, streams)
    if arguments.websocket:
        from callers.sockets import OverSocket

        own, other = pin(2)
        os.sched_setaffinity(0, [own])
        make = lambda name, streams: OverSocket(name, network, streams, other)
    else:
        pin(1)
    names = arguments.services.split(",")
    check(network, make, names)
    print(f"{network.name}, {arguments.rate:g} steps a second; ms\n")
    print("| service | streams | p50 | p99 | p99.9 | event loop's lag, p99 | |\n|---|---:|---:|---:|---:|---:|---|")
    results, carried = [], {}
    tried = [int(one) for one in arguments.streams.split(",")] if arguments.streams else STREAMS
    for name in names:
        for streams in tried:
            service = make(name, streams)
            results.append(result := measure(service, network.features, streams, arguments.rate, arguments.seconds))
            service.close()
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
