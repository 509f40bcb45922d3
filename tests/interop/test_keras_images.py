"""Keras' layers on images: the first axis of an image becomes time, or each step of TimeDistributed holds an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from keras_models import ACTIVATIONS, Rng, flag, keras, kl, pick

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")

N, W, H, C, T = 3, 12, 9, 2, 4
ELEMENTWISE = [name for name in ACTIVATIONS if "softmax" not in name]


def layer(rng: Rng, sizes: Any) -> Any:
    """A layer on images of these sizes."""
    kind = rng.integers(6)
    if kind == 5:
        size = tuple(int(n) for n in rng.integers(1, 4, 2))
        options = {
            "padding": pick(rng, ["valid", "same"]),
            "use_bias": flag(rng),
            "depth_multiplier": pick(rng, [1, 2]),
        }
        options |= {"depth_multiplier": pick(rng, [1, 2]), **pick(rng, [{}, {"strides": 2}, {"dilation_rate": 2}])}
        if flag(rng):
            return kl.DepthwiseConv2D(size, activation=pick(rng, ELEMENTWISE), **options)
        return kl.SeparableConv2D(4, size, activation=pick(rng, ELEMENTWISE), **options)
    if kind < 2:
        size = tuple(int(n) for n in rng.integers(1, 4, 2))
        options: dict[str, Any] = {"padding": pick(rng, ["valid", "same"]), "use_bias": flag(rng)}
        options |= pick(rng, [{}, {"strides": (2, 1)}, {"strides": 2}, {"dilation_rate": (1, 2)}])
        return kl.Conv2D(4, size, activation=pick(rng, ELEMENTWISE), **options)
    if kind == 2:
        options = {"pool_size": 2}
        options |= pick(
            rng, [{}, {"strides": 1, "padding": "same"}, {"pool_size": (2, 1)}, {"pool_size": 3, "strides": 1}]
        )
        if min(sizes) < 4:
            options = {"pool_size": 2, "strides": 1, "padding": "same"}
        return pick(rng, [kl.MaxPooling2D, kl.AveragePooling2D])(**options)
    if kind == 3:
        return kl.BatchNormalization(center=flag(rng), scale=flag(rng))
    return pick(rng, [kl.Activation(pick(rng, ELEMENTWISE)), kl.LeakyReLU(), kl.Dropout(0.2), kl.ReLU(2.0)])


def draw(rng: Rng) -> tuple[Any, tuple[int, ...]]:
    """A model and its input's shape without rows."""
    each = flag(rng, 0.4)
    inputs = keras.Input((T, W, H, C) if each else (W, H, C))
    x: Any = inputs
    for _ in range(rng.integers(1, 4)):
        made = layer(rng, x.shape[-3:-1])
        x = kl.TimeDistributed(made)(x) if each else made(x)
        if min(x.shape[-3:-1]) < 4:
            break
    if each:
        x = kl.TimeDistributed(pick(rng, [kl.Flatten(), kl.GlobalAveragePooling2D(), kl.GlobalMaxPooling2D()]))(x)
        return keras.Model(inputs, kl.GRU(3)(x)), inputs.shape[1:]
    steps, height, channels = (int(n) for n in x.shape[1:])
    kind = rng.integers(4)
    if kind == 0:
        x = kl.Bidirectional(kl.LSTM(3, return_sequences=True))(kl.Reshape((steps, height * channels))(x))
    elif kind == 1:
        x = kl.Dense(3)(kl.Flatten()(kl.PReLU(shared_axes=[1, 2])(x)))
    elif kind == 2:
        x = kl.Dense(3)(kl.GlobalAveragePooling2D()(x))
    else:
        x = kl.Conv1D(3, 2, padding="same")(kl.PReLU(shared_axes=[1])(kl.Reshape((-1, height * channels))(x)))
    return keras.Model(inputs, x), inputs.shape[1:]


@pytest.mark.parametrize("seed", range(24))
def test_random_models_on_images(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    model, shape = draw(rng)
    for weight in model.weights:
        value = rng.standard_normal(weight.shape) * 0.4
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.name else value)
    source: Any = model
    if seed % 2:
        model.save(tmp_path / "model.keras")
        source = tmp_path / "model.keras"
    x = rng.standard_normal((N, *shape)).astype(np.float32)
    read = rc.from_keras(source)
    y, _ = read(x.reshape(N, shape[0], -1))
    np.testing.assert_allclose(y, model(x, training=False).detach().cpu().numpy(), rtol=1e-5, atol=1e-5)


def test_other_layers_refuse_images() -> None:
    inputs = keras.Input((W, H, C))
    for made in (
        kl.LayerNormalization(),
        kl.Dense(2),
        kl.Conv2D(2, 2, data_format="channels_first"),
    ):
        with pytest.raises(rc.ModelFormatError, match=r"layer .*got "):
            rc.from_keras(keras.Model(inputs, made(inputs)))
    with pytest.raises(rc.ModelFormatError, match="expected the same steps"):
        rc.from_keras(keras.Model(inputs, kl.Reshape((H, W * C))(inputs)))
