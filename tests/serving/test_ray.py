"""The service as a Ray Serve deployment of two replicas on this machine; streams go on at another one.

Ray is too large for the machines that run all tests; `pip install 'recurra[ray]'` brings these here.
"""

from __future__ import annotations

import json
import socket
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import recurra as rc
from agreement import assert_same_bits
from recurra.serving.ray import application

pytestmark = pytest.mark.filterwarnings("ignore")

X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)


def model() -> Any:
    return rc.Sequential(rc.LSTM(3, 8), rc.Linear(8, 2), seed=0)


@pytest.fixture(scope="module")
def ray() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        reason = "Ray Serve is not installed: pip install 'recurra[ray]'"
        pytest.importorskip("ray.serve", reason=reason)
        return pytest.importorskip("ray", reason=reason)


@pytest.fixture(scope="module")
def port(ray: Any) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.serve.start(http_options={"host": "127.0.0.1", "port": number})
    yield number
    ray.serve.shutdown()
    ray.shutdown()


def stream(port: int) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}/v1/stream", compression=None, open_timeout=60)


def asked(socket: ClientConnection, **message: Any) -> Any:
    socket.send(json.dumps(message))
    answer = json.loads(socket.recv(60))
    assert "error" not in answer, answer
    return answer


def stepped(socket: ClientConnection, x: Any) -> Any:
    socket.send(x.tobytes())
    return np.frombuffer(socket.recv(60), np.float32)


def resumed(port: int, name: str, patience: float = 120) -> tuple[ClientConnection, int]:
    """The stream, as soon as a replica takes it, and how many steps it has seen."""
    end = time.monotonic() + patience
    while True:
        try:
            one = stream(port)
            one.send(json.dumps({"op": "resume", "stream": name}))
            answer = json.loads(one.recv(60))
            if "error" not in answer:
                return one, answer["steps"]
            one.close()
        except (OSError, ConnectionClosed, TimeoutError):
            pass
        except Exception as error:  # the proxy refuses connections while no replica runs
            if "HTTP 5" not in str(error) and "HTTP 404" not in str(error):
                raise
        assert time.monotonic() < end, "no replica took the stream"
        time.sleep(0.2)


def run(ray: Any, tmp_path: Path, **options: Any) -> None:
    file = tmp_path / "model.safetensors"
    model().save(file)
    given = {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.5}, **options}
    ray.serve.run(application(str(file), given, max_streams=50, snapshots=str(tmp_path / "streams")))


def test_streams_have_their_bits_and_go_on_at_any_replica(ray: Any, port: int, tmp_path: Path) -> None:
    run(ray, tmp_path)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as reply:
        assert json.load(reply) == {"status": "ok"}
    twins = [model().stream(1) for _ in range(12)]
    sockets = [stream(port) for _ in twins]
    names = [asked(one, op="open")["stream"] for one in sockets]
    for turn in range(3):
        for k, (one, twin) in enumerate(zip(sockets, twins, strict=True)):
            assert_same_bits(stepped(one, X[turn + k]), twin.step(X[turn + k][None])[0])
    for one in sockets:
        one.close()
    for k, (name, twin) in enumerate(zip(names, twins, strict=True)):
        one, steps = resumed(port, name)
        assert steps == 3
        assert_same_bits(stepped(one, X[20 + k]), twin.step(X[20 + k][None])[0])
        one.close()


def test_streams_go_on_after_a_deployment_was_replaced(ray: Any, port: int, tmp_path: Path) -> None:
    """With connections that are open meanwhile, and with replicas that were killed."""
    run(ray, tmp_path, graceful_shutdown_timeout_s=3)
    one = stream(port)
    name = asked(one, op="open")["stream"]
    ys = [stepped(one, x) for x in X[:5]]
    time.sleep(2.5)  # beyond a snapshot of a stream that runs
    ray.serve.delete("default")
    run(ray, tmp_path)
    other, steps = resumed(port, name)
    assert steps == 5
    ys += [stepped(other, x) for x in X[5:9]]
    time.sleep(2.5)
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if "recurra" in actor["name"] and "SERVE_REPLICA" in actor["name"]:
            ray.kill(ray.get_actor(**actor), no_restart=True)
    last, steps = resumed(port, name)
    assert steps == 9
    ys += [stepped(last, x) for x in X[9:12]]
    last.close()
    twin = model().stream(1)
    for y, x in zip(ys, X[:12], strict=True):
        assert_same_bits(y, twin.step(x[None])[0])


@pytest.mark.parametrize("made_there", [False, True])
def test_a_model_itself_or_a_function_that_makes_it(ray: Any, port: int, made_there: bool) -> None:
    def make() -> Any:  # pickled as it is, as replicas cannot import this file
        import recurra as rc

        return rc.Sequential(rc.LSTM(3, 8), rc.Linear(8, 2), seed=0)

    ray.serve.run(application(make if made_there else model()))
    with stream(port) as one:
        assert_same_bits(stepped(one, X[0]), model().stream(1).step(X[:1])[0])


@pytest.mark.usefixtures("ray")
def test_what_is_no_model() -> None:
    with pytest.raises(TypeError, match="got a int as the model"):
        application(3)  # type: ignore[arg-type]
