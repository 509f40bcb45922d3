"""Random models of Keras 3, on its torch backend: every layer and option that can be read, masks included."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

os.environ["KERAS_BACKEND"] = "torch"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras
    from keras import layers as kl

Rng = np.random.Generator
N, T, TOKENS = 3, 8, 9

ACTIVATIONS = [
    *("linear", "relu", "tanh", "sigmoid", "softmax", "elu", "gelu", "silu", "softplus", "exponential", "leaky_relu"),
    *("hard_sigmoid", "relu6", "selu", "softsign", "log_softmax", "mish", "hard_silu", "log_sigmoid", "hard_tanh"),
]
CELL_ACTIVATIONS = ["tanh", "tanh", "tanh", "relu", "sigmoid"]
GATE_ACTIVATIONS = ["sigmoid", "sigmoid", "sigmoid", "hard_sigmoid"]


def pick(rng: Rng, options: Any) -> Any:
    return options[rng.integers(len(options))]


def flag(rng: Rng, chance: float = 0.5) -> bool:
    return bool(rng.random() < chance)


def recurrent(rng: Rng, cells: bool, masked: bool = False, **options: Any) -> Any:
    """A layer, or cells in RNN."""
    units = int(rng.integers(2, 6))
    kind = pick(rng, ["SimpleRNN", "LSTM", "GRU"])
    own: dict[str, Any] = {"use_bias": flag(rng, 0.8)}
    if cells:
        own |= {"activation": pick(rng, CELL_ACTIVATIONS)}
        if kind != "SimpleRNN":
            own |= {"recurrent_activation": pick(rng, GATE_ACTIVATIONS)}
    if kind == "GRU":
        own["reset_after"] = flag(rng)
    if flag(rng, 0.2):
        many = [getattr(kl, f"{pick(rng, ['SimpleRNN', 'LSTM', 'GRU'])}Cell")(units) for _ in range(rng.integers(1, 3))]
        first = getattr(kl, f"{kind}Cell")(units, **own)
        return kl.RNN(first if masked or flag(rng) else [first, *many], **options)
    return getattr(kl, kind)(units, unroll=not masked and flag(rng, 0.2), dropout=0.1, **own, **options)


def step(rng: Rng, x: Any, masked: bool, cells: bool) -> Any:
    """One more layer on sequences; those that read padding only where nothing is masked."""
    kind = rng.integers(12 if masked else 19)
    features = int(x.shape[-1])
    if kind == 0:
        return kl.Dense(int(rng.integers(1, 6)), activation=pick(rng, ACTIVATIONS), use_bias=flag(rng))(x)
    if kind == 1:
        return kl.TimeDistributed(kl.Dense(3, activation=pick(rng, ACTIVATIONS)))(x)
    if kind == 2:
        return kl.BatchNormalization(center=flag(rng), scale=flag(rng))(x)
    if kind == 3:
        return kl.LayerNormalization(center=flag(rng), scale=flag(rng))(x)
    if kind == 4:
        alike = [kl.Add(), kl.Subtract(), kl.Multiply(), kl.Average(), kl.Maximum(), kl.Minimum()]
        other = kl.Dense(features)(x)
        return pick(rng, [*alike, kl.Concatenate()])([x, other])
    if kind == 5:
        single = [
            kl.ReLU(),
            kl.ReLU(max_value=1.0, negative_slope=0.1),
            kl.LeakyReLU(0.2),
            kl.ELU(0.5),
            *([] if masked else [kl.Softmax()]),
        ]
        return pick(rng, [*single, kl.Dropout(0.2), kl.Activation("swish"), kl.Rescaling(0.5, 1.0), kl.Identity()])(x)
    if kind == 6:
        return pick(rng, [kl.Attention(), kl.Attention(use_scale=True), kl.AdditiveAttention()])(
            [x, kl.Dense(features)(x)]
        )
    if kind == 7:
        return keras.Sequential([kl.Dense(4, activation="tanh"), kl.BatchNormalization()])(x)
    if kind < (12 if masked else 10):
        if flag(rng):
            mode = pick(rng, ["concat", "sum", "mul", "ave", None])
            return kl.Bidirectional(recurrent(rng, cells, masked, return_sequences=True), merge_mode=mode)(x)
        return recurrent(rng, cells, masked, return_sequences=True, go_backwards=flag(rng, 0.3) and not masked)(x)
    if kind < 15:
        padding = pick(rng, ["valid", "same", "causal"])
        stride, dilation = pick(rng, [(1, 1), (1, 2), (2, 1)])
        options = {"padding": padding, "activation": pick(rng, ACTIVATIONS), "use_bias": flag(rng)}
        if flag(rng, 0.2) and padding != "causal":
            cls = pick(rng, [kl.DepthwiseConv1D, kl.SeparableConv1D])
            sizes = (2,) if cls is kl.DepthwiseConv1D else (3, 2)
            return cls(*sizes, strides=stride, **options)(x)
        groups = 2 if features % 2 == 0 and flag(rng) else 1
        size = int(rng.integers(1, 4))
        return kl.Conv1D(4, size, strides=stride, dilation_rate=dilation, groups=groups, **options)(x)
    if kind < 17:
        return pick(rng, [kl.MaxPooling1D, kl.AveragePooling1D])(2, strides=pick(rng, [None, 1]), padding="valid")(x)
    if kind == 17:
        return pick(rng, [kl.MaxPooling1D, kl.AveragePooling1D])(3, strides=1, padding="same")(x)
    return kl.RepeatVector(4)(kl.GlobalMaxPooling1D()(x))


def end(rng: Rng, x: Any, masked: bool, cells: bool) -> Any:
    """What comes out: the sequence, or vectors, several of them or one."""
    kind = rng.integers(4 if masked else 7)
    if kind == 0:
        return x
    if kind == 1:
        return kl.GlobalAveragePooling1D()(x)
    if kind == 2:
        return recurrent(rng, cells, masked, return_state=flag(rng), go_backwards=flag(rng, 0.3))(x)
    if kind == 3:
        return kl.Bidirectional(
            recurrent(rng, cells, masked), merge_mode=pick(rng, ["concat", "sum", "mul", "ave", None])
        )(x)
    if kind == 4:
        return kl.Dense(3, activation="softmax")(kl.Dropout(0.1)(kl.Flatten()(x)))
    if kind == 5:
        return pick(rng, [x[:, -1], x[:, 0], x[..., :1], x * 2.0 - 1.0, kl.GlobalMaxPooling1D(keepdims=True)(x)])
    both = kl.Bidirectional(recurrent(rng, cells, masked, return_sequences=True, return_state=True))(x)
    if any(isinstance(one, list) for one in both):  # of stacked cells
        return both[0]
    states = [one for one in both[1:] if one.shape[-1] == both[1].shape[-1]]
    return [both[0], kl.Concatenate()(both[1:]), kl.SimpleRNN(int(both[1].shape[-1]))(x, initial_state=states[:1])]


def flat(values: Any) -> list[Any]:
    return [one for value in values for one in flat(value)] if isinstance(values, list | tuple) else [values]


def draw(rng: Rng, cells: bool) -> tuple[Any, Any, Any]:
    """A model, its input, and the mask of it that the model makes, or None."""
    masked = flag(rng)
    if flag(rng):
        inputs = keras.Input((T,))
        x: Any = kl.Embedding(TOKENS, 4, mask_zero=masked)(inputs)
        data = rng.integers(1, TOKENS, (N, T))
        padding = 0
    else:
        inputs = keras.Input((T, 3))
        padding = pick(rng, [0.0, -1.0])
        x = kl.Masking(padding)(inputs) if masked else inputs
        data = rng.standard_normal((N, T, 3)).astype(np.float32)
    valid = None
    if masked:
        valid = np.arange(T)[None] < rng.integers(1, T + 1, (N, 1)) if flag(rng) else rng.random((N, T)) < 0.7
        valid[:, 2] = True
        data[~valid] = padding
    for _ in range(rng.integers(1, 4)):
        x = step(rng, x, masked, cells)
        if isinstance(x, list | tuple):
            x = kl.Concatenate()(list(x))
        if x.shape[1] is not None and x.shape[1] < 4:
            break
    outputs = flat(end(rng, x, masked, cells))
    outputs = [kl.Activation("linear")(one) if one is inputs else one for one in outputs]
    model = keras.Model(inputs, outputs[0] if len(outputs) == 1 else outputs)
    for weight in model.weights:
        value = rng.standard_normal(weight.shape) * 0.4
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.name else value)
    return model, data, valid
