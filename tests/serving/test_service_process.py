"""`python -m recurra serve` as a process: it speaks HTTP and WebSocket, ends in order, and survives kill -9."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import recurra as rc
from agreement import assert_same_bits

X = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)


class Serving(NamedTuple):
    process: subprocess.Popen[str]
    port: int

    def get(self, path: str) -> tuple[int, Any, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as reply:
            return reply.status, reply.headers, reply.read().decode()

    def stream(self, **options: Any) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.port}/v1/stream", compression=None, open_timeout=60, **options)

    def answer(self, data: bytes, patience: float = 60.0) -> bytes:
        """What comes back. Our own end of the data follows an answer, or so many seconds without one."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as plain:
            plain.sendall(data)
            select.select([plain], [], [], patience)
            found = _received(plain) if select.select([plain], [], [], 0)[0] else b""
            with suppress(OSError):  # the service was faster
                plain.shutdown(socket.SHUT_WR)
            while chunk := _received(plain):
                found += chunk
            return found


def _received(plain: socket.socket) -> bytes:
    try:
        return plain.recv(4096)
    except ConnectionResetError:  # what was sent beyond the limits was not read
        return b""


def ask(socket: ClientConnection, /, **message: Any) -> Any:
    socket.send(json.dumps(message))
    return json.loads(socket.recv(60))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "recurra", *arguments]


