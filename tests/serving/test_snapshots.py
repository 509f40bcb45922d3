"""Streams as bytes: they go on with the same bits, here or in another process, and only with the model they came
from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from fresh_python import run_python
from recurra.serving import Pool
from stream_models import FEATURES, MODELS, TOKENS

MAKE: list[Callable[[], Any]] = [
    lambda: rc.LSTM(FEATURES, 9, seed=0),
    lambda: rc.LSTM(FEATURES, 9, seed=0, dtype="float64"),
    lambda: rc.LSTM(FEATURES, 8, seed=0),
    lambda: rc.GRU(FEATURES, 9, seed=0),
    lambda: rc.GRU(FEATURES, 9, reset_after=False, seed=0),
    lambda: rc.Sequential(rc.LSTM(FEATURES, 9), seed=0),
    lambda: rc.Sequential(rc.LSTM(FEATURES, 9), rc.Activation("tanh"), seed=0),
]


def inputs(name: str, dtype: str) -> Array:
    rng = np.random.default_rng(0)
    return rng.integers(0, TOKENS, 9) if name == "tokens" else rng.standard_normal((9, FEATURES)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_a_snapshot_goes_on(name: str, dtype: str) -> None:
    x = inputs(name, dtype)
    model = MODELS[name](dtype)
    with Pool(model, 3) as pool:
        stream = pool.open()
        stream.process(x[:5])
        data = stream.snapshot()
        assert data == stream.snapshot(), "the same state gives the same bytes"
        later = stream.process(x[5:])
        assert_same_bits(pool.restore(data).process(x[5:]), later)
        with Pool(model, 1) as other:
            assert_same_bits(other.restore(bytearray(data)).process(x[5:]), later)


def test_other_programs_can_read_it() -> None:
    model = rc.Sequential(rc.LSTM(FEATURES, 9), rc.Linear(9, 3), rc.GRU(3, 2, 2), seed=0)
    with Pool(model, 1) as pool:
        stream = pool.open()
        stream.process(inputs("", "float32"))
        arrays = load(stream.snapshot())
        assert {name: one.shape for name, one in arrays.items()} == {
            "0.h": (1, 1, 9),
            "0.c": (1, 1, 9),
            "2.h": (2, 1, 2),
        }
        assert_same_bits(arrays["0.c"], stream.state_now()[0][1])


def test_another_process_goes_on_after_kill_9(tmp_path: Path) -> None:
    """With the file of the model and that of the stream."""
    x = inputs("", "float32")
    model = rc.Sequential(rc.LSTM(FEATURES, 9), rc.Linear(9, 3), seed=0)
    model.save(tmp_path / "model.safetensors")
    np.save(tmp_path / "x.npy", x)
    start = f"""
    import os, signal
    import numpy as np
    import recurra as rc
    os.chdir({str(tmp_path)!r})
    x = np.load("x.npy")
    pool = rc.serving.Pool(rc.load("model.safetensors"), 2)
    """
    run_python(
        start
        + """
    if os.fork() == 0:
        stream = pool.open()
        stream.process(x[:5])
        with open("stream.safetensors", "wb") as file:
            file.write(stream.snapshot())
        stream.process(x[5:])
        os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
    """
    )
    run_python(
        start
        + """
    with open("stream.safetensors", "rb") as file:
        np.save("y.npy", pool.restore(file.read()).process(x[5:]))
    """
    )
    assert_same_bits(np.load(tmp_path / "y.npy"), model.stream(1).process(x[None])[0, 5:])


@pytest.mark.parametrize("index", range(len(MAKE)))
def test_no_other_model_takes_it(index: int) -> None:
    with Pool(MAKE[index](), 1) as pool:
        data = pool.open().snapshot()
    for other, make in enumerate(MAKE):
        with Pool(make(), 1) as pool:
            if other == index:
                pool.restore(data)
                continue
            for strict in (True, False):
                with pytest.raises(
                    ValueError, match=r"^restore: got a snapshot of another model, expected one of a model"
                ):
                    pool.restore(data, strict=strict)


def test_other_weights_take_it_if_asked_to() -> None:
    x = inputs("", "float32")
    model = rc.Sequential(rc.LSTM(FEATURES, 9), rc.BatchNorm(9), seed=0)
    with Pool(model, 4) as pool:
        stream = pool.open()
        stream.process(x[:5])
        data = stream.snapshot()
        model.trainable = False
        pool.restore(data).close()
        for change in ("0.bias_hh_l0", "1.running_mean"):
            weights = model.state_dict()
            weights[change][3] += 1
            pool.load_state_dict(weights)
            with pytest.raises(ValueError, match=r"^restore: got a snapshot taken with other weights, expected those"):
                pool.restore(data)
            with pool.restore(data, strict=False) as other, stream.fork() as twin:
                assert_same_bits(other.step(x[5]), twin.step(x[5]))
            weights[change][3] -= 1
            pool.load_state_dict(weights)
        data = stream.snapshot()
        assert_same_bits(pool.restore(data).step(x[6]), stream.step(x[6]))


def test_damaged_bytes_are_refused() -> None:
    with Pool(MAKE[0](), 2) as pool:
        data = pool.open().snapshot()
        for at in range(0, len(data), 7):
            damaged = bytearray(data)
            damaged[at] ^= 1 << at % 8
            with pytest.raises(ValueError, match=r"^restore: got"):
                pool.restore(bytes(damaged))
        for end in (*range(20), len(data) // 2, len(data) - 1):
            with pytest.raises(rc.ModelFormatError, match=r"^restore: got"):
                pool.restore(data[:end])


@pytest.mark.parametrize("wrong", [None, "text", 3, [1, 2], np.zeros(3)])
def test_what_is_no_bytes(wrong: Any) -> None:
    with Pool(MAKE[0](), 1) as pool, pytest.raises((TypeError, ValueError), match=r"^restore: got"):
        pool.restore(wrong)


def test_a_models_file_is_no_snapshot(tmp_path: Path) -> None:
    model = MAKE[0]()
    model.save(tmp_path / "model.safetensors")
    with Pool(model, 1) as pool, pytest.raises(rc.ModelFormatError, match=r"^restore: got bytes of format 'recurra'"):
        pool.restore((tmp_path / "model.safetensors").read_bytes())
