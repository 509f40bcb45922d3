"""For each layer, an equivalent torch.nn.Module, with parameters of the same names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recurra.interop.torch import steps
from recurra.interop.torch.channel_modules import ChannelPReLU, Permuted, RowGroupNorm
from recurra.interop.torch.image_steps import ImageConv2d, ImagePool2d, StepConvTranspose1d
from recurra.interop.torch.loops import RecurrentLoop, needs_loop
from recurra.layers.leaf import LeafLayer

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": lambda: nn.Softplus(threshold=50),
    "softmax": lambda: nn.Softmax(dim=-1),
    "hard_sigmoid": nn.Hardsigmoid,
    "hard_swish": nn.Hardswish,
    "hard_tanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "selu": nn.SELU,
    "softsign": nn.Softsign,
    "mish": nn.Mish,
}
_JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Average": torch.add,
    "Subtract": torch.sub,
    "Multiply": torch.mul,
    "Maximum": torch.maximum,
    "Minimum": torch.minimum,
}


class Function(nn.Module):
    """A module that applies a function of torch."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """The function of every value."""
        y: Tensor = getattr(torch, self.name)(x)
        return y


class StepConv1d(nn.Conv1d):
    """A convolution over the steps of (N, T, features), padded as in recurra's Conv1d."""

    takes_lengths = True

    def __init__(self, config: dict[str, Any], dtype: torch.dtype) -> None:
        sizes = (config["in_channels"], config["out_channels"], config["kernel_size"], config["stride"])
        super().__init__(*sizes, dilation=config["dilation"], groups=config["groups"], bias=config["bias"], dtype=dtype)
        self.around = around = (config["kernel_size"] - 1) * config["dilation"]
        self.before = {"causal": around, "same": around // 2, "valid": 0}[config["padding"]]
        self.whole = config["padding"] != "valid"

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The outputs and their lengths."""
        x = steps.cleared(x, lengths).transpose(1, 2)
        after = self.around - self.before if self.whole else 0
        y = (
            super().forward(nn.functional.pad(x, (self.before, after)))
            if x.shape[2] + self.before + after > self.around
            else x.new_zeros(x.shape[0], self.out_channels, 0)
        )
        return y.transpose(1, 2), _windows(lengths, self.stride[0], 0 if self.whole else self.around)


class StepPool1d(nn.Module):
    """The maximum or mean over windows of the steps of (N, T, features), without padding."""

    takes_lengths = True

    def __init__(self, config: dict[str, Any], mean: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.mean = config["kernel_size"], config["stride"], mean
        self.before = {"causal": self.kernel - 1, "same": (self.kernel - 1) // 2, "valid": 0}[config["padding"]]
        self.after = self.kernel - 1 - self.before if config["padding"] != "valid" else 0

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The outputs and their lengths."""
        there = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        if lengths is not None:
            there = steps.within(lengths, x.shape[1])
        sides, around = (self.before, self.after), self.kernel - 1 - self.before - self.after
        if x.shape[1] <= around:
            return x[:, :0], _windows(lengths, self.stride, around)
        there = nn.functional.pad(there, sides).unfold(1, self.kernel, self.stride)[:, :, None]
        windows = nn.functional.pad(x.transpose(1, 2), sides).transpose(1, 2).unfold(1, self.kernel, self.stride)
        zero = windows.new_zeros(())
        if self.mean:
            y = torch.where(there, windows, zero).sum(-1) / there.sum(-1).clamp(min=1)
        else:
            y = torch.where(there, windows, zero - torch.inf).amax(-1)
            y = torch.where(there.any(-1), y, zero)
        return y, _windows(lengths, self.stride, around)


def _windows(lengths: Tensor | None, stride: int, around: int) -> Tensor | None:
    if lengths is None:
        return None
    return (torch.div(lengths - 1 - around, stride, rounding_mode="floor") + 1).clamp(min=0)


class StepBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the valid steps of (N, T, features), or of vectors."""

    takes_lengths = True

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The outputs and the lengths."""
        if x.ndim == 2 or lengths is None:
            return super().forward(x.reshape(-1, x.shape[-1])).view(x.shape), lengths
        there = steps.within(lengths, x.shape[1])
        y = torch.zeros_like(x)
        y[there] = super().forward(x[there])
        return y, lengths


class ChannelBatchNorm(StepBatchNorm):
    """Batch normalisation of the channels of (..., positions * channels) over the valid steps."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The outputs and the lengths."""
        positions = x.shape[-1] // self.num_features
        split = x.reshape(x.shape[0], -1, self.num_features)
        y, _ = super().forward(split, None if lengths is None else lengths * positions)
        return y.reshape(x.shape), lengths


class StepPool(nn.Module):
    """The last valid step, or the mean or maximum over the valid steps."""

    takes_lengths = True

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        """The pooled vectors, (N, features)."""
        if self.mode == "last":
            return steps.last(x, lengths), None
        if lengths is None:
            return (x.mean(1) if self.mode == "mean" else x.amax(1)), None
        if self.mode == "mean":
            return steps.cleared(x, lengths).sum(1) / lengths.clamp(min=1)[:, None], None
        there = steps.within(lengths, x.shape[1])[..., None]
        y = torch.where(there, x, x.new_zeros(()) - torch.inf).amax(1)
        return torch.where(there.any(1), y, y.new_zeros(())), None


class Turn(nn.Module):
    """Reverses the valid steps of each row."""

    takes_lengths = True

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The reversed steps and the lengths."""
        return steps.turned(x, lengths), lengths


class Features(nn.Module):
    """A slice of the features."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.start, self.stop, self.step = config["start"], config["stop"], config["step"]

    def forward(self, x: Tensor) -> Tensor:
        """x[..., start:stop:step]."""
        return x[..., self.start : self.stop : self.step]


class Repeat(nn.Module):
    """Repeats a vector for n steps."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        """The repeated vectors, (N, n, features)."""
        return x[:, None].expand(-1, self.n, -1)


class Learnt(nn.Module):
    """A learnt vector, the same for every row."""

    def __init__(self, features: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(features, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """The vector for each row, (N, features)."""
        return self.value.expand(x.shape[0], -1)


class Merge(nn.Module):
    """Merges several values."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, *values: Tensor) -> Tensor:
        """The elementwise result, or the concatenated features."""
        if self.kind == "Concatenate":
            return torch.cat(values, -1)
        if self.kind == "Dot":
            return (values[0] * values[1]).sum(-1, keepdim=True)
        y = values[0]
        for other in values[1:]:
            y = _JOINS[self.kind](y, other)
        return y / len(values) if self.kind == "Average" else y


class Attention(nn.Module):
    """Attention of queries to a memory."""

    def __init__(self, config: dict[str, Any], additive: bool, dtype: torch.dtype) -> None:
        super().__init__()
        query, memory = config["query_size"], config["memory_size"]
        self.score = "additive" if additive else config["score"]

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape, dtype=dtype))

        if additive:
            hidden = config["hidden_size"]
            self.weight_query, self.bias_query = parameter(hidden, query), parameter(hidden)
            self.weight_memory, self.weight_score = parameter(hidden, memory), parameter(hidden)
        elif self.score == "general":
            self.weight_memory = parameter(query, memory)

    def forward(self, query: Tensor, memory: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The context of each query; `lengths` are the memory's."""
        rows = query[:, None] if query.ndim == 2 else query
        if self.score == "additive":
            asked = nn.functional.linear(rows, self.weight_query, self.bias_query)[:, :, None]
            score = torch.tanh(asked + nn.functional.linear(memory, self.weight_memory)[:, None]) @ self.weight_score
        else:
            keys = nn.functional.linear(memory, self.weight_memory) if self.score == "general" else memory
            score = rows @ keys.transpose(1, 2)
            score = score / rows.shape[-1] ** 0.5 if self.score == "scaled_dot" else score
        if lengths is not None:
            score = score.masked_fill(~steps.within(lengths, memory.shape[1])[:, None], -torch.inf)
            score = torch.where((lengths > 0)[:, None, None], score, score.new_zeros(()))
        y = torch.softmax(score, -1) @ steps.cleared(memory, lengths)
        return y[:, 0] if query.ndim == 2 else y


class AttentionMean(nn.Module):
    """Attention pooling: the mean of a sequence's valid steps with learnt weights."""

    takes_lengths = True

    def __init__(self, config: dict[str, Any], dtype: torch.dtype) -> None:
        super().__init__()
        features, hidden = config["features"], config["hidden_size"]
        shapes = {"weight": (hidden, features), "bias": (hidden,), "context": (hidden,)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape, dtype=dtype)))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        """The pooled vectors, (N, features)."""
        score = torch.tanh(nn.functional.linear(x, self.weight, self.bias)) @ self.context
        if lengths is not None:
            score = score.masked_fill(~steps.within(lengths, x.shape[1]), -torch.inf)
            score = torch.where((lengths > 0)[:, None], score, score.new_zeros(()))
        return (torch.softmax(score, 1)[:, None] @ steps.cleared(x, lengths))[:, 0], None


