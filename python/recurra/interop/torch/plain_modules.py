"""Converters for modules of PyTorch that act on each step: Linear, Embedding, norms, activations, dropout, Flatten."""

from __future__ import annotations

from typing import Any

from recurra.common import errors
from recurra.interop.torch.chain import Chain, converts, plain, take
from recurra.interop.torch.image_modules import flatten_image
from recurra.layers.activation import Activation, PReLU
from recurra.layers.basic import Dropout, Embedding, Linear
from recurra.layers.convolution import Conv1d
from recurra.layers.group_norm import GroupNorm, InstanceNorm1d
from recurra.layers.normalisation import BatchNorm, LayerNorm
from recurra.layers.pooling import Pool

#: The layouts that elementwise modules take.
_ANYWHERE = ("any", "second", "features", "vector", "channels", "pooled", "flat", "image", "pooled image")
#: The layouts whose second axis has the channels.
_CHANNELS = ("any", "second", "vector", "channels", "image")
#: For each class, the activation's name here and the required arguments, which are torch's defaults; above its
#: threshold a Softplus is x, which a larger one does not change in float32.
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "ReLU": ("relu", {}),
    "LeakyReLU": ("leaky_relu", {"negative_slope": 0.01}),
    "ELU": ("elu", {"alpha": 1.0}),
    "Tanh": ("tanh", {}),
    "Sigmoid": ("sigmoid", {}),
    "GELU": ("gelu", {"approximate": "none"}),
    "SiLU": ("silu", {}),
    "Softplus": ("softplus", {"beta": 1, "threshold": 20}),
    "Hardsigmoid": ("hard_sigmoid", {}),
    "Hardswish": ("hard_swish", {}),
    "Hardtanh": ("hard_tanh", {"min_val": -1.0, "max_val": 1.0}),
    "ReLU6": ("relu6", {}),
    "SELU": ("selu", {}),
    "Softsign": ("softsign", {}),
    "Mish": ("mish", {}),
}


@converts(*_ACTIVATIONS)
def convert_activation(module: Any, chain: Chain) -> None:
    """To an Activation."""
    chain.expect(module, *_ANYWHERE)
    name, wanted = _ACTIVATIONS[type(module).__name__]
    for option, value in wanted.items():
        got = getattr(module, option)
        if got != value and not (option == "threshold" and got > value):
            raise chain.refused(module, f"got {option}={got!r}, expected {value!r}", "that is the only variant here")
    chain.add(Activation(name, dtype=chain.dtype))


@converts("PReLU")
def convert_prelu(module: Any, chain: Chain) -> None:
    """To a PReLU; with several slopes, the channels must be torch's second axis."""
    chain.expect(module, *(_ANYWHERE if module.num_parameters == 1 else _CHANNELS))
    chain.add(PReLU(module.num_parameters, dtype=chain.dtype), module)
    if module.num_parameters > 1:
        chain.axis = "second" if chain.axis == "any" else chain.axis
        chain.features = module.num_parameters


@converts("GroupNorm", "InstanceNorm1d")
def convert_row_norm(module: Any, chain: Chain) -> None:
    """To a GroupNorm or InstanceNorm1d."""
    groups = type(module).__name__ == "GroupNorm"
    chain.expect(module, *(_CHANNELS if groups else ("any", "second", "channels")))
    if not groups and module.track_running_stats:
        raise chain.refused(module, "got track_running_stats=True, expected False", "make it without")
    options: dict[str, Any] = {"eps": module.eps, "affine": module.affine, "dtype": chain.dtype}
    channels = module.num_channels if groups else module.num_features
    layer = GroupNorm(module.num_groups, channels, **options) if groups else InstanceNorm1d(channels, **options)
    chain.add(layer, module)
    chain.axis = "second" if chain.axis == "any" and groups else "channels" if chain.axis == "any" else chain.axis
    chain.features = channels


@converts("Softmax", "LogSoftmax")
def convert_softmax(module: Any, chain: Chain) -> None:
    """To a softmax over the features, whichever axis they are."""
    chain.expect(module, "any", "second", "features", "vector", "channels")
    over = {"channels": (1, -2), "vector": (1, -1), "any": (-1,), "second": (1,)}.get(chain.axis, (-1, 2))
    if module.dim not in over:
        raise chain.refused(
            module, f"got dim={module.dim}, expected one of {over}, the features", "name the features' axis"
        )
    chain.add(Activation("softmax", dtype=chain.dtype))
    if type(module).__name__ == "LogSoftmax":
        chain.add(Activation("log", dtype=chain.dtype))


@converts("Identity")
def convert_identity(module: Any, chain: Chain) -> None:
    """To no layer."""


@converts("Dropout")
def convert_dropout(module: Any, chain: Chain) -> None:
    """To a Dropout."""
    chain.expect(module, *_ANYWHERE)
    chain.add(Dropout(module.p, dtype=chain.dtype))


@converts("Dropout1d", "Dropout2d", "AlphaDropout", "FeatureAlphaDropout")
def convert_other_dropout(module: Any, chain: Chain) -> None:
    """To no layer, with a warning: the identity in inference, but not in training."""
    chain.expect(module, *_ANYWHERE)
    errors.warn(
        f"from_torch: got {chain.place or 'module'} of class {type(module).__name__}, which works in training only; it "
        "is left out, so train here without it, or with a Dropout in its place",
        UserWarning,
    )


