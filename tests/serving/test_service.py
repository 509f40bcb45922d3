"""Whole sequences over HTTP: the values of a call, in JSON and safetensors, and what a wrong request is told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Awaitable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from asgi import Reply, connected, predict, request
from fresh_python import run_python
from recurra.serving import Service
from scripts import load_script
from stream_models import FEATURES, MODELS, TOKENS

X = np.random.default_rng(0).standard_normal((3, 7, FEATURES)).astype(np.float32)


def model() -> Any:
    return rc.Sequential(rc.LSTM(FEATURES, 9), rc.Linear(9, 2), seed=0)


def answered(reply: Awaitable[Reply]) -> Reply:
    async def main() -> Reply:
        return await reply

    return asyncio.run(main())


def post(app: Any, body: bytes, kind: str = "application/json", **headers: str) -> Reply:
    return answered(request(app, "POST", "/v1/predict", body, content_type=kind, **headers))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_the_values_of_a_call(name: str, dtype: str) -> None:
    """Of one sequence and of several, with the same bits in JSON, whose numbers are exact, and in safetensors."""
    network = MODELS[name](dtype)
    x = np.random.default_rng(0).integers(0, TOKENS, (3, 7)) if name == "tokens" else X.astype(dtype)
    lengths = np.array([7, 4, 1])
    expected, _ = network(x, lengths=lengths)
    alone, _ = network(x[1:2])
    app = Service(network, max_streams=1)

    def same(reply: Reply, y: Array) -> None:
        assert reply.status == 200, reply.body
        if reply.headers["content-type"] == "application/json":
            assert_same_bits(np.array(reply.json["y"], dtype), y)
        else:
            assert_same_bits(load(reply.body)["y"], y)

    same(answered(predict(app, x.tolist(), lengths=lengths.tolist())), expected)
    same(answered(predict(app, x[1].tolist())), alone[0])
    for kind in ("application/x-safetensors", "application/octet-stream"):
        same(post(app, save({"x": x, "lengths": lengths}), kind), expected)
    same(post(app, save({"x": x[1]}), "application/x-safetensors", accept="text/html, application/json"), alone[0])
    same(post(app, json.dumps({"x": x[1].tolist()}).encode(), accept="application/x-safetensors"), alone[0])


@pytest.mark.parametrize("named", [False, True])
def test_several_inputs_and_outputs(named: bool) -> None:
    a, b = rc.Input(features=2), rc.Input(tokens=5)
    joined = rc.Concatenate()((a, rc.Embedding(5, 3)(b)))
    y = (rc.GRU(5, 4)(joined), rc.Linear(5, 2)(joined))
    arrays = {"a": np.ascontiguousarray(X[0, :, :2]), "b": np.arange(7) % 5}
    network: Any
    x: Any
    if named:
        network, x = (
            rc.Model({"a": a, "b": b}, {"h": y[0], "y": y[1]}),
            {key: one.tolist() for key, one in arrays.items()},
        )
        expected = network({key: one[None] for key, one in arrays.items()})[0]
    else:
        network, x = rc.Model((a, b), y), [one.tolist() for one in arrays.values()]
        expected = dict(zip("01", network(tuple(one[None] for one in arrays.values()))[0], strict=True))
        arrays = dict(zip("01", arrays.values(), strict=True))
    app = Service(network, max_streams=1)
    found = answered(predict(app, x)).json["y"]
    loaded = load(post(app, save({f"x.{key}": one for key, one in arrays.items()}), "application/x-safetensors").body)
    assert set(loaded) == {f"y.{key}" for key in expected}
    for key, one in expected.items():
        assert_same_bits(np.array(found[key if named else int(key)], np.float32), one[0])
        assert_same_bits(loaded[f"y.{key}"], one[0])
    assert "expected" in answered(predict(app, {"a": x["a"]} if named else x[:1])).error


def test_a_model_that_does_not_stream_has_whole_sequences() -> None:
    network = rc.LSTM(FEATURES, 4, bidirectional=True, return_sequences=False, seed=0)
    app = Service(network)
    assert app.pool is None
    assert_same_bits(np.array(answered(predict(app, X[0].tolist())).json["y"], np.float32), network(X[:1])[0][0])
    about = answered(request(app, "GET", "/v1/model")).json
    assert about["streams"] is False
    assert about["inputs"] == [
        {"name": "x", "kind": "features", "size": FEATURES, "axis": "either", "dtype": "float32"}
    ]


def test_what_json_cannot_say_is_null() -> None:
    """NaN in safetensors is computed; its answer in JSON is one that every reader takes."""
    app = Service(model(), max_streams=1)
    x = X[0].copy()
    x[4, 2] = np.nan
    reply = post(app, save({"x": x}), "application/x-safetensors", accept="application/json")
    y = json.loads(reply.body, parse_constant=pytest.fail)["y"]
    expected, _ = model()(x[None])
    assert [None in row for row in y] == [bool(np.isnan(row).any()) for row in expected[0]] == [False] * 4 + [True] * 3
    assert_same_bits(np.array(y[:4], np.float32), expected[0, :4])


WRONG: dict[str, tuple[bytes, int, str]] = {
    "no JSON": (b"{", 400, "predict: got no JSON"),
    "not UTF-8": (b'{"x": "\xff"}', 400, "predict: got no JSON"),
    "NaN": (b'{"x": [[NaN, 1, 1, 1, 1]]}', 400, "NaN is no number of JSON"),
    "deep": (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "nested too deeply"),
    "many digits": (b'{"x": ' + b"9" * 5000 + b"}", 400, "predict: got no JSON"),
    "a list": (b"[1]", 422, 'predict: got another object than {"x": ...}'),
    "more": (b'{"x": [], "z": 1}', 422, 'predict: got another object than {"x": ...}'),
    "text": (b'{"x": [["1", 2, 3, 4, 5]]}', 422, "predict: got a text in x, expected numbers"),
    "null": (b'{"x": [[null, 2, 3, 4, 5]]}', 422, "predict: got null in x, expected numbers"),
    "true": (b'{"x": [[true, 2, 3, 4, 5]]}', 422, "predict: got True in x, expected numbers"),
    "a number": (b'{"x": 1}', 422, "predict: got 1 in x, expected 2 levels of lists"),
    "flat": (b'{"x": [1, 2, 3, 4, 5]}', 422, "predict: got 1 in x, expected 2 levels of lists"),
    "deeper": (b'{"x": [[[[1]]]]}', 422, "predict: got a list in x, expected numbers"),
    "an object": (b'{"x": {"a": 1}}', 422, "predict: got an object in x, expected 2 levels of lists"),
    "ragged": (b'{"x": [[1, 2, 3, 4, 5], [1, 2, 3, 4]]}', 422, "predict: got lists of 5 and of 4 in x"),
    "narrow": (b'{"x": [[1, 2, 3, 4]]}', 422, "so 4 features, expected 5"),
    "large": (b'{"x": [[1e39, 2, 3, 4, 5]]}', 422, "predict: got a number in x beyond those of float32"),
    "larger": (b'{"x": [[1e999, 2, 3, 4, 5]]}', 422, "predict: got a number in x beyond those of float32"),
    "largest": (b'{"x": [[1' + b"0" * 400 + b", 2, 3, 4, 5]]}", 422, "predict: got a number in x beyond those"),
    "lengths of one": (b'{"x": [[1, 2, 3, 4, 5]], "lengths": [1]}', 422, "predict: got lengths for one sequence"),
    "lengths": (b'{"x": [[[1, 2, 3, 4, 5]]], "lengths": [2]}', 422, "lengths"),
    "long lengths": (b'{"x": [[[1, 2, 3, 4, 5]]], "lengths": [99999999999999999999]}', 422, "beyond 64 bits"),
    "text as lengths": (b'{"x": [[[1, 2, 3, 4, 5]]], "lengths": ["1"]}', 422, "predict: got other lengths than"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_json(what: str) -> None:
    body, status, message = WRONG[what]
    reply = post(Service(model(), max_streams=1), body)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    assert message in reply.error


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "predict: got a body that is no safetensors file"),
        (b"\xff" * 99, 400, "predict: got a body that is no safetensors file"),
        (save({"z": X[0]}), 422, "predict: got the arrays z, expected x; rename them"),
        (save({"x": X[0], "z": X[0]}), 422, "predict: got the arrays x, z, expected x; rename them"),
        (save({"x": X[0, 0]}), 422, "predict: got x of shape (5,), expected (t, 5)"),
        (save({"x": X[None]}), 422, "predict: got x of shape (1, 3, 7, 5), expected (t, 5)"),
        (save({"x": X[..., :4]}), 422, "so 4 features, expected 5"),
        (save({"x": X.astype(np.complex64)}), 422, "real numbers"),
        (save({"x": np.zeros((10**12, 0, 5), np.float32)}), 413, "got 5000000000000 bytes or more"),
        (save({"x": np.zeros((10**6, 0, 1), np.float32)}), 413, "predict: got 1000000 steps, expected at most 100000"),
    ],
)
def test_wrong_safetensors(body: bytes, status: int, message: str) -> None:
    """Some arrays have no bytes, and a shape that would cost all memory."""
    reply = post(Service(model(), max_streams=1), body, "application/x-safetensors")
    assert reply.status == status
    assert message in reply.error


def test_no_steps() -> None:
    app = Service(model(), max_streams=1)
    assert answered(predict(app, [])).json == {"y": []}
    assert load(post(app, save({"x": X[0, :0]}), "application/x-safetensors").body)["y"].shape == (0, 2)


def test_other_routes() -> None:
    app = Service(model(), max_streams=3)
    assert answered(request(app, "GET", "/health")).json == {"status": "ok"}
    assert answered(request(app, "HEAD", "/health")).status == 200
    about = answered(request(app, "GET", "/v1/model")).json
    assert (about["parameters"], about["streams"], about["outputs"]) == (
        sum(p.size for p in model().params.values()),
        True,
        ["y"],
    )
    for method, path, status in (("GET", "/v1/predict", 405), ("POST", "/health", 405), ("GET", "/etc/passwd", 404)):
        reply = answered(request(app, method, path))
        assert reply.status == status
        assert reply.error.startswith(f"got {method} {path}, expected GET /")
    assert post(app, b"{}", "text/plain").error.startswith("predict: got the content type 'text/plain', expected")


def test_the_page_needs_nothing_but_itself() -> None:
    """Its headers let the browser run its one script, whose digest they name, and ask this host alone."""
    reply = answered(request(Service(model()), "GET", "/"))
    page, policy = reply.body.decode(), reply.headers["content-security-policy"]
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.findall(r"<(?:link|img|iframe|script [^>]|style )|\s(?:style|on\w+|src)=", page)
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg"}, "the name of SVG, no address"


def test_metrics_are_those_of_prometheus() -> None:
    """Each family has its help and type, buckets add up, and counts are those of the pool's statistics."""

    async def main() -> str:
        app = Service(model(), max_streams=3)
        assert app.pool is not None
        stream = app.pool.open()
        stream.process(X[0])
        await predict(app, X[0].tolist())
        await predict(app, "wrong")
        reply = await request(app, "GET", "/metrics")
        assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return reply.body.decode()

    text = asyncio.run(main())
    kinds: dict[str, str] = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    assert set(kinds) == set(re.findall(r"^# HELP (\w+) \S", text, re.MULTILINE))
    samples = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            found = re.fullmatch(r'([a-z_]+)((?:\{(?:[a-z]+="[^"]*",?)+\})?) (-?[\d.e+-]+)', line)
            assert found is not None, line
            family = found[1] if found[1] in kinds else re.sub("_(bucket|sum|count)$", "", found[1])
            assert kinds[family] != "counter" or found[1].endswith("_total")
            samples[found[1] + found[2]] = float(found[3])
    assert samples["recurra_pool_steps_total"] == 7
    assert samples["recurra_pool_streams"] == 1
    assert samples['recurra_requests_total{route="predict",status="200"}'] == 1
    assert samples['recurra_requests_total{route="predict",status="422"}'] == 1
    for name in (name for name, kind in kinds.items() if kind == "histogram"):
        buckets = [value for key, value in samples.items() if key.startswith(name + "_bucket")]
        assert buckets == sorted(buckets)
        assert buckets[-1] == samples[name + "_count"] == 1


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"^Service: got a str as the model, expected a layer"):
        Service("model.safetensors")  # type: ignore[arg-type]
    for name, value in (
        ("max_streams", 0),
        ("max_batch", 0),
        ("max_body", -1),
        ("body_timeout", 0.0),
        ("keep_seconds", "1"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^(Service|Pool): got {name}="):
            Service(model(), **{name: value})
    with pytest.raises(TypeError, match=r"^Service: got origins='https://a', expected a list"):
        Service(model(), origins="https://a")


def test_without_starlette() -> None:
    code = """
    import sys
    import recurra as rc
    sys.modules["starlette"] = None
    print(sorted(name for name in sys.modules if name.startswith(("starlette", "uvicorn", "asyncio"))))
    rc.serving.Pool(rc.GRU(3, 4), 1)
    try:
        rc.serving.Service(rc.GRU(3, 4))
    except ImportError as error:
        print(error)
    """
    said = run_python(code).splitlines()
    assert said == ["['starlette']", "Service: starlette is not installed; run pip install 'recurra[serve]'"]


def test_the_example_mounts_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a check of its own, under a path."""
    monkeypatch.setenv("TOKEN", "secret")
    script = load_script("examples/service.py")

    async def main() -> None:
        known = {"Authorization": "Bearer secret"}
        async with script.lifespan(script.app):
            x = X[0, :, :3].tolist()
            body = json.dumps({"x": x}).encode()
            for headers, status in (({}, 401), ({"Authorization": "Bearer other"}, 401), (known, 200)):
                reply = await request(
                    script.app, "POST", "/model/v1/predict", body, content_type="application/json", **headers
                )
                assert reply.status == status
            assert (await request(script.app, "GET", "/model/health", **known)).json == {"status": "ok"}
            assert b"</html>" in (await request(script.app, "GET", "/model/", **known)).body
            async with connected(script.app, "/model/v1/stream") as socket:
                assert (await socket.receive()).accepted is False
            async with connected(script.app, "/model/v1/stream", **known) as socket:
                found = await socket.ask(op="step", x=x[0])
                assert_same_bits(np.array(found["y"], np.float32), np.array(reply.json["y"][0], np.float32))
        assert script.service.draining

    asyncio.run(main())
