"""Random and mutated requests and messages: each is answered by 4xx or an error, and none is ever the service's own
fault."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import recurra as rc
from agreement import assert_same_bits
from asgi import Closed, connected, request
from recurra.serving import Service

X = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
TOKENS = np.arange(8).reshape(2, 4)
#: What is put in place of a part of a text.
PIECES = [
    *(
        "null",
        "true",
        "NaN",
        "Infinity",
        "-0",
        "1e999",
        "-1e308",
        "9" * 400,
        "0.1e-400",
        '"text"',
        '"\\ud800"',
        "[]",
        "{}",
    ),
    *("[" * 40, "[[[[1]]]]", '{"x": 1}', '{"x": [], "x": [[1,2,3]]}', "[[1,2],[3]]", "\0", "é", "]", "}", ",", ":", ""),
]
#: Parts of the header of a safetensors file.
MARKS = [
    b"F32",
    b"I64",
    b"U8",
    b"BF16",
    b"F8_E4M3",
    b"C64",
    b"shape",
    b"data_offsets",
    b"-1",
    b"99999999999999999999",
    b"[]",
]


def models() -> dict[str, tuple[Any, Any]]:
    tokens = rc.Sequential(rc.Embedding(9, 3), rc.GRU(3, 4), seed=0)
    return {"features": (rc.Sequential(rc.LSTM(3, 5), rc.Linear(5, 2), seed=0), X), "tokens": (tokens, TOKENS)}


def mutated(rng: random.Random, data: bytes, pieces: list[bytes]) -> bytes:
    """Some bytes changed, removed, repeated, or replaced by pieces."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice([0, 1, 1, 2, 8, 40]))
        new = rng.choice(
            [b"", rng.randbytes(rng.randrange(4)), rng.choice(pieces), rng.choice(pieces), data[at:end] * 3]
        )
        data = data[:at] + new + data[end:]
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.1 else data


def nested(rng: random.Random, depth: int = 0) -> Any:
    """A random value of JSON."""
    kind = rng.randrange(9 if depth < 4 else 6)
    if kind < 6:
        return [rng.randrange(-2, 12), rng.random(), None, True, "text", 10**30][kind]
    if kind < 8:
        return [nested(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(["x", "op", "id", "lengths", "stream", "y"]): nested(rng, depth + 1) for _ in range(3)}


@pytest.mark.parametrize("name", ["features", "tokens"])
def test_requests(name: str) -> None:
    network, x = models()[name]
    rng = random.Random(name)
    texts = [json.dumps(one).encode() for one in ({"x": x[0].tolist()}, {"x": x.tolist(), "lengths": [4, 2]})]
    files = [save({"x": x[0]}), save({"x": x, "lengths": np.array([4, 2])})]
    pieces = [one.encode() for one in PIECES]
    statuses: Counter[int] = Counter()

    async def main() -> None:
        app = Service(network, max_streams=1, max_body=5000, max_steps=50)
        for _ in range(700):
            as_json = rng.random() < 0.6
            body = mutated(rng, rng.choice(texts), pieces) if as_json else mutated(rng, rng.choice(files), MARKS)
            if as_json and rng.random() < 0.2:
                body = json.dumps({"x": nested(rng), "lengths": nested(rng)}).encode()
            kind = rng.choice(["application/json", "text/plain", ""]) if rng.random() < 0.05 else None
            kind = kind or ("application/json" if as_json else "application/x-safetensors")
            reply = await request(app, "POST", "/v1/predict", body, content_type=kind)
            statuses[reply.status] += 1
            assert reply.status < 500, (body, reply)
            if reply.status != 200:
                assert reply.status in (400, 413, 415, 422)
                assert len(reply.error) > 20, (body, reply)
        reply = await request(app, "POST", "/v1/predict", texts[0], content_type="application/json")
        assert_same_bits(np.array(reply.json["y"], np.float32), network(x[:1])[0][0])
        assert app.budget.used == 0

    asyncio.run(main())
    assert min(statuses[status] for status in (200, 400, 422)) > 20, "every kind of answer was tried"


@pytest.mark.parametrize("name", ["features", "tokens"])
def test_messages(name: str) -> None:
    network, x = models()[name]
    rng = random.Random(name)
    valid = [
        *({"op": "step", "x": x[0, 0].tolist(), "id": 1}, {"op": "process", "x": x[0].tolist()}, {"op": "reset"}),
        *({"op": "open"}, {"op": "resume", "stream": "0" * 32}, {"op": "close"}),
    ]
    texts = [json.dumps(one).encode() for one in valid]
    raw = x[0].astype(np.int32).tobytes() if name == "tokens" else x[0].tobytes()
    pieces = [one.encode() for one in PIECES]
    seen: Counter[str] = Counter()

    async def main() -> None:
        app = Service(network, max_streams=3, max_body=5000, max_steps=50)
        async with connected(app) as good:
            alone = network.stream(1)
            for _ in range(60):
                async with connected(app) as socket:
                    for _ in range(12):
                        message: Any = mutated(rng, rng.choice(texts), pieces).decode(errors="replace")
                        if rng.random() < 0.2:
                            message = json.dumps({"op": rng.choice(["step", "process", "resume"]), "x": nested(rng)})
                        if rng.random() < 0.2:
                            message = mutated(rng, raw, MARKS)
                        answer = await socket.ask(message)
                        if isinstance(answer, Closed):
                            assert answer.code in (1000, 1009)
                            break
                        error = answer.get("error") if isinstance(answer, dict) else None
                        seen[error["type"] if error else "answer"] += 1
                        assert error is None or error["type"] in ("ValueError", "TypeError", "TooLarge", "NotFound"), (
                            message
                        )
                    socket.vanish()
                found = await good.ask(op="process", x=x[0].tolist())
                assert_same_bits(np.array(found["y"], np.float32), alone.process(x[:1])[0])
        assert app.budget.used == 0
        assert app.pool is not None
        assert app.pool.stats().streams == 0

    asyncio.run(main())
    assert min(seen["answer"], seen["ValueError"]) > 20
