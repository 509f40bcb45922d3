"""Graphs from ONNX in a pool: silero's voice detector, and graphs that are refused, with the reason."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import recurra as rc
from agreement import assert_same_bits
from recurra.serving import Pool, PoolStream

X = (0.1 * np.random.default_rng(0).standard_normal((30, 576))).astype(np.float32)


@pytest.fixture(scope="module")
def silero() -> Any:
    found = importlib.util.find_spec("silero_vad")
    assert found is not None
    assert found.origin is not None
    return rc.from_onnx(Path(found.origin).parent / "data" / "silero_vad.onnx", sr=16000)


def test_callers_of_a_voice_detector_have_the_bits_of_one_alone(silero: Any) -> None:
    async def caller(opened: PoolStream, number: int) -> None:
        rng = np.random.default_rng(number)
        twin = silero.stream(1)
        async with opened as stream:
            for turn in range(3):
                x = X[rng.integers(30)]
                if turn != number % 6:
                    assert_same_bits(await stream.astep(x), twin.step(x[None])[0])
                else:
                    ys = await stream.aprocess(X[turn : turn + 3])
                    assert ys.shape == (3, 1)
                    for y, one in zip(ys, X[turn : turn + 3], strict=True):
                        assert_same_bits(y, twin.step(one[None])[0])
                if turn == number % 5:
                    stream.reset()
                    twin.reset()

    async def main() -> None:
        async with Pool(silero, 40) as pool:
            streams = [pool.open() for _ in range(18)]
            await asyncio.gather(*(caller(stream, number) for number, stream in enumerate(streams)))
            assert pool.stats().batch_sizes.quantile(1) >= 8
            assert pool._scheduler.line.groups, "later steps are gathered natively"

    asyncio.run(main())


def test_states_are_kept_copied_saved_and_evicted(silero: Any) -> None:
    with Pool(silero, 3) as pool:
        stream, twin = pool.open(), silero.stream(1)
        for x in X[:3]:
            assert_same_bits(stream.step(x), twin.step(x[None])[0])
        assert stream.process(X[:0]).shape == (0, 1)
        fork, restored = stream.fork(), pool.restore(stream.snapshot())
        assert pool.evict_idle(0) == 3
        expected = twin.step(X[3:4])[0]
        for one in (stream, fork, restored):
            assert_same_bits(one.step(X[3]), expected)
        with pytest.raises(ValueError, match="another model"), Pool(rc.GRU(3, 4), 2) as other:
            other.restore(stream.snapshot())


def test_what_does_not_fit_is_its_callers_matter(silero: Any) -> None:
    with Pool(silero, 3) as pool:
        stream, twin = pool.open(), silero.stream(1)
        for wrong in (X[0][:5], X[0].astype(np.float64), X[:2], np.float32(1), 3, X[:2].astype(int)):
            with pytest.raises((ValueError, TypeError)):
                stream.step(wrong)
        with pytest.raises(TypeError, match="graph from ONNX"):
            pool.load_state_dict({})
        assert_same_bits(stream.step(X[0]), twin.step(X[:1])[0])


def graph(nodes: list[Any], shape: Any = ("N", 4)) -> Any:
    """x and h of `shape` -> y and h2."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "h", "y", "h2")]
    zero = helper.make_tensor("rows", TensorProto.INT64, [1], [0])
    made = helper.make_graph(nodes, "g", values[:2], values[2:], [zero])
    return rc.from_onnx(onnx.ModelProto.SerializeToString(helper.make_model(made)), states={"h": "h2"})


@pytest.mark.parametrize(
    ("nodes", "shape", "message"),
    [
        ([helper.make_node("Sin", ["x"], ["y"]), helper.make_node("Identity", ["h"], ["h2"])], ("N", 4), r"Sin"),
        ([helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["h"], ["h2"])], (1, 4), r"any N"),
        (
            [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["h"], ["h2"])],
            ("N", 3, 4),
            r"\(N, features\)",
        ),
        (
            [
                helper.make_node("Gather", ["x", "rows"], ["first"], axis=0),
                helper.make_node("Shape", ["x"], ["size"]),
                helper.make_node("Expand", ["first", "size"], ["y"]),
                helper.make_node("Identity", ["h"], ["h2"]),
            ],
            ("N", 4),
            "depend on one another",
        ),
    ],
)
def test_graphs_without_rows_of_their_own_are_refused(nodes: Any, shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message), Pool(graph(nodes, shape), 2) as pool:
        pool.open().step(np.ones(4, np.float32) * np.arange(4, dtype=np.float32))


def test_a_graph_of_layers_is_a_model(tmp_path: Path) -> None:
    network = rc.Sequential(rc.LSTM(5, 8), rc.Linear(8, 3), seed=0)
    network.to_onnx(tmp_path / "model.onnx")
    read = rc.from_onnx(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"as_model\(\)"):
        Pool(read, 4)
    xs = X[:6, :5]
    with Pool(read.as_model(), 4) as pool, pool.open() as stream:
        twin = read.as_model().stream(1)
        for x in xs:
            assert_same_bits(stream.step(x), twin.step(x[None])[0])