def environment() -> dict[str, str]:
    paths = [str(Path(rc.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Serving]:
    file = folder / "model.safetensors"
    if not file.exists():
        rc.Sequential(rc.LSTM(3, 5), rc.Linear(5, 2), seed=0).save(file)
    process = subprocess.Popen(
        command("serve", str(file), "--port", "0", "--snapshots", str(folder / "streams"), *options),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            found = re.search(r"running on (?:http://127\.0\.0\.1:(\d+)|unix socket)", line)
            if found:
                yield Serving(process, int(found[1] or 0))
                return
        raise AssertionError("".join(said))
    finally:
        process.kill()
        process.communicate()


def test_a_process_from_its_start_to_its_end(tmp_path: Path) -> None:
    """Garbage, large messages, kill -9, a restart that goes on with the same bits, and SIGTERM."""
    with serving(tmp_path, "--snapshot-seconds", "0.02", "--max-body", "20000", "--body-timeout", "2") as first:
        assert first.get("/health")[2] == '{"status":"ok"}'
        status, headers, page = first.get("/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "server" not in {name.lower() for name in headers}
        assert "script-src 'sha256-" in headers["Content-Security-Policy"]
        assert "</html>" in page
        expected = rc.load(tmp_path / "model.safetensors").stream(1).process(X[None])[0]
        _http(first, expected)
        _hostile(first)
        with first.stream() as stream:
            name = ask(stream, op="open")["stream"]
            for t in range(5):
                y = ask(stream, op="step", x=X[t].tolist())["y"]
                assert_same_bits(np.array(y, np.float32), expected[t])
            file = tmp_path / "streams" / name[:2] / f"{name}.safetensors"
            while not file.exists() or b'"steps":"5"' not in file.read_bytes():
                ask(stream, op="open")
            os.kill(first.process.pid, signal.SIGKILL)
            assert first.process.wait(60) == -signal.SIGKILL
            with pytest.raises(ConnectionClosed):
                stream.recv(60)
    with serving(tmp_path) as second:
        with second.stream() as stream:
            found = ask(stream, op="resume", stream=name)
            assert (found["steps"], found["last"]["y"]) == (5, expected[4].astype(np.float64).tolist())
            stream.send(X[5:8].tobytes())
            assert_same_bits(np.frombuffer(stream.recv(60), np.float32).reshape(3, 2), expected[5:8])
            second.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as ended:
                stream.recv(60)
            assert ended.value.rcvd is not None
            assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (1012, "the service restarts")
        assert second.process.wait(60) == 0
    assert b'"steps":"8"' in file.read_bytes()


def _http(service: Serving, expected: Any) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection:
        for _ in range(2):  # on one connection
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/predict", json.dumps({"x": X.tolist()}), headers)
            assert_same_bits(np.array(json.load(connection.getresponse())["y"], np.float32), expected)
        connection.request("HEAD", "/health")
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (200, b"")


def _exchange(stream: ClientConnection, message: str | bytes) -> Any:
    stream.send(message)
    return stream.recv(60)


def _hostile(service: Serving) -> None:
    """None of it disturbs a stream beside."""
    rng = random.Random(0)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    request = head % 18 + b'Connection: close\r\n\r\n{"x": [[1, 2, 3]]}'
    upgrade = (
        b"GET /v1/stream HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\x85aaaa"
    )
    seen: Counter[bytes] = Counter()
    with service.stream() as beside:
        assert service.answer(head % 999_999_999 + b"\r\n").startswith(b"HTTP/1.1 413 ")
        assert service.answer(head % 1000 + b"\r\n{").startswith(b"HTTP/1.1 408 ")
        assert service.answer(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000).startswith(b"HTTP/1.1 400 ")
        for _ in range(50):
            data = bytearray(rng.choice([request, upgrade + rng.randbytes(9)]))
            for _ in range(rng.choice([1, 3, 20])):
                data[rng.randrange(len(data))] = rng.randrange(256)
            found = service.answer(bytes(data), patience=0.1)
            assert re.match(rb"HTTP/1\.[01] [1-4]\d\d |$", found), (data, found)
            seen[found[9:12]] += 1
        assert seen[b"400"] > 10, seen
        assert "y" in ask(beside, op="step", x=[1, 2, 3])
    for message, code in ((b"\0" * 20_001, 1009), ("[" + " " * 20_000 + "]", 1009)):
        with service.stream() as stream, pytest.raises(ConnectionClosed) as ended:
            _exchange(stream, message)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == code


def test_the_commands_options(tmp_path: Path) -> None:
    options = (
        "--trusted-proxies",
        "127.0.0.1",
        "--streams-per-client",
        "1",
        "--origin",
        "https://a.test",
        "--threads",
        "1",
    )
    with serving(tmp_path, *options) as service, ExitStack() as stack:

        def connection(client: str, origin: str | None = None) -> ClientConnection:
            headers = {"X-Forwarded-For": client} | ({"Origin": origin} if origin else {})
            return stack.enter_context(service.stream(additional_headers=headers))

        assert ask(connection("203.0.113.1"), op="open")["steps"] == 0
        assert ask(connection("203.0.113.2", "https://a.test"), op="open")["steps"] == 0
        assert "this client has 1 open" in json.loads(connection("203.0.113.1").recv(60))["error"]["message"]
        with pytest.raises(InvalidStatus, match="403"):
            connection("203.0.113.3", "https://b.test")
    with serving(tmp_path, "--unix-socket", str(tmp_path / "socket")), socket.socket(socket.AF_UNIX) as plain:
        plain.connect(str(tmp_path / "socket"))
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert _received(plain).startswith(b"HTTP/1.1 200 OK")


def test_wrong_commands(tmp_path: Path) -> None:
    (tmp_path / "wrong.safetensors").write_bytes(b"wrong")
    rc.GRU(2, 3).save(tmp_path / "model.safetensors")

    def said(*arguments: str) -> str:
        done = subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        return done.stderr

    assert said("serve", "wrong.safetensors").startswith("load: wrong.safetensors: got a damaged or foreign file")
    assert "No such file" in said("serve", "none.safetensors")
    assert said("serve", "model.safetensors", "--max-streams", "0").startswith("Service: got max_streams=0, expected")
    assert "invalid int value" in said("serve", "model.safetensors", "--port", "x")


def test_without_a_command_it_tells_what_a_bug_report_needs() -> None:
    done = subprocess.run(command(), env=environment(), capture_output=True, text=True, timeout=120, check=True)
    assert re.search(r"^instruction set +\w+", done.stdout, re.MULTILINE)