def _make(operation: str, layer: LeafLayer, config: dict[str, Any], dtype: torch.dtype) -> nn.Module:
    kind = layer.label
    if kind in ("RNN", "LSTM", "GRU", "MinGRU", "MinLSTM"):
        if needs_loop(operation, kind, config):
            return RecurrentLoop(kind, config, dtype)
        names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size", "nonlinearity")
        options = {name: config[name] for name in names if name in config}
        made: nn.Module = getattr(nn, kind)(config["input_size"], config["hidden_size"], dtype=dtype, **options)
        return made
    if kind == "Activation":
        name = config["name"]
        return _ACTIVATIONS[name]() if name in _ACTIVATIONS else Function(name)
    if kind in ("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"):
        return Merge(kind)
    makers: dict[str, Callable[[], nn.Module]] = {
        "Linear": lambda: nn.Linear(config["in_features"], config["out_features"], config["bias"], dtype=dtype),
        "Embedding": lambda: nn.Embedding(
            config["num_embeddings"], config["embedding_dim"], sparse=config["sparse"], dtype=dtype
        ),
        "Dropout": lambda: nn.Dropout(config["p"]),
        "LayerNorm": lambda: nn.LayerNorm(config["features"], config["eps"], config["affine"], dtype=dtype),
        "BatchNorm": lambda: StepBatchNorm(
            config["features"], config["eps"], config["momentum"], config["affine"], dtype=dtype
        ),
        "Conv1d": lambda: StepConv1d(config, dtype),
        "ConvTranspose1d": lambda: StepConvTranspose1d(
            *(config[name] for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding")),
            output_padding=config["output_padding"],
            dilation=config["dilation"],
            groups=config["groups"],
            bias=config["bias"],
            dtype=dtype,
        ),
        "Conv2d": lambda: ImageConv2d(layer, dtype),
        "MaxPool2d": lambda: ImagePool2d(layer, mean=False),
        "AvgPool2d": lambda: ImagePool2d(layer, mean=True),
        "BatchNorm2d": lambda: ChannelBatchNorm(
            config["channels"], config["eps"], config["momentum"], config["affine"], dtype=dtype
        ),
        "GroupNorm": lambda: RowGroupNorm(
            config["num_groups"], config["num_channels"], config["eps"], config["affine"], dtype=dtype
        ),
        "InstanceNorm1d": lambda: RowGroupNorm(
            config["features"], config["features"], config["eps"], config["affine"], dtype=dtype
        ),
        "PReLU": lambda: ChannelPReLU(config["num_parameters"], dtype=dtype),
        "Permute": lambda: Permuted(layer.config()["shape"], layer.config()["dims"]),
        "MaxPool1d": lambda: StepPool1d(config, mean=False),
        "AvgPool1d": lambda: StepPool1d(config, mean=True),
        "Pool": lambda: StepPool(config["mode"]),
        "AttentionPool": lambda: AttentionMean(config, dtype),
        "Reverse": Turn,
        "Slice": lambda: Features(config),
        "RepeatVector": lambda: Repeat(config["n"]),
        "LearntVector": lambda: Learnt(config["features"], dtype),
        "AdditiveAttention": lambda: Attention(config, additive=True, dtype=dtype),
        "MultiplicativeAttention": lambda: Attention(config, additive=False, dtype=dtype),
    }
    if kind not in makers:
        raise ValueError(
            f"{operation}: got a model with {kind}, expected layers that torch has a module for: "
            f"{', '.join(sorted(makers))}, merges, activations and recurrent layers; leave it out"
        )
    return makers[kind]()


def module_of(operation: str, layer: LeafLayer) -> nn.Module:
    """The module for a layer, with copies of its parameters and buffers."""
    dtype = torch.float64 if str(layer.dtype) == "float64" else torch.float32
    module = _make(operation, layer, layer.config(), dtype)
    values = {name: torch.from_numpy(array) for name, array in layer.state_dict().items()}
    module.load_state_dict(values, strict=not hasattr(module, "num_batches_tracked"))
    for parameter in module.parameters():
        parameter.requires_grad_(layer.is_trainable)
    return module
