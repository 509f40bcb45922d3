"""Each limit of the service: what goes beyond is refused with its reason, and nothing beyond it is read or kept."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import recurra as rc
from asgi import Closed, connected, predict, request
from recurra.serving import Service
from user_layers import Gate

X = np.zeros((4, 3), np.float32)
JSON = {"content_type": "application/json"}


def model() -> Any:
    return rc.GRU(3, 4, seed=0)


def test_the_size_of_a_body() -> None:
    """Of a body that says its size, nothing is read; of another, no chunk after the limit."""

    async def main() -> None:
        app = Service(model(), max_streams=1, max_body=1000)
        for kind in ("application/json", "application/x-safetensors"):
            reply = await request(app, "POST", "/v1/predict", b" " * 1001, content_type=kind, content_length="1001")
            assert (reply.status, reply.read) == (413, 0)
            assert reply.error.startswith("got 1001 bytes or more, expected at most 1000; send the sequence in parts")
            endless: Iterator[bytes] = iter([b" " * 100] * 500)
            reply = await request(app, "POST", "/v1/predict", endless, content_type=kind)
            assert (reply.status, reply.read) == (413, 11)
        for length in ("-5", "1e9", "9" * 30, "", "½"):
            reply = await request(app, "POST", "/v1/predict", b"{}", **JSON, content_length=length)
            assert reply.status == (413 if length == "9" * 30 else 422)
        assert app.budget.used == 0

    asyncio.run(main())


def test_the_time_of_a_body() -> None:
    async def main() -> None:
        app = Service(model(), max_streams=1, body_timeout=0.05)
        hold = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await hold.wait()
            return {"type": "http.disconnect"}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/predict",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        await app(scope, receive, send)
        assert sent[0]["status"] == 408
        assert b"got no whole body in 0.05 seconds" in sent[1]["body"]

    asyncio.run(main())


def test_who_leaves_in_the_middle_of_a_body() -> None:
    async def main() -> None:
        app = Service(model(), max_streams=1)
        reply = await request(app, "POST", "/v1/predict", b'{"x": [[1, 2', whole=False, **JSON)
        assert (reply.status, app.budget.used) == (400, 0)

    asyncio.run(main())


def test_drain_waits_for_bodies_that_are_on_their_way() -> None:
    async def main() -> None:
        app = Service(model(), max_streams=1)
        more = asyncio.Event()
        parts = [b'{"x": [[1, 2, ', b"3]]}"]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if len(parts) == 1:
                await more.wait()
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b""}
        request_ = asyncio.create_task(
            app(scope | {"headers": [(b"content-type", b"application/json")]}, receive, send)
        )
        while len(parts) > 1:
            await asyncio.sleep(0)
        closing = asyncio.create_task(app.close())
        while not app.draining:
            await asyncio.sleep(0)
        assert (await predict(app, [[1, 2, 3]])).status == (await request(app, "GET", "/health")).status == 503
        more.set()
        await closing
        await request_
        assert sent[0]["status"] == 200

    asyncio.run(main())


def test_messages_have_an_end() -> None:
    """Also where they name what came."""

    async def main() -> None:
        body = save({"x" * 50_000: X})
        reply = await request(Service(model()), "POST", "/v1/predict", body, content_type="application/x-safetensors")
        assert (reply.status, len(reply.error)) == (422, 1000)

    asyncio.run(main())


def test_the_steps_of_a_request() -> None:
    """Over all sequences; an empty one counts, as it costs a row."""

    async def main() -> None:
        app = Service(model(), max_streams=2, max_steps=6)
        step = [0.0, 0.0, 0.0]
        assert (await predict(app, [step] * 6)).status == 200
        assert (await predict(app, [[step] * 3] * 2)).status == 200
        for x in ([step] * 7, [[step] * 4] * 2, [[]] * 7):
            reply = await predict(app, x)
            assert reply.status == 413
            assert "steps, expected at most 6" in reply.error
        async with connected(app) as socket:
            assert len((await socket.ask(op="process", x=[step] * 6))["y"]) == 6
            for message in (json.dumps({"op": "process", "x": [step] * 7}), np.zeros((7, 3), np.float32).tobytes()):
                error = (await socket.ask(message))["error"]
                assert (error["type"], "got 7 steps, expected at most 6" in error["message"]) == ("TooLarge", True)

    asyncio.run(main())


@pytest.mark.parametrize(
    "message", ['{"op": "step", "x": "' + "a" * 999 + '"}', '{"a": "' + "é" * 500 + '"}', b"\0" * 1001]
)
def test_the_size_of_a_message(message: str | bytes) -> None:
    async def main() -> None:
        app = Service(model(), max_streams=1, max_body=1000)
        async with connected(app) as socket:
            error = (await socket.ask(message))["error"]
            assert error["type"] == "TooLarge"
            assert await socket.receive() == Closed(1009, "see the message before", accepted=True)

    asyncio.run(main())


def test_the_memory_of_all_requests() -> None:
    gate = Gate()
    network = rc.Sequential(rc.GRU(3, 4), gate, seed=0)

    async def main() -> None:
        body = save({"x": np.zeros((1000, 3), np.float32)})
        app = Service(network, max_streams=2, max_memory=500_000)
        under_way = [
            asyncio.create_task(request(app, "POST", "/v1/predict", body, content_type="application/x-safetensors"))
            for _ in range(3)
        ]
        while app.budget.used < 3 * 2 * len(body):
            await asyncio.sleep(0.001)
        async with connected(app) as socket:
            await asyncio.sleep(0)
            large = await request(app, "POST", "/v1/predict", b" " * 30_000, **JSON)
            assert large.status == 413
            assert "bytes of memory or more, expected at most 500000" in large.error
            refused = await request(app, "POST", "/v1/predict", b" " * 18_000, **JSON)
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert refused.error.startswith("got a request while others hold all memory allowed for them")
            error = (await socket.ask('{"op": "step", "x": [' + "0, " * 6000 + "0]}"))["error"]
            assert error["type"] == "Overloaded"
            gate.opened.set()
            assert [one.status for one in await asyncio.gather(*under_way)] == [200] * 3
            assert (await request(app, "POST", "/v1/predict", b" " * 18_000, **JSON)).status == 400
            assert len((await socket.ask(op="step", x=[0, 0, 0]))["y"]) == 4
        assert app.budget.used == 0

    asyncio.run(main())


def test_the_streams_of_all_and_of_a_client() -> None:
    """An IPv6 client is a network of 64 bits. Who leaves makes room."""

    async def main() -> None:
        app = Service(model(), max_streams=5, streams_per_client=2)
        async with AsyncExitStack() as stack:
            for host in ("203.0.113.1", "203.0.113.1", "2001:db8::1", "2001:db8::ffff:2"):
                socket = await stack.enter_async_context(connected(app, host=host))
                assert (await socket.ask(op="open"))["steps"] == 0
            for host in ("203.0.113.1", "2001:db8::3"):
                async with connected(app, host=host) as refused:
                    assert "this client has 2 open" in (await refused.receive())["error"]["message"]
                    assert await refused.receive() == Closed(1008, "see the message before", accepted=True)
            last = await stack.enter_async_context(connected(app, host="2001:db8:0:1::1"))
            await last.ask(op="open")
            async with connected(app, host="203.0.113.2") as refused:
                assert "got a stream while 5 are open" in (await refused.receive())["error"]["message"]
                assert await refused.receive() == Closed(1013, "see the message before", accepted=True)
            last.vanish()
            await last.ended()
            other = await stack.enter_async_context(connected(app, host="203.0.113.2"))
            assert (await other.ask(op="open"))["steps"] == 0
        assert not app._sessions
        assert not app._names
        assert not app._clients

    asyncio.run(main())


def test_a_stream_without_messages() -> None:
    async def main() -> None:
        app = Service(model(), max_streams=2, idle_timeout=0.4)
        async with connected(app) as idle:
            assert "y" in await idle.ask(op="step", x=[0, 0, 0])
            assert await idle.receive() == Closed(4000, "no message came for long", accepted=True)
            await idle.ended()
        assert app.pool is not None
        assert app.pool.stats().streams == 0

    asyncio.run(main())


def test_a_stream_that_reads_no_answers(tmp_path: Path) -> None:
    """It loses its slot, and its state is saved."""

    async def main() -> None:
        app = Service(model(), max_streams=2, idle_timeout=0.4, snapshots=tmp_path)
        async with connected(app) as slow:
            await slow.ask(op="open")
            slow.reads.clear()
            slow.send({"op": "step", "x": [0, 0, 0]})
            await slow.ended()
            assert app.pool is not None
            assert app.pool.stats().streams == 0
        (file,) = tmp_path.rglob("*.safetensors")
        assert b'"steps":"1"' in file.read_bytes()
        assert not app._sessions

    asyncio.run(main())


def test_the_time_until_a_step() -> None:
    gate = Gate()

    async def main() -> None:
        app = Service(rc.Sequential(rc.GRU(3, 4), gate, seed=0), max_streams=2, step_timeout=1.0)
        async with connected(app) as slow, connected(app) as late:
            await late.ask(op="open")
            slow.send({"op": "process", "x": [[0, 0, 0]]})
            assert await asyncio.to_thread(gate.entered.wait, 20)
            late.send({"op": "process", "x": [[1, 0, 0]]})
            await asyncio.sleep(1.1)
            gate.opened.set()
            assert (await late.receive())["error"]["type"] == "TimeoutError"
            assert "y" in await slow.receive()

    asyncio.run(main())


def test_pages_of_other_hosts() -> None:
    async def main() -> None:
        app = Service(model(), max_streams=9, origins=["https://example.org"])
        for origin, welcome in {
            "http://model.test": True,
            "https://example.org": True,
            "https://example.com": False,
            "http://model.test:81": False,
            "null": False,
            "http://[": False,
        }.items():
            async with connected(app, host="203.0.113.1", Host="model.test", Origin=origin) as socket:
                if welcome:
                    assert "y" in await socket.ask(op="step", x=[0, 0, 0])
                else:
                    assert await socket.receive() == Closed(1008, "", accepted=False)

    asyncio.run(main())


def test_files_of_streams_that_left(tmp_path: Path) -> None:
    """The oldest of too many go: callers who come and leave do not fill a disk."""
    from recurra.serving.service.store import Kept, Store

    with rc.serving.Pool(model(), 1) as pool:
        snapshot = pool.open().snapshot()
    store = Store(tmp_path / "new" / "folder", keep_seconds=1000.0, most=3)
    names = [f"{k:02x}" * 16 for k in range(6)]
    for age, name in zip((500, 10, 400, 5000, 30, 20), names, strict=True):
        store.write(name, Kept(snapshot, 1, 2, "last"))
        (path,) = tmp_path.rglob(f"{name}.safetensors")
        stamp = path.stat().st_mtime - age
        os.utime(path, (stamp, stamp))
    (tmp_path / "new" / "folder" / "00" / "other.safetensors").write_bytes(b"of somebody else")
    store.sweep()
    assert [store.read(name) is not None for name in names] == [False, True, False, False, True, True]
    kept = store.read(names[1])
    assert kept is not None
    assert kept[1:] == (1, 2, "last")
    assert len(list(tmp_path.rglob("other.safetensors"))) == 1
