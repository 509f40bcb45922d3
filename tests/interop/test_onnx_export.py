"""`to_onnx`: every layer that ONNX can express runs in onnxruntime as it does here, and comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import recurra as rc

F = 5  # features


def graph() -> rc.Model:
    """Branches, a layer that begins with another's state, a vector that is learnt."""
    x = rc.Input(features=F)
    encoded = rc.GRU(F, 4, 2, seed=1)(x)
    decoded = rc.GRU(F, 8, seed=2)(x, state=encoded.state)
    start = rc.GRU(F, 3, seed=3)(x, state=rc.LearntVector(3, init="uniform", seed=4)(x))
    both = rc.Concatenate()((decoded, start, x))
    twice = rc.Linear(16, F, seed=5)(both) + rc.Multiply()((x, x))
    return rc.Model(x, (twice, rc.Pool("mean")(decoded)))


def merged() -> rc.Model:
    x = rc.Input(features=F)
    a, b = rc.Linear(F, 6, seed=1)(x), rc.Linear(F, 6, seed=2)(x)
    parts = [kind()((a, b)) for kind in (rc.Add, rc.Subtract, rc.Multiply, rc.Average, rc.Maximum, rc.Minimum, rc.Dot)]
    return rc.Model(x, rc.Concatenate()((*parts, rc.Reverse()(x), x[..., 1:4:2])))


def two_inputs() -> rc.Model:
    x, v = rc.Input(features=F, name="steps"), rc.Input(features=3, sequence=False, name="start")
    return rc.Model({"steps": x, "start": v}, {"y": rc.RNN(F, 3, seed=1)(x, state=v)})


