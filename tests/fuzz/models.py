"""Random models and batches for them: all layers and options, both dtypes, ragged, with resets, in chains and
graphs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

import recurra as rc

Array = npt.NDArray[Any]
Generator = np.random.Generator
SIZES = [1, 2, 3, 5, 8, 13, 16, 17, 33, 40]
TOKENS = 11


def flat(value: Any) -> list[Array]:
    """The arrays in tuples and lists, None left out."""
    if isinstance(value, list | tuple):
        return [array for part in value for array in flat(part)]
    return [] if value is None else [value]


class Doubled(rc.PythonLayer):
    """A layer written in Python."""

    stateless = True

    def forward(self, x: Array, *, lengths: Array | None, training: bool, rng: Generator) -> tuple[Array, Any]:
        """2 x."""
        return x + x, None

    def backward(self, dy: Array, saved: Any) -> Array:
        """2 dy."""
        return dy + dy


@dataclass(frozen=True)
class Batch:
    """What a call takes."""

    x: Array
    state: Any
    lengths: Array | None
    reset: Array | None
    training: bool

    @property
    def rows(self) -> int:
        return len(self.x)

    def take(self, rows: Array) -> tuple[Any, ...]:
        """The arguments of a call with these rows."""

        def of(state: Any) -> Any:
            if state is None or isinstance(state, np.ndarray):
                return None if state is None else state[:, rows]
            return type(state)(of(part) for part in state)

        parts = (self.lengths, self.reset)
        return (self.x[rows], of(self.state), *(None if part is None else part[rows] for part in parts))

    def padded(self, steps: int) -> tuple[Any, ...] | None:
        """The same with more padding, of NaN; None where there is none."""
        if self.lengths is None:
            return None
        widths = [(0, 0), (0, steps), *[(0, 0)] * (self.x.ndim - 2)]
        x = np.pad(self.x, widths, constant_values=np.nan if self.x.dtype.kind == "f" else -5)
        reset = None if self.reset is None else np.pad(self.reset, ((0, 0), (0, steps)), constant_values=True)
        return (x, self.state, self.lengths, reset)

    def __str__(self) -> str:
        lengths = None if self.lengths is None else self.lengths.tolist()
        return (
            f"{self.x.shape} {self.x.dtype}, lengths {lengths}, reset {self.reset is not None}, state "
            f"{self.state is not None}, training {self.training}"
        )


def draw(rng: Generator) -> tuple[Any, Batch]:
    """A model and a batch for it, with which every option that is given works."""
    dtype = "float32" if rng.random() < 0.6 else "float64"
    tokens = rng.random() < 0.3
    features = int(rng.choice(SIZES))
    layers: list[Any] = []
    if tokens:
        layers.append(rc.Embedding(TOKENS, features, dtype=dtype))
    width = features
    resets = rng.random() < 0.4
    for _ in range(rng.integers(1, 5)):
        made = _layer(rng, width, dtype, resets)
        layers.append(made)
        width = width if isinstance(made, Doubled) else made.output_features(width)
        if not made.return_sequences:
            if rng.random() < 0.5:
                layers.append(rc.Linear(width, 3, dtype=dtype))
                width = 3
            break
    seed = int(rng.integers(1 << 30))
    graph = not tokens and rng.random() < 0.3
    model = _branches(layers, features, width, dtype, seed) if graph else rc.Sequential(*layers, seed=seed)
    return model, _batch(rng, model, features, dtype, tokens, resets)


def _branches(layers: list[Any], features: int, width: int, dtype: str, seed: int) -> Any:
    """The chain beside a linear layer on the same input, added where both have a time axis."""
    x = rc.Input(features=features)
    y = x
    for layer in layers:
        y = layer(y)
    lengths = np.array([4])
    last = y
    for layer in layers:
        lengths = layer.output_lengths(lengths) if lengths is not None else None
    if lengths is not None and lengths.tolist() == [4] and not any(type(layer) is rc.Reverse for layer in layers):
        last = y + rc.Linear(features, width, dtype=dtype)(x)
    return rc.Model(x, last, seed=seed)


def _layer(rng: Generator, width: int, dtype: str, resets: bool) -> Any:
    makers = [_recurrent, _recurrent, _recurrent, _plain, _plain, _over_time]
    return makers[rng.integers(len(makers))](rng, width, dtype, resets)


def _recurrent(rng: Generator, width: int, dtype: str, resets: bool) -> Any:
    hidden = int(rng.choice(SIZES))
    options: dict[str, Any] = {"dtype": dtype, "num_layers": int(rng.integers(1, 3))}
    options["bidirectional"] = bool(rng.random() < 0.3)
    options["return_sequences"] = bool(rng.random() < 0.85)
    options["bias"] = bool(rng.random() < 0.8)
    kind = rng.integers(5)
    if kind >= 3:
        return (rc.MinGRU, rc.MinLSTM)[kind - 3](width, hidden, **options)
    for name in ("input_dropout", "recurrent_dropout", "zoneout"):
        options |= {name: 0.25} if rng.random() < 0.15 else {}
    options |= {"layer_norm": True} if rng.random() < 0.15 else {}
    if options["num_layers"] > 1 and rng.random() < 0.3:
        options["dropout"] = 0.3
    if kind == 0:
        return rc.RNN(width, hidden, nonlinearity=str(rng.choice(["tanh", "relu", "sigmoid"])), **options)
    if kind == 1:
        return rc.GRU(width, hidden, reset_after=bool(rng.random() < 0.5 or options.get("layer_norm")), **options)
    options |= {"peepholes": True} if rng.random() < 0.2 else {}
    options |= {"cell_clip": 0.5} if rng.random() < 0.2 else {}
    options |= {"zoneout_cell": 0.2} if rng.random() < 0.1 else {}
    options |= {"proj_size": int(rng.integers(1, hidden))} if hidden > 1 and rng.random() < 0.25 else {}
    return rc.LSTM(width, hidden, **options)


def _channels(rng: Generator, width: int) -> int:
    """A divisor of the features."""
    return int(rng.choice([one for one in range(1, width + 1) if width % one == 0]))


def _plain(rng: Generator, width: int, dtype: str, resets: bool) -> Any:
    kind = rng.integers(9)
    if kind == 7:
        return rc.PReLU(_channels(rng, width), dtype=dtype)
    if kind == 8:
        return rc.BatchNorm2d(_channels(rng, width), dtype=dtype)
    if kind == 0:
        return rc.Linear(width, int(rng.choice(SIZES)), bias=bool(rng.random() < 0.8), dtype=dtype)
    if kind == 1:
        return rc.Dropout(0.3, dtype=dtype)
    if kind == 2:
        names = ["relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "silu", "softplus", "softmax"]
        return rc.Activation(str(rng.choice(names)), dtype=dtype)
    if kind == 3:
        return rc.LayerNorm(width, affine=bool(rng.random() < 0.8), dtype=dtype)
    if kind == 4:
        return rc.BatchNorm(width, dtype=dtype)
    return rc.CRF(width, dtype=dtype) if kind == 5 else Doubled()


def _over_time(rng: Generator, width: int, dtype: str, resets: bool) -> Any:
    kind = rng.integers(11)
    if kind in (8, 9):
        return _images(rng, width, dtype, resets)
    if kind == 10 and not resets:
        if rng.random() < 0.5:
            return rc.GroupNorm(1, _channels(rng, width), dtype=dtype)
        return rc.ConvTranspose1d(
            width, int(rng.choice(SIZES)), int(rng.integers(1, 4)), int(rng.integers(1, 3)), dtype=dtype
        )
    if kind == 6:
        kernel, padding = int(rng.integers(1, 4)), "causal" if resets else str(rng.choice(["causal", "same", "valid"]))
        made = rc.AvgPool1d if rng.random() < 0.5 else rc.MaxPool1d
        return made(kernel, int(rng.integers(1, 3)) if not resets else 1, padding, features=width, dtype=dtype)
    if kind == 7:
        return rc.Slice(0, int(rng.integers(1, width + 1)), dtype=dtype)
    if kind == 0:
        return rc.Pool(str(rng.choice(["last", "mean", "max"])), dtype=dtype)
    if kind == 1:
        return rc.AttentionPool(width, int(rng.choice(SIZES)), dtype=dtype)
    if kind == 2:
        return rc.Reverse(dtype=dtype)
    if kind == 3 and not resets:
        padding, stride = str(rng.choice(["same", "valid", "causal"])), int(rng.integers(1, 3))
        return rc.Conv1d(
            width, int(rng.choice(SIZES)), int(rng.integers(1, 4)), stride=stride, padding=padding, dtype=dtype
        )
    return rc.Conv1d(
        width, int(rng.choice(SIZES)), int(rng.integers(1, 4)), dilation=int(rng.integers(1, 3)), dtype=dtype
    )


def _images(rng: Generator, width: int, dtype: str, resets: bool) -> Any:
    """Windows of images: columns as steps, which keep their number if there are resets, or images in the steps."""
    channels = _channels(rng, width)
    tall, wide = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    if rng.random() < 0.4:
        size = {"height": 1, "width": width // channels}
        return rc.Conv2d(channels, 2, (1, wide), padding=(0, wide - 1), **size, dtype=dtype)
    size = {"height": width // channels}
    padding: Any = "causal" if resets else str(rng.choice(["same", "causal"]))
    stride = 1 if resets else int(rng.integers(1, 3))
    if rng.random() < 0.5:
        return rc.Conv2d(channels, 2, (tall, wide), (1, stride), (tall - 1, padding), **size, dtype=dtype)
    pool = rc.MaxPool2d if rng.random() < 0.5 else rc.AvgPool2d
    return pool((tall, wide), (1, stride), (tall - 1, padding), channels=channels, **size, dtype=dtype)


def _batch(rng: Generator, model: Any, features: int, dtype: str, tokens: bool, resets: bool) -> Batch:
    rows, steps = int(rng.choice([1, 2, 3, 5, 8, 9, 17])), int(rng.choice([1, 2, 5, 12, 30]))
    if tokens:
        x: Array = rng.integers(0, TOKENS, (rows, steps))
    else:
        x = rng.standard_normal((rows, steps, features)).astype(dtype)
    lengths = None
    if rng.random() < 0.6:
        lengths = rng.integers(0, steps + 1, rows)
        x[np.arange(steps) >= lengths[:, None]] = -9 if tokens else np.nan
    reset = rng.random((rows, steps)) < 0.25 if resets else None
    batch = Batch(x, None, lengths, reset, bool(rng.random() < 0.5))
    if rng.random() < 0.4:  # as a call leaves it
        before = (
            rng.integers(0, TOKENS, (rows, 3)) if tokens else rng.standard_normal((rows, 3, features)).astype(dtype)
        )
        batch = replace(batch, state=model(before)[1])
    return batch
