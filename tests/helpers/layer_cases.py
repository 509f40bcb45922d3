"""Every non-recurrent layer by name, and decoders with attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import recurra as rc
from array_types import Array

ACTIVATIONS = ["relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "silu", "softplus", "softmax"]
FUNCTIONS = ["sqrt", "square", "exp", "log", "abs"]
SHAPED = ["hard_sigmoid", "hard_swish", "hard_tanh", "relu6", "selu", "softsign", "mish"]

#: Layers that need more than one step, except causal ones.
WHOLE = (
    "Conv1d",
    "ConvTranspose1d",
    "GroupNorm",
    "InstanceNorm1d",
    "Conv2d columns",
    "MaxPool1d",
    "AvgPool1d",
    "MaxPool2d columns",
    "AvgPool2d columns",
    "Pool",
    "Att",
)


def image(features: int) -> tuple[int, int]:
    """Channels and places of as many features."""
    return (features // 2, 2) if features % 2 == 0 else (1, features)


#: By name: a function of the number of features that returns a layer.
LAYERS: dict[str, Callable[[int, str], Any]] = {
    "Conv1d causal": lambda size, dtype: rc.Conv1d(size, 5, 3, dilation=2, dtype=dtype, seed=0),
    "Conv1d same": lambda size, dtype: rc.Conv1d(size, 5, 4, padding="same", dtype=dtype, seed=0),
    "Conv1d valid": lambda size, dtype: rc.Conv1d(size, 5, 2, stride=2, padding="valid", dtype=dtype, seed=0),
    "Conv1d groups causal": lambda size, dtype: rc.Conv1d(size, 2 * size, 3, groups=size, dtype=dtype, seed=0),
    "ConvTranspose1d groups": lambda size, dtype: rc.ConvTranspose1d(
        size, 2 * size, 3, 2, groups=size, dtype=dtype, seed=0
    ),
    "ConvTranspose1d": lambda size, dtype: rc.ConvTranspose1d(size, 5, 4, 3, 2, 1, dtype=dtype, seed=0),
    "GroupNorm": lambda size, dtype: rc.GroupNorm(image(size)[1], size, dtype=dtype),
    "Conv2d columns": lambda size, dtype: rc.Conv2d(
        *(image(size)[0], 3, (2, 3), 1, (2, 1)), height=image(size)[1], dilation=(2, 1), dtype=dtype, seed=0
    ),
    "Conv2d columns causal": lambda size, dtype: rc.Conv2d(
        *(image(size)[0], 3, 3, (2, 1), ("same", "causal"), (1, 2)), height=image(size)[1], dtype=dtype, seed=0
    ),
    "Conv2d images": lambda size, dtype: rc.Conv2d(
        *(image(size)[0], 3, (1, 3), (1, 2), (0, 1)), height=1, width=image(size)[1], dtype=dtype, seed=0
    ),
    "AvgPool2d columns": lambda size, dtype: rc.AvgPool2d(
        3, 2, 1, channels=image(size)[0], height=image(size)[1], dtype=dtype
    ),
    "MaxPool2d columns causal": lambda size, dtype: rc.MaxPool2d(
        *((2, 3), 1, ("same", "causal")), channels=image(size)[0], height=image(size)[1], dtype=dtype
    ),
    "BatchNorm2d": lambda size, dtype: rc.BatchNorm2d(image(size)[0], dtype=dtype),
    "LayerNorm": lambda size, dtype: rc.LayerNorm(size, dtype=dtype),
    "LayerNorm plain": lambda size, dtype: rc.LayerNorm(size, affine=False, dtype=dtype),
    "BatchNorm": lambda size, dtype: rc.BatchNorm(size, dtype=dtype),
    "Permute": lambda size, dtype: rc.Permute((*image(size), 1), (2, 1, 0), dtype=dtype),
    "PReLU channels": lambda size, dtype: rc.PReLU(image(size)[0], dtype=dtype),
    "CRF": lambda size, dtype: rc.CRF(size, dtype=dtype, seed=0),
    "BatchNorm plain": lambda size, dtype: rc.BatchNorm(size, affine=False, dtype=dtype),
    "MaxPool1d valid": lambda _size, dtype: rc.MaxPool1d(3, dtype=dtype),
    "MaxPool1d same": lambda _size, dtype: rc.MaxPool1d(4, 1, "same", dtype=dtype),
    "MaxPool1d causal": lambda size, dtype: rc.MaxPool1d(5, 1, "causal", features=size, dtype=dtype),
    "AvgPool1d overlapping": lambda _size, dtype: rc.AvgPool1d(3, 2, "same", dtype=dtype),
    "AvgPool1d unknown": lambda _size, dtype: rc.AvgPool1d(3, 1, "causal", dtype=dtype),
    "AvgPool1d causal": lambda size, dtype: rc.AvgPool1d(3, 1, "causal", features=size, dtype=dtype),
    "Slice": lambda size, dtype: rc.Slice(size // 3, size, 2, dtype=dtype),
    "AttentionPool": lambda size, dtype: rc.AttentionPool(size, 7, dtype=dtype, seed=0),
    **{f"Pool {mode}": lambda _size, dtype, mode=mode: rc.Pool(mode, dtype=dtype) for mode in ("last", "mean", "max")},  # type: ignore[misc]
    **{
        name: lambda _size, dtype, name=name: rc.Activation(name, dtype=dtype)
        for name in ACTIVATIONS + FUNCTIONS + SHAPED
    },  # type: ignore[misc]
}
STREAMED = [name for name in LAYERS if name.endswith("causal") or not name.startswith(WHOLE)]
POINTWISE = [name for name in STREAMED if not name.endswith("causal")]
NAMES = list(LAYERS)


def make(name: str, size: int, dtype: str) -> Any:
    """A layer with parameters and buffers other than its initial ones."""
    layer = LAYERS[name](size, dtype)
    rng = np.random.default_rng(5)
    drawn = {key: 1.0 + 0.3 * rng.standard_normal(array.shape) for key, array in layer.state_dict().items()}
    layer.load_state_dict({key: np.abs(array).astype(dtype) for key, array in drawn.items()})
    return layer


def draw(name: str, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Normally distributed numbers; positive ones for functions defined only there."""
    x = np.random.default_rng(seed).standard_normal(shape)
    return np.abs(x) + 0.5 if name in ("sqrt", "log") else x


def decoder(cell: str, kind: str, hidden: int, dtype: str, **options: Any) -> Any:
    """`kind`: a score, followed by "unfed" without input feeding."""
    score, *unfed = kind.split()
    memory = hidden if "dot" in score else 4
    size = {"attention_size": hidden + 1} if score == "additive" else {}
    options = {**size, "input_feeding": not unfed, "seed": 0, **options}
    return rc.AttentionDecoder(3, hidden, memory, cell=cell, attention=score, dtype=dtype, **options)