LAYERS: dict[str, Callable[[], Any]] = {
    "linear": lambda: rc.Linear(F, 3, seed=1),
    "linear_plain": lambda: rc.Linear(F, 3, bias=False, seed=1),
    "embedding": lambda: rc.Sequential(rc.Embedding(F, 4, seed=1), rc.Dropout(0.5)),
    "layer_norm": lambda: rc.LayerNorm(F),
    "layer_norm_plain": lambda: rc.LayerNorm(F, affine=False, eps=1e-3),
    "batch_norm": lambda: trained_norm(),
    "columns": lambda: rc.Sequential(
        rc.Linear(F, 8, seed=1),
        rc.Conv2d(2, 3, 3, 1, (1, "same"), (1, 2), height=4, seed=2),
        rc.BatchNorm2d(3),
        rc.PReLU(3),
        rc.MaxPool2d((2, 2), (2, 1), (0, 1), channels=3, height=4),
        rc.AvgPool2d((1, 3), 2, (0, 1), channels=3, height=2),
        rc.Conv2d(3, 2, (1, 2), (1, 2), height=1, bias=False, seed=3),
    ),
    "causal_columns": lambda: rc.Conv2d(1, 3, (2, 3), padding=(0, "causal"), height=F, seed=1),
    "images": lambda: rc.Sequential(
        rc.Linear(F, 8, seed=1),
        rc.Conv2d(1, 3, 2, padding=(0, 1), height=2, width=4, seed=2),
        rc.MaxPool2d((1, 2), channels=3, height=1, width=5),
        rc.Permute((2, 3), (1, 0)),
    ),
    "grouped": lambda: rc.Sequential(
        rc.Conv1d(F, 2 * F, 3, groups=F, seed=1), rc.ConvTranspose1d(2 * F, F, 3, 2, groups=F, seed=2)
    ),
    "transposed": lambda: rc.ConvTranspose1d(F, 3, 4, 3, 2, 1, seed=1),
    "transposed_same": lambda: rc.ConvTranspose1d(F, 3, 3, 1, 1, bias=False, seed=1),
    "group_norm": lambda: rc.Sequential(rc.Linear(F, 8, seed=1), rc.GroupNorm(2, 4), rc.PReLU()),
    "instance_norm": lambda: rc.InstanceNorm1d(F, affine=True),
    "attention_pool": lambda: rc.AttentionPool(F, 4, seed=1),
    "repeat": lambda: rc.Sequential(rc.Pool("last"), rc.RepeatVector(3)),
    "graph": graph,
    "merged": merged,
    "crnn": lambda: rc.Sequential(
        rc.Conv1d(F, 6, 3, padding="same", seed=1),
        rc.Activation("relu"),
        rc.MaxPool1d(2, padding="same"),
        rc.LSTM(6, 4, bidirectional=True, seed=2),
        rc.Linear(8, 3, seed=3),
        rc.Activation("softmax"),
    ),
    **{
        f"pool_{mode}": lambda mode=mode: rc.Pool(mode)  # type: ignore[misc]
        for mode in ("last", "mean", "max")
    },
    **{
        f"activation_{name}": lambda name=name: rc.Activation(name)  # type: ignore[misc]
        for name in rc.layers.activation.NAMES
        if name not in ("sqrt", "log")
    },
    **{
        f"{kind.__name__}_{padding}_{stride}": lambda kind=kind, padding=padding, stride=stride: kind(
            3, stride, padding
        )  # type: ignore[misc]
        for kind in (rc.MaxPool1d, rc.AvgPool1d)
        for padding in ("valid", "same", "causal")
        for stride in (1, 2)
    },
    **{
        f"conv_{padding}_{stride}_{dilation}": lambda padding=padding, stride=stride, dilation=dilation: rc.Conv1d(
            F, 4, 3, stride=stride, dilation=dilation, padding=padding, seed=1
        )  # type: ignore[misc]
        for padding in ("valid", "same", "causal")
        for stride in (1, 2)
        for dilation in (1, 2)
    },
    **{
        f"{kind.__name__}_{number}": lambda kind=kind, options=options: kind(F, 4, seed=3, **options)  # type: ignore[misc]
        for kind in (rc.RNN, rc.GRU, rc.LSTM)
        for number, options in enumerate(
            (
                {},
                {"num_layers": 2, "bidirectional": True},
                {"bias": False, "return_sequences": False, "bidirectional": True},
                {"dropout": 0.5, "num_layers": 3, "input_dropout": 0.1, "recurrent_dropout": 0.2},
            )
        )
    },
    "rnn_relu": lambda: rc.RNN(F, 4, nonlinearity="relu", seed=1),
    "rnn_sigmoid": lambda: rc.RNN(F, 4, nonlinearity="sigmoid", bidirectional=True, seed=1),
    "rnn_hard": lambda: rc.RNN(F, 4, nonlinearity=("hard_sigmoid", 0.3, 0.4), bidirectional=True, seed=1),
    "gru_hard": lambda: rc.GRU(F, 4, activation="softsign", recurrent_activation=("hard_sigmoid", 0.2, 0.5), seed=1),
    "lstm_hard": lambda: rc.LSTM(
        F,
        4,
        activation="relu",
        recurrent_activation="hard_sigmoid",
        output_activation="linear",
        bidirectional=True,
        seed=1,
    ),
    "lstm_soft": lambda: rc.LSTM(F, 4, 2, activation="softsign", seed=1),
    "gru_before": lambda: rc.GRU(F, 4, reset_after=False, bidirectional=True, seed=1),
    "lstm_peepholes": lambda: rc.LSTM(F, 4, 2, peepholes=True, bidirectional=True, seed=1),
}


def trained_norm() -> rc.BatchNorm:
    layer = rc.BatchNorm(F)
    for name, array in layer.buffers.items():
        array[...] = np.linspace(0.5, 2.0, F) if name == "running_var" else np.linspace(-1, 1, F)
    return layer


def drawn(model: Any, rng: np.random.Generator, rows: int, steps: int) -> Any:
    if model.input_kind == "tokens":
        return rng.integers(0, F, (rows, steps))
    return rng.standard_normal((rows, steps, F)).astype(np.float32)


