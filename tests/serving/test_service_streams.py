"""Streams over WebSocket: the bits of a `Stream`, whoever else is there, and connections that break and come back."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from asgi import Closed, Socket, connected
from recurra.serving import Service
from stream_models import FEATURES, MODELS, TOKENS
from user_layers import Gate

X = np.random.default_rng(0).standard_normal((12, FEATURES)).astype(np.float32)


def model() -> Any:
    return rc.Sequential(rc.LSTM(FEATURES, 9), rc.Linear(9, 2), seed=0)


def numbers(answer: Any, dtype: str = "float32") -> Array:
    return np.array(answer["y"], dtype)


async def ended(socket: Socket) -> Closed:
    """The end of the connection, which is the next thing to come."""
    closed = await socket.receive()
    assert isinstance(closed, Closed), closed
    return closed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_the_bits_of_a_stream(name: str, dtype: str) -> None:
    """Steps and chunks, as JSON and as bytes, with resets between."""
    network = MODELS[name](dtype)
    x = np.random.default_rng(0).integers(0, TOKENS, 12) if name == "tokens" else X.astype(dtype)
    raw = x.astype("<i4") if name == "tokens" else x.astype(np.dtype(dtype).newbyteorder("<"))
    alone = network.stream(1)

    async def main() -> None:
        async with connected(Service(network, max_streams=2)) as socket:
            for t in range(3):
                assert_same_bits(
                    numbers(await socket.ask(op="step", x=x[t].tolist()), dtype), alone.step(x[t : t + 1])[0]
                )
            found = await socket.ask(op="process", x=x[3:6].tolist(), id="chunk")
            assert (found["op"], found["id"]) == ("process", "chunk")
            assert_same_bits(numbers(found, dtype), alone.process(x[None, 3:6])[0])
            if name != "python alone":  # whose number of features only an input tells
                y = np.frombuffer(await socket.ask(raw[6].tobytes()), dtype)
                assert_same_bits(y, alone.step(x[6:7])[0])
                y = np.frombuffer(await socket.ask(raw[7:10].tobytes()), dtype)
                assert_same_bits(y.reshape(3, -1), alone.process(x[None, 7:10])[0])
                assert await socket.ask(b"") == b""
            assert (await socket.ask(op="reset"))["resets"] == 1
            alone.reset()
            assert_same_bits(numbers(await socket.ask(op="step", x=x[0].tolist()), dtype), alone.step(x[:1])[0])

    asyncio.run(main())


def test_many_streams_at_once_have_the_bits_of_each_alone() -> None:
    """Callers that send ahead, pause, make mistakes and leave in the middle; each is answered in its order."""
    network = model()
    rng = np.random.default_rng(0)
    sequences = [rng.standard_normal((int(rng.integers(1, 40)), FEATURES)).astype(np.float32) for _ in range(60)]

    async def caller(app: Service, x: Array, seed: int) -> None:
        own = np.random.default_rng(seed)
        alone = network.stream(1)
        async with connected(app) as socket:
            t = 0
            leaves = int(own.integers(1, 80))
            while t < min(len(x), leaves):
                ahead = int(own.integers(1, 4))
                for one in x[t : t + ahead]:
                    socket.send({"op": "step", "x": one.tolist()} if own.random() < 0.5 else one.tobytes())
                    if own.random() < 0.2:
                        socket.send({"op": "step", "x": [1.0]})
                if t + ahead > leaves:
                    return
                for one in x[t : t + ahead]:
                    expected = alone.step(one[None])[0]
                    answer = await socket.receive()
                    while isinstance(answer, dict) and "error" in answer:
                        answer = await socket.receive()
                    y = numbers(answer) if isinstance(answer, dict) else np.frombuffer(answer, np.float32)
                    assert_same_bits(y, expected)
                t += ahead
                await asyncio.sleep(0.001 * own.random())

    async def main() -> None:
        app = Service(network, max_streams=60)
        await asyncio.gather(*(caller(app, x, seed) for seed, x in enumerate(sequences)))
        assert app.pool is not None
        assert app.pool.stats().streams == 0
        assert app.budget.used == 0
        await app.close()

    asyncio.run(main())


def test_who_leaves_in_mid_step_disturbs_nobody() -> None:
    gate = Gate()
    network = rc.Sequential(rc.GRU(FEATURES, FEATURES), gate, rc.LSTM(FEATURES, 4), seed=0)

    async def main() -> None:
        app = Service(network, max_streams=8)
        assert app.pool is not None
        async with connected(app) as other:
            gate.opened.set()
            first = await other.ask(op="step", x=X[0].tolist())
            gate.opened.clear()
            gate.entered.clear()
            async with connected(app) as leaver:
                leaver.send({"op": "process", "x": X.tolist()})
                assert await asyncio.to_thread(gate.entered.wait, 20)
                other.send({"op": "step", "x": X[1].tolist()})
                leaver.vanish()
                gate.opened.set()
                await leaver.ended()
            second = await other.receive()
            alone = network.stream(1)
            for found, x in ((first, X[0]), (second, X[1])):
                assert_same_bits(numbers(found), alone.step(x[None])[0])
            assert app.pool.stats().streams == 1

    asyncio.run(main())


def test_who_reads_no_answers_disturbs_nobody(tmp_path: Path) -> None:
    """It is read from no further; its state is saved, and drain waits for it no longer than it may."""
    network = model()

    async def main() -> None:
        app = Service(network, max_streams=8, snapshots=tmp_path, snapshot_seconds=0.01)
        async with connected(app) as slow, connected(app) as other:
            name = (await slow.ask(op="open"))["stream"]
            slow.reads.clear()
            for t in range(3):
                slow.send({"op": "step", "x": X[t].tolist()})
            alone = network.stream(1)
            for t in range(len(X)):
                found = await other.ask(op="step", x=X[t].tolist())
                assert_same_bits(numbers(found), alone.step(X[t : t + 1])[0])
            file = tmp_path / name[:2] / f"{name}.safetensors"
            while not file.exists() or b'"steps":"1"' not in file.read_bytes():
                await asyncio.sleep(0.01)
            assert slow.to_app.qsize() == 2
            with pytest.raises(TimeoutError):
                await app.drain(0.05)
            assert (await ended(other)).code == 1012
            slow.vanish()
            await app.close()

    asyncio.run(main())


def test_nan_and_errors_of_layers_stay_in_their_stream() -> None:
    gate = Gate()
    gate.opened.set()
    network = rc.Sequential(rc.GRU(FEATURES, FEATURES), rc.Linear(FEATURES, FEATURES), gate, seed=0)

    async def main() -> None:
        app = Service(network, max_streams=8)
        async with connected(app) as good, connected(app) as bad:
            alone = network.stream(1)
            poison = np.full(FEATURES, np.nan, np.float32)
            for t in range(4):
                good.send({"op": "step", "x": X[t].tolist()})
                bad.send(poison.tobytes())
                assert np.isnan(np.frombuffer(await bad.receive(), np.float32)).all()
                assert_same_bits(numbers(await good.receive()), alone.step(X[t : t + 1])[0])
            found = await bad.ask(op="step", x=X[0].tolist())
            assert found["y"] == [None] * FEATURES
            await bad.ask(op="reset")
            assert_same_bits(numbers(await bad.ask(op="step", x=X[0].tolist())), network.stream(1).step(X[:1])[0])
            async with connected(app) as failing:
                network.layers[1].load_state_dict(
                    {"weight": np.eye(FEATURES, dtype="f"), "bias": np.full(FEATURES, 2e3, "f")}
                )
                error = (await failing.ask(op="step", x=X[0].tolist()))["error"]
                assert error == {
                    "type": "InternalError",
                    "message": "got an error inside the service, expected none; its log has the details",
                }

    asyncio.run(main())


WRONG: dict[str, Any] = {
    "message: got no JSON": "{",
    "message: got no object": "[1]",
    'message: got no object with "op"': {"op": "fly"},
    'expected one of open, resume, step, process, reset, close, and a number or text as "id"': {
        "op": "step",
        "id": [1],
    },
    'message: got no object with "op", expected': {"op": ["step"]},
    'step: got no "x"': {"op": "step"},
    "step: got null in x, expected 1 levels of lists": {"op": "step", "x": None},
    "step: got a list in x, expected numbers": {"op": "step", "x": [[1, 2, 3, 4, 5]]},
    "process: got 1 in x, expected 2 levels of lists": {"op": "process", "x": [1, 2, 3, 4, 5]},
    "got x of shape (4,), expected (5,)": {"op": "step", "x": [1, 2, 3, 4]},
    "got x of shape (1, 4), expected (t, 5)": {"op": "process", "x": [[1, 2, 3, 4]]},
    "step: got a number in x beyond those of float32": {"op": "step", "x": [1e39, 2, 3, 4, 5]},
    "message: got 19 bytes, expected a multiple of 20, the bytes of a step": b"1" * 19,
    'resume: got no "stream"': {"op": "resume", "stream": "../../etc/passwd"},
    "resume: got the name of no stream that is kept": {"op": "resume", "stream": "0" * 32},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_messages_leave_the_stream_as_it_was(message: str) -> None:
    async def main() -> None:
        async with connected(Service(model(), max_streams=2)) as socket:
            alone = model().stream(1)
            if "resume" not in message:
                assert_same_bits(numbers(await socket.ask(op="step", x=X[0].tolist())), alone.step(X[:1])[0])
            found = await socket.ask(WRONG[message])
            assert message in found["error"]["message"]
            assert found["error"]["type"] != "InternalError"
            assert_same_bits(numbers(await socket.ask(op="step", x=X[1].tolist())), alone.step(X[1:2])[0])

    asyncio.run(main())


def test_a_model_without_streams_says_so() -> None:
    async def main() -> None:
        network = rc.LSTM(FEATURES, 4, bidirectional=True)
        async with connected(Service(network)) as socket:
            assert "stream" in (await socket.receive())["error"]["message"]
            assert await ended(socket) == Closed(1008, "see the message before", accepted=True)

    asyncio.run(main())


def test_several_inputs_over_a_socket() -> None:
    a, b = rc.Input(features=2), rc.Input(tokens=5)
    network = rc.Model((a, b), rc.GRU(5, 4)(rc.Concatenate()((a, rc.Embedding(5, 3)(b)))), seed=0)

    async def main() -> None:
        async with connected(Service(network, max_streams=1)) as socket:
            alone = network.stream(1)
            found = await socket.ask(op="step", x=[[0.5, 1.0], 3])
            assert_same_bits(numbers(found), alone.step((np.array([[0.5, 1]], np.float32), np.array([3])))[0])
            assert "no single input" in (await socket.ask(b"1234"))["error"]["message"]

    asyncio.run(main())


@pytest.mark.parametrize("raw", [False, True])
def test_a_stream_goes_on_after_its_connection_broke(tmp_path: Path, raw: bool) -> None:
    """In another service, too; the last answer, which may be lost, is there again."""
    network = model()

    def message(t: int) -> Any:
        return X[t].tobytes() if raw else {"op": "step", "x": X[t].tolist(), "id": t}

    async def main() -> None:
        expected = network.stream(1).process(X[None])[0]
        app = Service(network, max_streams=2, snapshots=tmp_path)
        async with connected(app) as socket:
            name = (await socket.ask(op="open"))["stream"]
            for t in range(4):
                last = await socket.ask(message(t))
            for t in range(4, 6):
                socket.send(message(t))
                last = await socket.receive()
        for number, service in enumerate((app, Service(network, max_streams=2, snapshots=tmp_path))):
            async with connected(service) as socket:
                found = await socket.ask(op="resume", stream=name)
                t = found["steps"]
                assert (t, found["resets"], found["stream"]) == (6 + number, 0, name)
                assert found["last"] == ({"bytes": base64.b64encode(last).decode()} if raw else last)
                last = await socket.ask(message(t))
                y = np.frombuffer(last, np.float32) if raw else numbers(last)
                assert_same_bits(y, expected[t])
        async with connected(service) as socket:
            await socket.ask(op="resume", stream=name)
            assert (await socket.ask(op="close"))["steps"] == 8
            assert (await ended(socket)).code == 1000
        assert not list(tmp_path.rglob("*.safetensors"))
        async with connected(service) as socket:
            assert "no stream that is kept" in (await socket.ask(op="resume", stream=name))["error"]["message"]

    asyncio.run(main())


def test_resume_takes_a_stream_from_a_connection_that_seems_alive() -> None:
    """Its caller may know before the service that it broke."""
    network = model()

    async def main() -> None:
        app = Service(network, max_streams=3)
        async with connected(app) as broken, connected(app) as new, connected(app) as late:
            name = (await broken.ask(op="open"))["stream"]
            await broken.ask(op="process", x=X[:5].tolist())
            assert (await new.ask(op="resume", stream=name))["steps"] == 5
            assert (await ended(broken)).code == 4001
            assert_same_bits(
                numbers(await new.ask(op="step", x=X[5].tolist())), network.stream(1).process(X[None])[0, 5]
            )
            assert "as the first" in (await new.ask(op="resume", stream=name))["error"]["message"]
            assert (await late.ask(op="resume", stream=name))["steps"] == 6
            assert (await ended(new)).code == 4001

    asyncio.run(main())


def test_many_who_resume_one_stream_get_it_one_after_the_other(tmp_path: Path) -> None:
    async def main() -> None:
        app = Service(model(), max_streams=20, snapshots=tmp_path)
        async with connected(app) as socket:
            name = (await socket.ask(op="open"))["stream"]
            await socket.ask(op="step", x=X[0].tolist())
        async with AsyncExitStack() as stack:
            sockets = [await stack.enter_async_context(connected(app)) for _ in range(9)]
            answers = await asyncio.gather(*(one.ask(op="resume", stream=name) for one in sockets))
            assert [one["steps"] for one in answers] == [1] * 9
            assert [(await ended(one)).code for one in sockets[:-1]] == [4001] * 8
            assert_same_bits(
                numbers(await sockets[-1].ask(op="step", x=X[1].tolist())), model().stream(1).process(X[None])[0, 1]
            )
            assert app.pool is not None
            assert app.pool.stats().streams == 1

    asyncio.run(main())


def test_other_weights_refuse_a_stream(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(Service(model(), max_streams=1, snapshots=tmp_path)) as socket:
            name = (await socket.ask(op="open"))["stream"]
            await socket.ask(op="step", x=X[0].tolist())
        other = rc.Sequential(rc.LSTM(FEATURES, 9), rc.Linear(9, 2), seed=1)
        async with connected(Service(other, max_streams=1, snapshots=tmp_path)) as socket:
            error = (await socket.ask(op="resume", stream=name))["error"]
            assert error["message"].startswith("restore: got a snapshot taken with other weights")
            assert (await socket.ask(op="open"))["stream"] != name
        (file,) = tmp_path.rglob(f"{name}.safetensors")
        file.write_bytes(b"\0" * 99)
        async with connected(Service(model(), max_streams=1, snapshots=tmp_path)) as socket:
            assert "damaged" in (await socket.ask(op="resume", stream=name))["error"]["message"]

    asyncio.run(main())


def test_running_streams_are_saved_and_old_files_removed(tmp_path: Path) -> None:
    """A copy of the folder, as after kill -9, is enough to go on."""
    network = model()

    async def main() -> None:
        app = Service(network, max_streams=2, snapshots=tmp_path / "a", snapshot_seconds=0.01)
        async with connected(app) as socket:
            name = (await socket.ask(op="open"))["stream"]
            await socket.ask(op="process", x=X[:5].tolist())
            path = tmp_path / "a" / name[:2] / f"{name}.safetensors"
            while not path.exists() or b'"steps":"5"' not in path.read_bytes():
                await asyncio.sleep(0.01)
            data = path.read_bytes()
            await socket.ask(op="step", x=X[5].tolist())
        copy = tmp_path / "b" / name[:2] / f"{name}.safetensors"
        copy.parent.mkdir(parents=True)
        copy.write_bytes(data)
        restarted = Service(network, max_streams=2, snapshots=tmp_path / "b", snapshot_seconds=0.01, keep_seconds=1e-3)
        async with connected(restarted) as socket:
            assert (await socket.ask(op="resume", stream=name))["steps"] == 5
            assert_same_bits(
                numbers(await socket.ask(op="step", x=X[5].tolist())), network.stream(1).process(X[None])[0, 5]
            )
        async with connected(restarted):
            while copy.exists():
                restarted._swept = -1e9
                await asyncio.sleep(0.01)

    asyncio.run(main())


def test_a_disk_that_is_full_stops_no_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    async def main() -> None:
        app = Service(model(), max_streams=2, snapshots=tmp_path, snapshot_seconds=0.01)
        monkeypatch.setattr(app._store, "write", full)
        async with connected(app) as socket:
            await socket.ask(op="step", x=X[0].tolist())
            while 'route="snapshot",status="500"' not in app.statistics():
                await asyncio.sleep(0.01)
            found = await socket.ask(op="step", x=X[1].tolist())
            assert_same_bits(numbers(found), model().stream(1).process(X[None])[0, 1])

    asyncio.run(main())


def test_drain_answers_what_came_and_saves_the_streams(tmp_path: Path) -> None:
    gate = Gate()
    network = rc.Sequential(rc.GRU(FEATURES, FEATURES), gate, rc.LSTM(FEATURES, 4), seed=0)

    async def main() -> None:
        app = Service(network, max_streams=4, snapshots=tmp_path)
        async with connected(app) as busy, connected(app) as idle, connected(app) as late:
            gate.opened.set()
            await idle.ask(op="step", x=X[0].tolist())
            names = [(await one.ask(op="open"))["stream"] for one in (busy, idle)]
            gate.opened.clear()
            gate.entered.clear()
            busy.send({"op": "process", "x": X[:1].tolist()})
            assert await asyncio.to_thread(gate.entered.wait, 20)
            with pytest.raises(TimeoutError, match=r"^Service.drain: \d callers remain after 0.05 seconds"):
                await app.drain(0.05)
            assert await ended(idle) == await ended(late) == Closed(1012, "the service restarts", accepted=True)
            async with connected(app) as refused:
                assert "while the service ends" in (await refused.receive())["error"]["message"]
                assert (await ended(refused)).code == 1012
            gate.opened.set()
            await app.close()
            assert "y" in await busy.receive()
            assert (await ended(busy)).code == 1012
        again = Service(network, max_streams=4, snapshots=tmp_path)
        for name in names:
            async with connected(again) as socket:
                assert (await socket.ask(op="resume", stream=name))["steps"] == 1

    asyncio.run(main())
