"""Models of Keras 3 become the same models here: random ones, live and from both kinds of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from keras_models import TOKENS, draw, keras, kl

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


def outputs(y: Any) -> list[Any]:
    parts = y if isinstance(y, list | tuple) else [y]
    return [one.detach().cpu().numpy() if hasattr(one, "detach") else one for one in parts]


def agree(model: Any, source: Any, x: Any, valid: Any = None, **options: Any) -> Any:
    read = rc.from_keras(source, **options)
    wanted, found = outputs(model(x, training=False)), outputs(read(x)[0])
    assert [one.shape for one in found] == [one.shape for one in wanted]
    for got, want in zip(found, wanted, strict=True):
        if valid is not None and got.ndim == 3 and got.shape[1] == valid.shape[1]:
            got, want = got[valid], want[valid]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    return read


@pytest.mark.parametrize("seed", range(40))
def test_random_models(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    model, x, valid = draw(rng, cells=False)
    form = ["live", "keras", "h5"][seed % 3]
    source: Any = model if form == "live" else tmp_path / f"model.{form}"
    if form != "live":
        model.save(source)
    agree(model, source, x, valid)


X = np.random.default_rng(0).standard_normal((3, 6, 2)).astype(np.float32)


def test_an_encoder_and_a_decoder() -> None:
    """States go from one to the other; inputs and outputs keep their order."""
    source, target = keras.Input((None,), name="source"), keras.Input((None,), name="target")
    table = kl.Embedding(TOKENS, 3)
    memory, h, c = kl.LSTM(4, return_sequences=True, return_state=True)(table(source))
    decoded, *states = kl.LSTM(4, return_sequences=True, return_state=True)(table(target), initial_state=[h, c])
    attended = kl.Concatenate()([decoded, kl.AdditiveAttention(use_scale=False)([decoded, memory])])
    model = keras.Model([source, target], [kl.Dense(TOKENS, activation="softmax")(attended), *states])
    rng = np.random.default_rng(0)
    read = rc.from_keras(model)
    x = (rng.integers(0, TOKENS, (3, 7)), rng.integers(0, TOKENS, (3, 5)))
    for got, want in zip(read(x)[0], outputs(model(list(x))), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_inputs_by_name() -> None:
    a, b = keras.Input((6, 2), name="a"), keras.Input((3,), name="b")
    y = kl.GRU(4)(a, initial_state=kl.Dense(4)(b))
    model = keras.Model({"a": a, "b": b}, {"y": y, "z": kl.Dense(2)(y)})
    x = {"a": X, "b": X[:, 0, :1].repeat(3, 1)}
    wanted, found = model(x), rc.from_keras(model)(x)[0]
    assert set(found) == {"y", "z"}
    for name, value in found.items():
        np.testing.assert_allclose(value, wanted[name].detach().numpy(), atol=1e-5)


def test_a_stateful_model_goes_on_from_its_state() -> None:
    model = keras.Sequential([keras.Input(batch_shape=(3, 3, 2)), kl.GRU(4, stateful=True), kl.Dense(1)])
    read, state = rc.from_keras(model), None
    for part in (X[:, :3], X[:, 3:]):
        wanted = model(part).detach().numpy()
        y, state = read(part, state)
        np.testing.assert_allclose(y, wanted, atol=1e-5)


def test_a_model_streams() -> None:
    model = keras.Sequential([keras.Input((None, 2)), kl.LSTM(4, return_sequences=True), kl.Dense(1, "tanh")])
    stream, wanted = rc.from_keras(model).stream(3), model(X).detach().numpy()
    for step in range(6):
        np.testing.assert_allclose(stream.step(X[:, step]), wanted[:, step], atol=1e-5)


def padded() -> tuple[Any, Any]:
    x = np.array([[1, 2, 0, 0], [3, 4, 5, 6], [7, 0, 0, 0]])
    inputs = keras.Input((4,))
    h = kl.LSTM(3, return_sequences=True)(kl.Embedding(TOKENS, 2, mask_zero=True)(inputs))
    return keras.Model(inputs, [kl.GlobalMaxPooling1D()(h), h]), x


def test_layers_that_read_padding_are_refused_or_leave_it_out() -> None:
    """In Keras the maximum is over repeated outputs, too, which are those of the last valid step."""
    model, x = padded()
    with pytest.raises(rc.ModelFormatError, match=r"'global_max.*skip_padding=True"):
        rc.from_keras(model)
    read = rc.from_keras(model, skip_padding=True)
    np.testing.assert_allclose(read(x)[0][0], outputs(model(x))[0], atol=1e-5)


def test_a_mask_that_nobody_uses_is_none() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Conv1D(2, 3)(kl.Embedding(TOKENS, 2, mask_zero=True)(inputs)))
    agree(model, model, padded()[1])


def test_lengths_say_it_better_than_values() -> None:
    model, x = padded()
    read = rc.from_keras(model, skip_padding=True)
    np.testing.assert_array_equal(read(x, lengths=[2, 4, 1])[0][1], read(x)[0][1])
    assert not np.array_equal(read(x, lengths=[4, 4, 4])[0][1], read(x)[0][1])
    tape = read.record(x, training=False)
    np.testing.assert_array_equal(tape.y[1], read(x)[0][1])


def test_frozen_layers_stay_frozen() -> None:
    first, second = kl.Dense(3, trainable=False), kl.Dense(2)
    model = keras.Sequential([keras.Input((2,)), first, second])
    assert [layer.trainable for layer in rc.from_keras(model).layers] == [False, True]


def test_float64() -> None:
    inputs = keras.Input((6, 2), dtype="float64")
    model = keras.Model(inputs, kl.GRU(3, dtype="float64")(inputs))  # whose products Keras does not round to float32
    read = rc.from_keras(model)
    assert read.dtype == np.float64
    np.testing.assert_allclose(read(X.astype(float))[0], model(X.astype(float)).detach().numpy(), atol=1e-12)


@pytest.mark.parametrize(
    "layer", [kl.SpatialDropout1D(0.2), kl.GaussianNoise(0.1), kl.Dropout(0.1, noise_shape=(1, 6, 2))]
)
def test_what_works_in_training_only_is_told(layer: Any) -> None:
    model = keras.Sequential([keras.Input((6, 2)), layer, kl.GRU(3)])
    with pytest.warns(UserWarning, match=layer.name):
        rc.from_keras(model)


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (kl.Lambda(lambda x: x), "Lambda"),
        (kl.MultiHeadAttention(1, 2), "MultiHeadAttention"),
        (kl.GRU(3, activation="mish"), "activation"),
        (kl.Activation("sparsemax"), "sparsemax"),
        (kl.Permute((2, 1)), "Permute"),
        (kl.LayerNormalization(axis=1), "axis"),
        (kl.TimeDistributed(kl.Flatten()), None),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(layer: Any, what: str | None) -> None:
    inputs = keras.Input((6, 2))
    y = layer(inputs, inputs) if what == "MultiHeadAttention" else layer(inputs)
    model = keras.Model(inputs, y)
    if what is None:
        agree(model, model, X)
        return
    with pytest.raises(rc.ModelFormatError, match=rf"^from_keras: .*layer '{layer.name}'.*{what}"):
        rc.from_keras(model)