def flat(state: Any) -> list[Any]:
    if isinstance(state, list | tuple):
        return [array for one in state for array in flat(one)]
    return [] if state is None else [state]


def compare(got: list[Any], wanted: list[Any]) -> None:
    for array, expected in zip(got, wanted, strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_onnxruntime_gives_the_same(name: str, tmp_path: Path) -> None:
    """At two shapes, with and without lengths, states in and out; and read back here."""
    rng = np.random.default_rng(0)
    model = LAYERS[name]()
    for lengths in (False, True):
        path = tmp_path / f"{lengths}.onnx"
        model.to_onnx(path, lengths=lengths)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        back = rc.from_onnx(path)
        names = [one.name for one in session.get_inputs()]
        for rows, steps in ((2, 9), (4, 7)):
            x = drawn(model, rng, rows, steps)
            valid = rng.integers(0, steps + 1, rows) if lengths else None
            zeros = model.init_state(rows)
            begin = [rng.standard_normal(one.shape).astype(np.float32) for one in flat(zeros)]
            state = refilled(zeros, iter(begin))
            y, final = model(x, state, None if valid is None else valid)
            outputs = list(y) if isinstance(y, tuple) else [y]
            given = {"x": x, **({"x_lengths": valid} if lengths else {})}
            starts = [one for one in names if one not in given]
            made = session.run(None, {**given, **dict(zip(starts, begin, strict=True))})
            compare(made, [*outputs, *flat(final)])
            assert back.state_names == tuple(starts)
            again, after = back({key: given[key] for key in back.inputs}, begin)
            compare([*(again if isinstance(again, tuple) else [again]), *after], [*outputs, *flat(final)])


def refilled(state: Any, arrays: Any) -> Any:
    if isinstance(state, list | tuple):
        return type(state)(refilled(one, arrays) for one in state)
    return None if state is None else next(arrays)


def test_named_inputs_and_outputs(tmp_path: Path) -> None:
    model = two_inputs()
    model.to_onnx(tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    given = {
        "steps": rng.standard_normal((2, 4, F)).astype(np.float32),
        "start": rng.standard_normal((2, 3)).astype(np.float32),
    }
    wanted = model(given)[0]["y"]
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    compare(session.run(["y"], given), [wanted])
    compare([rc.from_onnx(tmp_path / "m.onnx")(given)[0]], [wanted])


def test_double_precision_comes_back(tmp_path: Path) -> None:
    model = rc.Sequential(rc.LSTM(F, 4, dtype="float64", seed=1), rc.Linear(4, 2, dtype="float64", seed=2))
    model.to_onnx(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((2, 6, F))
    back = rc.from_onnx(tmp_path / "m.onnx")
    np.testing.assert_allclose(back(x)[0], model(x)[0], atol=1e-12)


def test_a_whole_model_comes_back_as_one_that_streams_and_trains(tmp_path: Path) -> None:
    model = rc.Sequential(rc.LSTM(F, 4, 2, seed=1), rc.Linear(4, 2, seed=2))
    model.to_onnx(tmp_path / "m.onnx")
    back = rc.from_onnx(tmp_path / "m.onnx")
    assert back.import_report().splitlines()[0].count(" 0 nodes in numpy")
    x = np.random.default_rng(0).standard_normal((3, 6, F)).astype(np.float32)
    wanted, _state = model(x)
    stream = back.stream(3)
    pieces = [stream.step(x[:, begin : begin + 2]) for begin in (0, 2, 4)]
    np.testing.assert_allclose(np.concatenate(pieces, 1), wanted, atol=1e-6)
    native = back.as_model()
    steps = native.stream(3)
    np.testing.assert_allclose(np.stack([steps.step(x[:, at]) for at in range(6)], 1), wanted, atol=1e-6)
    tape = native.record(x)
    tape.backward(np.ones_like(tape.y))
    assert sum(np.abs(one).sum() for one in native.grads.values()) > 0


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (rc.MinGRU(F, 4), "MinGRU"),
        (rc.CRF(F), "CRF"),
        (rc.LSTM(F, 4, proj_size=2), "proj_size=2"),
        (rc.GRU(F, 4, layer_norm=True), "layer_norm=True"),
        (rc.LSTM(F, 4, cell_clip=1.0), "cell_clip=1.0"),
        (rc.RNN(F, 4, zoneout=0.1), "zoneout=0.1"),
        (rc.MaxPool1d(3, 1, "causal", features=F), "MaxPool1d"),
    ],
)
def test_what_onnx_cannot_express_is_refused_by_name(layer: Any, said: str, tmp_path: Path) -> None:
    old = tmp_path / "m.onnx"
    old.write_bytes(b"as it was")
    with pytest.raises(ValueError, match=said):
        layer.to_onnx(old)
    assert old.read_bytes() == b"as it was"


def test_rows_of_a_stream_step_alone(tmp_path: Path) -> None:
    """As rows of a `recurra.Stream`: with what each would have given alone, and the others keep their states."""
    lstm = rc.LSTM(3, 4, 2, seed=0)
    lstm.to_onnx(tmp_path / "model.onnx")
    back = rc.from_onnx(tmp_path / "model.onnx")
    stream, native = back.stream(3), lstm.stream(3)
    rng = np.random.default_rng(0)
    for rows, count in ((None, 3), ([2, 0], 2), (1, 1), ([False, True, True], 2)):
        x = rng.standard_normal((count, 1, 3)).astype(np.float32)
        y = stream.step(x, rows)
        np.testing.assert_allclose(
            y if isinstance(y, np.ndarray) else y[0], native.step(x[:, 0], rows=rows)[:, None], rtol=1e-5, atol=1e-6
        )
        for one, other in zip(stream.state(), native.state(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    some = stream.state([2, 1])
    stream.reset([2, 1])
    assert not any(one[:, 1:].any() for one in stream.state())
    stream.load_state(some, [1, 2])
    native.load_state(native.state([2, 1]), [1, 2])
    for one, other in zip(stream.state(), native.state(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    before = stream.state()
    for wrong in ([3], [0, 0], [0.5]):
        with pytest.raises((ValueError, TypeError), match=r"^OnnxStream: "):
            stream.step(np.zeros((len(wrong), 1, 3), np.float32), wrong)
    with pytest.raises(ValueError, match=r"OnnxStream\.load_state: got float32"):
        stream.load_state(some, [1])
    assert all((one == other).all() for one, other in zip(stream.state(), before, strict=True))


def test_a_reader_of_columns_comes_back_whole(tmp_path: Path) -> None:
    """Convolutions, pools and norms on images become layers again, and their columns the steps of an LSTM."""
    height = 8
    model = rc.Sequential(
        rc.Conv2d(1, 4, 3, padding=1, height=height, seed=1),
        rc.BatchNorm2d(4),
        rc.Activation("relu"),
        rc.MaxPool2d(2, channels=4, height=height),
        rc.Conv2d(4, 6, 3, padding=1, height=4, seed=2),
        rc.PReLU(6),
        rc.AvgPool2d((4, 2), (4, 1), (0, 1), channels=6, height=4),
        rc.LSTM(6, 5, bidirectional=True, seed=3),
        rc.Linear(10, 3, seed=4),
    )
    path = tmp_path / "m.onnx"
    model.to_onnx(path)
    back = rc.from_onnx(path)
    rng = np.random.default_rng(0)
    for rows, steps in ((2, 9), (1, 14)):
        x = rng.standard_normal((rows, steps, height)).astype(np.float32)
        wanted, _ = model(x)
        compare([back(x)[0]], [wanted])
    assert " 0 nodes in numpy" in back.import_report().splitlines()[0]