@converts("Linear", "NonDynamicallyQuantizableLinear")
def convert_linear(module: Any, chain: Chain) -> None:
    """To a Linear; after a Flatten, to a convolution over all steps."""
    chain.expect(module, "any", "second", "features", "vector", "flat")
    if chain.axis == "flat" and (chain.steps_behind, module.in_features) != ("features", chain.features):
        return _convert_flat(module, chain)
    bias = module.bias is not None
    layer = Linear(module.in_features, module.out_features, bias=bias, dtype=chain.dtype)
    chain.add(layer, module)
    chain.axis = "features" if chain.axis in ("any", "features") else "vector"
    chain.features = module.out_features
    return None


def _convert_flat(module: Any, chain: Chain) -> None:
    """To a convolution with a window of all T steps, equal to a Linear on T steps of F features, flattened."""
    inputs, outputs, features = module.in_features, module.out_features, chain.features
    if not features or inputs % features:
        raise chain.refused(
            module,
            f"got in_features={inputs} behind a Flatten of {features} features, expected a multiple of them",
            "convert the parts with rc.interop.torch_layers",
        )
    weight = plain(module.weight)
    if chain.steps_behind == "channels":
        weight = weight.reshape(outputs, features, -1)
    else:
        weight = weight.reshape(outputs, -1, features).swapaxes(1, 2)
    bias = module.bias is not None
    layer = Conv1d(features, outputs, inputs // features, padding="valid", bias=bias, dtype=chain.dtype)
    take(layer, {"weight": weight, "bias": module.bias} if bias else {"weight": weight})
    layer.trainable = module.weight.requires_grad
    chain.add(layer)
    chain.add(Pool("last", dtype=chain.dtype))
    chain.axis, chain.features = "vector", outputs


@converts("Flatten")
def convert_flatten(module: Any, chain: Chain) -> None:
    """To no layer; a Flatten of several steps is absorbed by the next Linear."""
    if chain.axis in ("image", "pooled image"):
        return flatten_image(module, chain)
    chain.expect(module, "vector", "features", "channels", "pooled", "second")
    chain.axis = "channels" if chain.axis == "second" else chain.axis
    if module.start_dim != 1 or module.end_dim not in (-1, 2):
        raise chain.refused(
            module,
            f"got start_dim={module.start_dim}, end_dim={module.end_dim}, expected 1 and -1",
            "only steps and features together can be flattened",
        )
    if chain.axis in ("vector", "pooled"):
        chain.axis = "vector"
    else:
        chain.axis, chain.steps_behind = "flat", chain.axis
    return None


@converts("Embedding")
def convert_embedding(module: Any, chain: Chain) -> None:
    """To an Embedding, in which the row of padding_idx is not special."""
    chain.expect(module, "any")
    if module.max_norm is not None:
        raise chain.refused(
            module, f"got max_norm={module.max_norm}, expected None", "torch changes its weights in every call with it"
        )
    if module.scale_grad_by_freq:
        raise chain.refused(module, "got scale_grad_by_freq=True, expected False", "make it without")
    if module.padding_idx is not None and module.weight.requires_grad:
        errors.warn(
            f"from_torch: {chain.place or 'module'} (Embedding): got padding_idx={module.padding_idx}, whose row "
            "torch keeps from learning; here it learns like the others unless its token is padding: give lengths or "
            "a mask in training",
            UserWarning,
        )
    layer = Embedding(module.num_embeddings, module.embedding_dim, sparse=module.sparse, dtype=chain.dtype)
    chain.add(layer, module)
    chain.axis, chain.features = "features", module.embedding_dim


@converts("LayerNorm")
def convert_layer_norm(module: Any, chain: Chain) -> None:
    """To a LayerNorm over the features of each step."""
    chain.expect(module, "any", "second", "features", "vector")
    affine = module.weight is not None
    if len(module.normalized_shape) != 1:
        shape = tuple(module.normalized_shape)
        raise chain.refused(
            module, f"got normalized_shape={shape}, expected one axis, the features", "normalise each step"
        )
    layer = LayerNorm(module.normalized_shape[0], eps=module.eps, affine=affine, dtype=chain.dtype)
    if affine:
        bias = module.bias if module.bias is not None else plain(module.weight) * 0
        take(layer, {"weight": module.weight, "bias": bias})
        layer.trainable = module.weight.requires_grad
    chain.add(layer)
    chain.axis = {"any": "features", "second": "vector"}.get(chain.axis, chain.axis)
    chain.features = module.normalized_shape[0]


@converts("BatchNorm1d", "SyncBatchNorm")
def convert_batch_norm(module: Any, chain: Chain) -> None:
    """To a BatchNorm; after a Linear, its input must be vectors."""
    chain.expect(module, "any", "second", "features", "vector", "channels")
    if not module.track_running_stats or module.momentum is None:
        raise chain.refused(
            module,
            f"got track_running_stats={module.track_running_stats}, momentum={module.momentum}, expected running "
            "statistics with a momentum",
            "make it with the defaults of both",
        )
    layer = BatchNorm(
        module.num_features, eps=module.eps, momentum=module.momentum, affine=module.affine, dtype=chain.dtype
    )
    chain.add(layer, module)
    chain.axis = {"features": "vector", "any": "second"}.get(chain.axis, chain.axis)
    chain.features = module.num_features
