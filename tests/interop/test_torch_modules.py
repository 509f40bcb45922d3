"""Whole modules of torch.nn become models here, and models here modules there: outputs, states and gradients agree."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import recurra as rc

Rng = np.random.Generator
N, T = 3, 11

ACTIVATIONS: list[Callable[[], nn.Module]] = [
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.Identity),
    lambda: nn.Dropout(0.3),
]


def activation(rng: Rng) -> nn.Module:
    return ACTIVATIONS[rng.integers(len(ACTIVATIONS))]()


def recurrent(rng: Rng, features: int) -> tuple[nn.Module, int]:
    units, layers, both = int(rng.integers(2, 6)), int(rng.integers(1, 3)), bool(rng.integers(2))
    cls: Any = [nn.RNN, nn.LSTM, nn.GRU][rng.integers(3)]
    options: dict[str, Any] = {"nonlinearity": "relu"} if cls is nn.RNN and rng.random() < 0.5 else {}
    if cls is nn.LSTM and rng.random() < 0.5:
        options["proj_size"] = units - 1
    flags = {"bias": bool(rng.integers(2)), "bidirectional": both, "batch_first": True}
    return cls(features, units, layers, **flags, **options), 0


def stepwise(rng: Rng, features: int) -> tuple[list[nn.Module], int]:
    """Modules that keep the steps, for values with their features last."""
    found: list[nn.Module] = []
    for _ in range(rng.integers(0, 4)):
        kind = rng.integers(4)
        if kind == 0:
            outputs = int(rng.integers(1, 7))
            found.append(nn.Linear(features, outputs, bias=bool(rng.integers(2))))
            features = outputs
        elif kind == 1:
            found.append(nn.LayerNorm(features, elementwise_affine=bool(rng.integers(2))))
        elif kind == 2:
            found.append(activation(rng))
        else:
            found.append(nn.Sequential(activation(rng), nn.Softmax(-1)))
    return found, features


def windowed(rng: Rng, channels: int, steps: int) -> tuple[list[nn.Module], int, int]:
    """Modules for values with their steps last."""
    found: list[nn.Module] = []
    for _ in range(rng.integers(1, 4)):
        kind = rng.integers(4)
        if kind < 2:
            outputs, kernel, dilation = (int(rng.integers(low, high)) for low, high in ((1, 6), (1, 4), (1, 3)))
            padding: Any = [0, "same", "valid", (kernel - 1) * dilation // 2][rng.integers(4)]
            if isinstance(padding, int) and 2 * padding != (kernel - 1) * dilation:
                padding = 0
            stride = 1 if padding == "same" else int(rng.integers(1, 3))
            groups = int(rng.choice([one for one in (1, 2, 3) if channels % one == 0 and outputs % one == 0]))
            options = {"groups": groups, "bias": bool(rng.integers(2))}
            conv = nn.Conv1d(channels, outputs, kernel, stride, padding, dilation, **options)
            lost = 0 if padding == "same" else (kernel - 1) * dilation - 2 * (padding if padding != "valid" else 0)
            if steps - lost < 3:
                continue
            found.append(conv)
            channels, steps = outputs, (steps - lost - 1) // stride + 1
        elif kind == 2:
            found += [nn.BatchNorm1d(channels, affine=bool(rng.integers(2))), activation(rng), nn.Softmax(1)]
        elif steps >= 5:
            pool: Any = [nn.MaxPool1d, nn.AvgPool1d][rng.integers(2)]
            if rng.random() < 0.5:
                options = {} if pool is nn.MaxPool1d else {"count_include_pad": False}
                found.append(pool(3, 1, 1, **options))
            else:
                found.append(pool(2))
                steps //= 2
    return found, channels, steps


def draw(rng: Rng) -> tuple[nn.Module, torch.Tensor, bool]:
    """A module, its input, and whether that has its steps last."""
    kind, features = rng.integers(4), int(rng.integers(1, 6))
    if kind == 0:  # a tagger
        before, size = stepwise(rng, features)
        parts: list[nn.Module] = [nn.Embedding(9, features, padding_idx=None), *before]
        if rng.random() < 0.5:
            parts.append(recurrent(rng, size)[0])
        return nn.Sequential(*parts), torch.from_numpy(rng.integers(0, 9, (N, T))), False
    if kind == 1:
        before, size = stepwise(rng, features)
        return nn.Sequential(*before, recurrent(rng, size)[0]), torch.randn(N, T, features), False
    if kind == 2:  # vectors
        before, size = stepwise(rng, features)
        after: list[nn.Module] = [nn.Linear(features, features), nn.BatchNorm1d(features), nn.Flatten(), *before]
        return nn.Sequential(*after), torch.randn(N, features), False
    before, size, steps = windowed(rng, features, T)
    ends: list[list[nn.Module]] = [
        [],
        [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(size, 3)],
        [nn.AdaptiveMaxPool1d(1), nn.Flatten(1), activation(rng)],
        [nn.Flatten(), activation(rng), nn.Linear(size * steps, 4), nn.Tanh()],
    ]
    end = ends[rng.integers(4)]
    return (
        nn.Sequential(nn.Sequential(*before), *end) if before else nn.Sequential(nn.ReLU(), *end),
        torch.randn(N, features, T),
        True,
    )


def settle(module: nn.Module) -> nn.Module:
    """Statistics and gains that are not the first ones; in the mode of inference, so that nothing is random."""
    with torch.no_grad():
        for inner in module.modules():
            if isinstance(inner, nn.BatchNorm1d | nn.BatchNorm2d):
                inner.running_mean.normal_()
                inner.running_var.uniform_(0.5, 2.0)
            if (
                isinstance(inner, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm)
                and inner.weight is not None
            ):
                inner.weight.normal_()
    return module.eval()


def first(y: Any) -> Any:
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("seed", range(60))
def test_random_modules_there_and_back(seed: int) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    module, x, last = draw(rng)
    settle(module)
    model = rc.from_torch(module)
    learns = x.dtype == torch.float32
    x.requires_grad_(learns)
    y = first(module(x))
    dy = torch.randn(y.shape)
    (y * dy).sum().backward() if y.requires_grad else None

    def here(array: torch.Tensor) -> Any:
        turn = last and array.ndim == 3
        return (array.transpose(1, 2) if turn else array).detach().contiguous().numpy()

    tape = model.record(here(x), training=False)
    np.testing.assert_allclose(tape.y, here(y), rtol=1e-5, atol=1e-5)
    dx, _ = tape.backward(here(dy))
    if learns and x.grad is not None:
        np.testing.assert_allclose(dx, here(x.grad), rtol=1e-4, atol=1e-5)

    back = model.to_torch()
    x2 = torch.from_numpy(here(x)).requires_grad_(learns)
    y2 = first(back(x2))
    np.testing.assert_allclose(y2.detach().numpy(), here(y), rtol=1e-5, atol=1e-5)
    if y2.requires_grad:
        (y2 * torch.from_numpy(here(dy))).sum().backward()
    if learns and x.grad is not None:
        np.testing.assert_allclose(x2.grad.numpy(), here(x.grad), rtol=1e-4, atol=1e-5)
    for name, parameter in back.named_parameters():
        np.testing.assert_allclose(model.grads[name], parameter.grad.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)
    again = rc.from_torch(back) if isinstance(model, rc.Sequential) else model
    np.testing.assert_array_equal(again(here(x))[0], model(here(x))[0])


def images(rng: Rng, height: int, width: int) -> tuple[list[nn.Module], int, int, int]:
    """Modules on images, and their output's channels, height and width."""
    channels, found = 2, list[nn.Module]()
    for _ in range(rng.integers(2, 5)):
        kind = rng.integers(3)
        kernel, padding = (tuple(int(n) for n in rng.integers(low, high, 2)) for low, high in ((1, 4), (0, 2)))
        stride = tuple(int(n) for n in rng.integers(1, 3, 2))
        padding = tuple(min(zeros, size // 2) for zeros, size in zip(padding, kernel, strict=True))
        made = [(n + 2 * p - k) // s + 1 for n, k, p, s in zip((height, width), kernel, padding, stride, strict=True)]
        if kind == 2 or min(made) < 2:
            more: list[Any] = [nn.BatchNorm2d, nn.PReLU, lambda n: nn.GroupNorm(n, n), lambda _n: nn.Hardswish()]
            found.append(more[rng.integers(4)](channels))
            continue
        if kind == 0 or not found:
            outputs = int(rng.integers(1, 6))
            found += [
                nn.Conv2d(channels, outputs, kernel, stride, padding, bias=bool(rng.integers(2))),
                activation(rng),
            ]
            channels = outputs
        elif rng.integers(2):
            found.append(nn.MaxPool2d(kernel, stride, padding))
        else:
            found.append(nn.AvgPool2d(kernel, stride, padding, count_include_pad=False))
        height, width = made
    return [nn.BatchNorm2d(2), *found], channels, height, width


@pytest.mark.parametrize("seed", range(20))
def test_random_modules_on_images(seed: int) -> None:
    """Columns as steps, and images in vectors; channels are last here."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    whole = bool(seed % 2)
    before, channels, height, width = images(rng, 9, 11)
    ends: list[list[nn.Module]] = [[nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)]]
    if whole:
        ends.append([nn.Flatten(), nn.Linear(channels * height * width, 3)])
    else:
        ends.append([nn.Flatten(1, 2), nn.Conv1d(channels * height, 3, 2), nn.AdaptiveMaxPool1d(1), nn.Flatten()])
        ends.append([nn.AdaptiveMaxPool2d((1, None)), nn.Flatten(1, 2), nn.AdaptiveMaxPool1d(1), nn.Flatten()])
    module = settle(nn.Sequential(*before, *ends[seed // 2 % len(ends)]))
    x = torch.randn(N, 2, 9, 11, requires_grad=True)
    model: Any = rc.from_torch(module, height=9, width=11 if whole else None)
    here = x.permute(0, 2, 3, 1).flatten(1) if whole else x.permute(0, 3, 2, 1).flatten(2)
    y = module(x)
    dy = torch.randn(y.shape)
    (y * dy).sum().backward()
    tape = model.record(here.detach().numpy(), training=False)
    np.testing.assert_allclose(tape.y, y.detach().numpy(), rtol=1e-5, atol=1e-5)
    dx, _ = tape.backward(dy.numpy())
    assert x.grad is not None
    grad = x.grad.permute(0, 2, 3, 1).flatten(1) if whole else x.grad.permute(0, 3, 2, 1).flatten(2)
    np.testing.assert_allclose(dx, grad.numpy(), rtol=1e-4, atol=1e-5)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        if name in model.grads:  # behind a Permute numbers of layers differ
            np.testing.assert_allclose(model.grads[name], parameter.grad.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)
    back = model.to_torch()
    np.testing.assert_allclose(back(here.detach()).detach().numpy(), y.detach().numpy(), rtol=1e-5, atol=1e-5)


class Reader(nn.Module):
    """A CRNN: it reads the columns of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.pool = nn.MaxPool2d((2, 2), (2, 1), (0, 1))
        self.lstm = nn.LSTM(6 * 4, 5, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pool(torch.relu(self.norm(self.conv(x))))
        y = y.flatten(1, 2).transpose(1, 2)
        found: torch.Tensor = self.linear(self.lstm(y)[0])
        return found


def test_a_reader_of_columns_is_put_together_by_hand() -> None:
    torch.manual_seed(0)
    module = settle(Reader())
    layers = rc.interop.torch_layers(module, options={"conv": {"height": 8}, "pool": {"height": 8, "channels": 6}})
    turn = rc.Permute((4, 6), (1, 0))  # its LSTM has learnt from channels first
    order = ("conv", "norm", "pool", "lstm", "linear")
    parts = {name: layers[name] for name in order}
    model = rc.Sequential(
        parts["conv"], parts["norm"], rc.Activation("relu"), parts["pool"], turn, parts["lstm"], parts["linear"]
    )
    x = torch.randn(N, 1, 8, 15)
    y, _ = model(x[:, 0].transpose(1, 2).contiguous().numpy())
    np.testing.assert_allclose(y, module(x).detach().numpy(), atol=2e-6)
    parameters = rc.interop.torch_layers(module.state_dict(), options={"conv": {"height": 8, "padding": 1}})
    np.testing.assert_array_equal(parameters["conv"].params["weight"], layers["conv"].params["weight"])


@pytest.mark.parametrize(
    "made", [nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.ReLU6, nn.SELU, nn.Softsign, nn.Mish, nn.PReLU]
)
def test_other_activations(made: Any) -> None:
    module, x = nn.Sequential(nn.Linear(3, 4), made()), 3 * torch.randn(N, T, 3)
    model = rc.from_torch(module)
    np.testing.assert_allclose(model(x.numpy())[0], module(x).detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(model.to_torch()(x).detach().numpy(), module(x).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("cls", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
@pytest.mark.parametrize("bias", [True, False])
def test_cells_become_layers(cls: Any, bias: bool) -> None:
    torch.manual_seed(0)
    cell, x = cls(3, 5, bias=bias), torch.randn(N, T, 3)
    layer = rc.from_torch(cell)
    state: Any = None
    for step in range(T):
        state = cell(x[:, step], state)
    for got, want in zip(rc_parts(layer(x.numpy())[1]), state if isinstance(state, tuple) else (state,), strict=True):
        np.testing.assert_allclose(got[0], want.detach().numpy(), atol=1e-6)
    stream = layer.stream(N)
    for step in range(T):
        y = stream.step(x[:, step].numpy())
    np.testing.assert_allclose(y, first(state).detach().numpy(), atol=1e-6)


def rc_parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


class Encoder(nn.Module):
    """A forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3)
        self.lstm = nn.LSTM(4, 5, 2, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(10, 2)
        self.image = nn.Conv2d(1, 1, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        causal = self.conv(nn.functional.pad(x, (2, 0)))
        y: torch.Tensor = self.linear(self.lstm(causal.transpose(1, 2))[0])
        return y


@pytest.mark.parametrize("form", ["module", "state_dict", "safetensors"])
def test_a_model_with_a_forward_of_its_own_is_put_together_by_hand(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Encoder(), torch.randn(N, 3, T)
    source: Any = module if form == "module" else module.state_dict()
    if form == "safetensors":
        source = tmp_path / "encoder.safetensors"
        safetensors.torch.save_file(module.state_dict(), source)
    with pytest.raises((TypeError, ValueError), match=r"(?s)^from_torch.*rc\.interop\.torch_layers.*layers\['conv'\]"):
        rc.from_torch(source)
    layers = rc.interop.torch_layers(source, options={"conv": {"padding": "causal"}})
    assert set(layers) == {"conv", "lstm", "linear"}
    with pytest.raises(KeyError, match="image"):
        layers["image"]
    model = rc.Sequential(layers["conv"], layers["lstm"], layers["linear"])
    np.testing.assert_allclose(model(x.transpose(1, 2).numpy())[0], module(x).detach().numpy(), atol=1e-6)


def test_one_layer_of_a_state_dict_is_that_layer() -> None:
    for module in (nn.LSTM(3, 5, 2, proj_size=2), nn.GRU(3, 4, bias=False), nn.Linear(2, 3), nn.GRUCell(2, 3)):
        layer = rc.from_torch(module.state_dict())
        for got, want in zip(layer.params.values(), module.parameters(), strict=True):
            np.testing.assert_array_equal(got, want.detach().numpy())


def test_frozen_parameters_stay_frozen() -> None:
    module = nn.Sequential(nn.Embedding.from_pretrained(torch.randn(4, 3)), nn.Linear(3, 2))
    model = rc.from_torch(module)
    assert [layer.trainable for layer in model.layers] == [False, True]
    assert [one.requires_grad for one in model.to_torch().parameters()] == [False, True, True]


def test_old_weight_norm_gives_the_weights_of_now() -> None:
    with pytest.warns(FutureWarning):
        conv = nn.utils.weight_norm(nn.Conv1d(2, 3, 3))
    with torch.no_grad():
        conv.weight_g.mul_(2.0)
    model, x = rc.from_torch(nn.Sequential(conv)), torch.randn(1, 2, 7)
    np.testing.assert_allclose(model(x.transpose(1, 2).numpy())[0], conv(x).transpose(1, 2).detach().numpy(), atol=1e-6)
    parametrised = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    v = torch.randn(1, 3)
    np.testing.assert_allclose(rc.from_torch(parametrised)(v.numpy())[0], parametrised(v).detach().numpy(), atol=1e-6)


def traced(module: nn.Module, x: torch.Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, whose modules people have
        return torch.jit.trace(module, x)  # type: ignore[no-untyped-call]


REFUSED: dict[str, Callable[[], Any]] = {
    "height=32": lambda: nn.Conv2d(1, 1, 3),
    "LocalResponseNorm": lambda: nn.Sequential(nn.Conv1d(2, 2, 1), nn.LocalResponseNorm(2)),
    "GroupNorm.*features are last": lambda: nn.Sequential(nn.LayerNorm(2), nn.GroupNorm(1, 2)),
    "padding=2": lambda: nn.Conv1d(2, 2, 3, padding=2),
    "padding_mode='circular'": lambda: nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular"),
    "negative_slope": lambda: nn.LeakyReLU(0.3),
    "ceil_mode": lambda: nn.MaxPool1d(2, ceil_mode=True),
    "count_include_pad": lambda: nn.AvgPool1d(3, 1, 1),
    "steps are last": lambda: nn.Sequential(nn.Conv1d(2, 2, 1), nn.Linear(5, 2)),
    "features are last": lambda: nn.Sequential(nn.Linear(5, 2), nn.Conv1d(2, 2, 1)),
    "pair of outputs": lambda: nn.Sequential(nn.LSTM(2, 2), nn.Linear(2, 2)),
    "behind it": lambda: nn.Sequential(nn.Conv1d(2, 2, 1), nn.Flatten()),
    "no module that tells": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 2)),
    "forward of its own": lambda: traced(nn.Linear(2, 2), torch.zeros(1, 2)),
    "dim=2": lambda: nn.Sequential(nn.Conv1d(2, 2, 1), nn.Softmax(2)),
    "max_norm": lambda: nn.Embedding(3, 2, max_norm=1.0),
    "track_running_stats": lambda: nn.BatchNorm1d(3, track_running_stats=False),
    "each once": lambda: nn.Sequential(*[nn.Linear(2, 2)] * 2),
    "float16": lambda: nn.Linear(2, 2).half(),
    "float32 and float64": lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()),
    "without any layer": lambda: nn.Sequential(),
    "computes nothing": lambda: nn.Identity(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(what: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"(?s)^from_torch.*{what}"):
        rc.from_torch(REFUSED[what]())


def test_hooks_are_code() -> None:
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"^from_torch.*forward hook"):
        rc.from_torch(module)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(pickle.dumps({"a": 1}))
    torch.save({}, tmp_path / "zipped")
    for name in ("weights", "zipped", "missing.pt", "model.pth"):
        with pytest.raises(ValueError, match=r"torch\.load\(.*weights_only=True"):
            rc.from_torch(tmp_path / name)
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(rc.ModelFormatError, match="from_torch"):
        rc.from_torch(tmp_path / "damaged.safetensors")


def test_padding_idx_is_told() -> None:
    with pytest.warns(UserWarning, match="padding_idx=0"):
        rc.from_torch(nn.Embedding(3, 2, padding_idx=0))


# From here to torch: every layer, ragged, with states and gradients.

H = 4
LAYERS: dict[str, Callable[[], Any]] = {
    "rnn": lambda: rc.RNN(3, H, 2, nonlinearity="relu", bidirectional=True),
    "sigmoid rnn": lambda: rc.RNN(3, H, nonlinearity="sigmoid", bias=False),
    "lstm": lambda: rc.LSTM(3, H, 2, proj_size=2, bidirectional=True),
    "other lstm": lambda: rc.LSTM(
        3, H, activation="softsign", recurrent_activation=("hard_sigmoid", 0.2, 0.5), output_activation="relu"
    ),
    "other gru": lambda: rc.GRU(3, H, activation="relu", recurrent_activation="hard_sigmoid", reset_after=False),
    "other rnn": lambda: rc.RNN(3, H, nonlinearity=("hard_sigmoid", 0.3, 0.4)),
    "peepholes": lambda: rc.LSTM(3, H, 2, peepholes=True, proj_size=2, cell_clip=0.3, bidirectional=True),
    "gru": lambda: rc.GRU(3, H, 2, bias=False),
    "gru before": lambda: rc.GRU(3, H, 2, reset_after=False, bidirectional=True),
    "min gru": lambda: rc.MinGRU(3, H, 2, bidirectional=True),
    "min lstm": lambda: rc.MinLSTM(3, H, positive=True),
    "last": lambda: rc.GRU(3, H, bidirectional=True, return_sequences=False),
    "last before": lambda: rc.GRU(3, H, reset_after=False, return_sequences=False),
    "causal": lambda: rc.Conv1d(3, 2, 3, dilation=2),
    "same": lambda: rc.Conv1d(3, 2, 4, padding="same", stride=2),
    "valid": lambda: rc.Conv1d(3, 2, 3, padding="valid", stride=2),
    "groups": lambda: rc.Conv1d(3, 6, 3, groups=3),
    "transposed groups": lambda: rc.Sequential(rc.Conv1d(3, 4, 1), rc.ConvTranspose1d(4, 6, 3, 2, groups=2)),
    "groups of images": lambda: rc.Sequential(rc.Conv2d(1, 4, 2, height=3), rc.Conv2d(4, 4, 2, height=2, groups=4)),
    "max": lambda: rc.MaxPool1d(3, 2, "same"),
    "mean": lambda: rc.AvgPool1d(3, 1, "causal"),
    "valid mean": lambda: rc.AvgPool1d(2),
    "layer norm": lambda: rc.LayerNorm(3),
    "batch norm": lambda: rc.BatchNorm(3),
    "columns": lambda: rc.Sequential(
        rc.Conv2d(1, 4, (2, 3), padding=(0, 1), height=3), rc.MaxPool2d((2, 3), 1, (0, 1), channels=4, height=2)
    ),
    "causal columns": lambda: rc.Sequential(
        rc.Conv2d(1, 4, 3, padding=(1, "causal"), height=3, bias=False), rc.AvgPool2d(3, 2, 1, channels=4, height=3)
    ),
    "images": lambda: rc.Sequential(
        rc.Conv2d(1, 4, (1, 2), padding=(0, 1), height=1, width=3), rc.AvgPool2d(1, 2, channels=4, height=1, width=4)
    ),
    "channels": lambda: rc.Sequential(rc.Linear(3, 6), rc.BatchNorm2d(2), rc.PReLU(3), rc.GroupNorm(1, 3), rc.PReLU()),
    "instance norm": lambda: rc.InstanceNorm1d(3, affine=True),
    "transposed": lambda: rc.ConvTranspose1d(3, 2, 4, 3, 2, 1),
    "permute": lambda: rc.Sequential(rc.Linear(3, 6), rc.Permute((2, 3), (1, 0))),
    "reverse": rc.Reverse,
    "slice": lambda: rc.Slice(0, 3, 2),
    **{f"pool {mode}": lambda mode=mode: rc.Pool(mode) for mode in ("last", "mean", "max")},  # type: ignore[misc]
    "attention pool": lambda: rc.AttentionPool(3, 2),
    "repeat": lambda: rc.Sequential(rc.Pool("last"), rc.RepeatVector(3)),
    **{
        name: lambda name=name: rc.Activation(name)  # type: ignore[misc]
        for name in (
            "relu",
            "leaky_relu",
            "elu",
            "gelu",
            "silu",
            "softplus",
            "softmax",
            "square",
            "exp",
            "abs",
            "hard_sigmoid",
            "hard_swish",
            "hard_tanh",
            "relu6",
            "selu",
            "softsign",
            "mish",
        )
    },
}


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_goes_to_torch(name: str, ragged: bool) -> None:
    model = rc.Sequential(rc.Linear(3, 3), LAYERS[name](), seed=1)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((5, T, 3)).astype(np.float32)
    lengths = np.array([T, 0, 4, 7, 1]) if ragged else None
    tape = model.record(x, lengths=lengths, training=False)
    module = model.to_torch()
    given = torch.from_numpy(x).requires_grad_()
    y, state = module(given, lengths=None if lengths is None else torch.from_numpy(lengths), return_state=True)
    valid = tape.y.shape[1] if tape.y.ndim == 3 else None
    np.testing.assert_allclose(y.detach().numpy()[:, :valid], tape.y, atol=2e-6)
    for got, want in zip(state, tape.state, strict=True):
        for one, other in zip(rc_parts(got) if got is not None else (), rc_parts(want), strict=False):
            np.testing.assert_allclose(one.detach().numpy(), other, atol=2e-6)
    dy = rng.standard_normal(tape.y.shape).astype(np.float32)
    dx, _ = tape.backward(dy)
    (y[:, :valid] * torch.from_numpy(dy)).sum().backward()
    np.testing.assert_allclose(given.grad.numpy(), dx, atol=2e-5)
    assert set(model.params) == {key for key, _value in module.named_parameters()}
    for key, parameter in module.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), model.grads[key], atol=1e-4, err_msg=key)


ALONE: dict[str, Callable[[], Any]] = {
    **LAYERS,
    "linear": lambda: rc.Linear(3, 2, bias=False),
    "embedding": lambda: rc.Embedding(5, 3),
    "dropout": lambda: rc.Dropout(0.4),
    "conv2d": lambda: rc.Conv2d(1, 4, 2, height=3),
    "max2d": lambda: rc.MaxPool2d(2, channels=2, height=4),
    "avg2d": lambda: rc.AvgPool2d(2, channels=2, height=4),
    "batch norm 2d": lambda: rc.BatchNorm2d(2),
    "group norm": lambda: rc.GroupNorm(2, 4),
    "prelu": lambda: rc.PReLU(3),
    "permute alone": lambda: rc.Permute((2, 3), (1, 0)),
    "repeat alone": lambda: rc.RepeatVector(3),
    "learnt": lambda: rc.LearntVector(4),
    "additive": lambda: rc.AdditiveAttention(3, 4, 5),
    "general": lambda: rc.MultiplicativeAttention(3, 4, score="general"),
    **{
        name: getattr(rc, name)
        for name in ("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract")
    },
}
#: Layers that torch has no module for, and those that users write.
NOT_THERE = {"CRF", "AttentionDecoder", "Hopfield", "OwnCell"}


@pytest.mark.parametrize("name", ALONE)
def test_a_layer_alone_comes_back(name: str) -> None:
    """The same layer, with the parameters that the module has by then."""
    layer = ALONE[name]()
    layer.trainable = False
    module = layer.to_torch()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    back = rc.from_torch(module)
    assert type(back) is type(layer)
    assert back.config() == layer.config()
    for key, array in layer.params.items():
        np.testing.assert_array_equal(back.params[key], array + 1, err_msg=key)
    assert not layer.params or not back.trainable
    own = {key.rpartition(".")[0]: None for key in layer.params}
    assert set(rc.interop.torch_layers(module)) >= set(own)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    assert not layer.params or rc.from_torch(module).trainable
    if layer.params and not type(module).__module__.startswith("torch."):
        with pytest.raises(ValueError, match=r"float64.*float\(\)"):
            rc.from_torch(module.double())


def test_all_layers_are_among_those_that_come_back() -> None:
    classes = {name for name in dir(rc) if isinstance(getattr(rc, name), type)}
    layers = {name for name in classes if getattr(getattr(rc, name), "_built_in", None) is getattr(rc, name)}
    made = {leaf.label for make in ALONE.values() for _prefix, leaf in make().leaves}
    assert layers - made - NOT_THERE <= {"Model", "Sequential"}


def test_options_for_modules_without_parameters_are_not_left_out() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    for name, options in (("1", {"name": "tanh"}), ("2", {}), ("", {"bias": True})):
        with pytest.raises(ValueError, match=r"^torch_layers: "):
            rc.interop.torch_layers(module, options={name: options})
    convolution = rc.Conv1d(3, 2, 3, seed=0).to_torch()
    causal = rc.interop.torch_layers(nn.ModuleDict({"a": convolution}), options={"a": {"dilation": 2}})["a"]
    assert (causal.dilation, causal.padding) == (2, "causal")


def test_graphs_go_to_torch() -> None:
    """Several inputs, shared layers, states that others begin with, attention."""
    tokens, features = rc.Input(tokens=7), rc.Input(features=3)
    encoder = rc.GRU(4, H)
    memory = encoder(rc.Embedding(7, 4)(tokens))
    decoded = rc.GRU(3, H)(features, state=memory.state)
    for attention in (rc.AdditiveAttention(H, H, 3), rc.MultiplicativeAttention(H, H, score="general")):
        context = attention((decoded, memory))
        joined = rc.Concatenate()((decoded, context)) + rc.Linear(3, 2 * H)(features)
        both = rc.Bidirectional(rc.LSTM(2 * H, 2), rc.GRU(2 * H, 2), merge_mode="ave")(joined)
        model = rc.Model({"a": tokens, "b": features}, (both * both, memory), seed=4)
        rng = np.random.default_rng(0)
        x = {"a": rng.integers(0, 7, (N, 6)), "b": rng.standard_normal((N, T, 3)).astype(np.float32)}
        lengths = {"a": np.array([6, 2, 4]), "b": np.array([3, T, 0])}
        wanted, _ = model(x, lengths=lengths)
        given = {key: torch.from_numpy(one) for key, one in x.items()}
        module = model.to_torch()
        found = module(given, lengths={key: torch.from_numpy(one) for key, one in lengths.items()})
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got.detach().numpy(), want, atol=2e-6)
        back = rc.from_torch(module)
        np.testing.assert_array_equal(back(x, lengths=lengths)[0][0], wanted[0])


def test_a_state_goes_in_and_out() -> None:
    model = rc.Sequential(rc.LSTM(3, H), rc.Linear(H, 2), rc.GRU(2, H), seed=0)
    module = model.to_torch()
    x = np.random.default_rng(0).standard_normal((N, T, 3)).astype(np.float32)
    _y, state = model(x[:, :5])
    _y, there = module(torch.from_numpy(x[:, :5]), return_state=True)
    wanted, _ = model(x[:, 5:], state)
    np.testing.assert_allclose(module(torch.from_numpy(x[:, 5:]), there).detach().numpy(), wanted, atol=2e-6)


@pytest.mark.parametrize("layer", [rc.LSTM(3, 4, 2), rc.GRU(3, 4, batch_first=False), rc.Linear(3, 2), rc.LayerNorm(3)])
def test_a_layer_alone_is_the_one_of_torch(layer: Any) -> None:
    module = layer.to_torch()
    assert type(module) in (nn.LSTM, nn.GRU, nn.Linear, nn.LayerNorm)
    x = np.random.default_rng(0).standard_normal((N, T, 3)).astype(np.float32)
    np.testing.assert_allclose(first(module(torch.from_numpy(x))).detach().numpy(), layer(x)[0], atol=2e-6)


@pytest.mark.parametrize("layer", [rc.LSTM(2, 3, layer_norm=True), rc.GRU(2, 3, zoneout=0.1), rc.CRF(3)])
def test_what_torch_lacks_is_refused(layer: Any) -> None:
    with pytest.raises(ValueError, match=rf"^to_torch: got .*{layer.label}"):
        layer.to_torch()


def test_a_network_is_pickled_by_torch(tmp_path: Path) -> None:
    model = rc.Sequential(rc.LSTM(3, 4), rc.Linear(4, 2), seed=0)
    torch.save(model.to_torch(), tmp_path / "net.pt")
    module = torch.load(tmp_path / "net.pt", weights_only=False)
    x = np.zeros((1, 2, 3), np.float32)
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach().numpy(), model(x)[0], atol=1e-6)


def test_options_of_a_module_hold_beside_those_given() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.windows = nn.Conv1d(3, 4, 5, stride=2, dilation=2, padding=4)
            self.images = nn.Conv2d(1, 2, 3, stride=(2, 1), padding=1)
            self.norm = nn.BatchNorm1d(3, eps=1e-2)
            self.cell = nn.RNN(3, 4, nonlinearity="relu")

    module = Own().eval()
    options: Any = {"windows": {"bias": True}, "images": {"height": 8, "bias": True}}
    options |= {"norm": {"affine": True}, "cell": {"return_sequences": True}}
    layers = rc.interop.torch_layers(module, options=options)
    x, image = torch.randn(2, 9, 3), torch.randn(2, 1, 8, 7)
    with torch.no_grad():
        windows = module.windows(x.transpose(1, 2)).transpose(1, 2)
        images = module.images(image).permute(0, 3, 2, 1).flatten(2)
        norm, (cell, _h) = module.norm(x.transpose(1, 2)).transpose(1, 2), module.cell(x.transpose(0, 1))
    given = {"windows": x, "images": image[:, 0].transpose(1, 2), "norm": x, "cell": x}
    for name, y in {"windows": windows, "images": images, "norm": norm, "cell": cell.transpose(0, 1)}.items():
        np.testing.assert_allclose(layers[name](given[name].numpy())[0], y.numpy(), atol=2e-6)
    causal = rc.interop.torch_layers(module, options={"windows": {"padding": "causal"}})["windows"]
    assert (causal.stride, causal.dilation) == (2, 2)


@pytest.mark.parametrize("kind", [nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_dropout_that_is_not_here_is_left_out_and_told(kind: Any) -> None:
    with pytest.warns(UserWarning, match=kind.__name__):
        model = rc.from_torch(nn.Sequential(nn.Linear(3, 2), kind(0.5), nn.ReLU()))
    assert [type(one).__name__ for one in model.layers] == ["Linear", "Activation"]
