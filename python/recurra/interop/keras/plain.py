"""Converters for layers of Keras that act on each step: Dense, Embedding, norms, activations, masks, dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recurra.common import errors
from recurra.common.typing import Array
from recurra.interop.keras.layer import Apply, KerasLayer, Kwargs, converts
from recurra.interop.keras.source import refused
from recurra.interop.keras.values import Value
from recurra.layers.activation import PReLU
from recurra.layers.basic import Dropout, Embedding, Linear
from recurra.layers.convolution import Conv1d
from recurra.layers.normalisation import BatchNorm, BatchNorm2d, LayerNorm
from recurra.layers.pooling import Pool


def stepwise(layer: KerasLayer, function: Callable[[Any], Any], flat: bool = False) -> Apply:
    """Applies `function` to each step; with `flat`, flattened values and images are accepted too."""

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        layer.no_more(kwargs)
        value = layer.one(args, flat, image=flat)
        return value.now(function(value.symbol))

    return apply


def elementwise(layer: KerasLayer, function: Callable[[Any], Any]) -> Apply:
    """Applies `function` to each element, also of flattened values."""
    return stepwise(layer, function, flat=True)


@converts("Dense", "TimeDistributedDense")
def convert_dense(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a Linear; after a Flatten, to a convolution with one window over all steps."""
    first = layer.one(args, flat=True)
    units, bias = layer.integer("units"), layer.flag("use_bias", True)
    inputs = first.features * ((first.steps or 0) if first.flat else 1)
    kernel, *rest = layer.weights.own((inputs, units), *([(units,)] if bias else []))
    values = {"weight": kernel.T, **({"bias": rest[0]} if bias else {})}
    activation = layer.activation()
    if not first.flat:
        linear = layer.filled(Linear(inputs, units, bias=bias, dtype=layer.dtype), values)
        return stepwise(layer, lambda symbol: activation(linear(symbol)))
    steps = first.steps or 1
    values["weight"] = kernel.reshape(steps, -1, units).transpose(2, 1, 0)
    window = Conv1d(first.features, units, steps, padding="valid", bias=bias, dtype=layer.dtype)
    layer.filled(window, values)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value = layer.one(args, flat=True)
        if not value.flat:
            raise refused("got one call after a Flatten and another one elsewhere, expected the same for all")
        return value.vector(activation(Pool("last", dtype=layer.dtype)(window(value.symbol))))

    return apply


@converts("Embedding")
def convert_embedding(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To an Embedding; with mask_zero, token 0 is padding."""
    tokens, features = layer.integer("input_dim"), layer.integer("output_dim")
    (table,) = layer.weights.own((tokens, features))
    embedding = layer.filled(Embedding(tokens, features, dtype=layer.dtype), {"weight": table})
    masks = layer.flag("mask_zero", False)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value = layer.one(args)
        if value.port is None or value.given is not None:
            raise refused("got what another layer has computed, expected tokens from an input")
        layer.builder.check_not_stepwise(Value(None, sequence=True))
        if masks:
            value.port.mask_by(0)
        symbol = embedding(value.port.tokens(tokens))
        return Value(symbol, sequence=True, steps=value.port.shape[0], port=value.port, masked=masks)

    return apply


@converts("Masking")
def convert_masking(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """Marks steps of an input whose features all equal mask_value as padding."""
    value = layer.number("mask_value", 0.0)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        x = layer.sequence(layer.one(args))
        if x.port is None or x.given is not None:
            raise refused("got the output of another layer, expected an input of the model")
        x.port.mask_by(value)
        if value:  # Keras zeroes masked steps
            x.port.skipping = layer.name
        return Value(x.symbol, sequence=True, steps=x.steps, port=x.port, masked=True)

    return apply


@converts("BatchNormalization")
def convert_batch_norm(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a BatchNorm; without scale or center, the gain is 1 or the shift 0."""
    x = layer.one(args, image=True)
    features = x.image[-1] if x.image else x.features
    _check_axis(layer, x)
    if layer.get("renorm", False):
        raise refused("got renorm=True, expected False")
    scale, center = layer.flag("scale", True), layer.flag("center", True)
    arrays = layer.weights.own(*[(features,)] * (2 + scale + center))
    values = _gain_and_shift(arrays, scale, center, features)
    values |= dict(zip(("running_mean", "running_var"), arrays[-2:], strict=True))
    cls = BatchNorm2d if x.image else BatchNorm
    norm = cls(
        features, eps=layer.number("epsilon", 1e-3), momentum=1 - layer.number("momentum", 0.99), dtype=layer.dtype
    )
    layer.filled(norm, values)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        layer.no_more(kwargs)
        value = layer.one(args, image=True)
        return value.now(norm(value.symbol))

    return apply


@converts("PReLU")
def convert_prelu(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a PReLU: slopes for each feature or channel, the same at all steps."""
    x = layer.one(args, image=True)
    features = x.image[-1] if x.image else x.features
    axes = (1 if x.sequence and not layer.builder.is_stepwise else 0) + (len(x.image) or 1)
    (alpha,) = layer.weights.own((1,) * (axes - 1) + (features,))
    prelu = layer.filled(PReLU(features, dtype=layer.dtype), {"weight": alpha.reshape(-1)})

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Value:
        value = layer.one(args, image=True)
        return value.now(prelu(value.symbol))

    return apply


@converts("LayerNormalization")
def convert_layer_norm(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a LayerNorm over the features of each step."""
    x = layer.one(args)
    features = x.features
    _check_axis(layer, x)
    layer.expect("rms_scaling", False)
    scale, center = layer.flag("scale", True), layer.flag("center", True)
    arrays = layer.weights.own(*[(features,)] * (scale + center))
    norm = LayerNorm(features, eps=layer.number("epsilon", 1e-3), dtype=layer.dtype)
    layer.filled(norm, _gain_and_shift(arrays, scale, center, features))
    return stepwise(layer, norm)


def _check_axis(layer: KerasLayer, value: Value) -> None:
    axis = layer.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    own = len(value.image) or 1
    if axis not in (-1, own + 1 if value.sequence and not layer.builder.is_stepwise else own):
        raise refused(f"got axis={axis!r:.80}, expected the last one, the features")


def _gain_and_shift(arrays: list[Array], scale: bool, center: bool, features: int) -> dict[str, Array]:
    return {
        "weight": arrays[0] if scale else np.ones(features),
        "bias": arrays[scale] if center else np.zeros(features),
    }


@converts("Normalization")
def convert_normalization(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """Standardisation by means and variances from the configuration or the weights."""
    features = layer.one(args).features
    if layer.get("invert", False):
        raise refused("got invert=True, expected False")
    mean, variance = (layer.config.get(name) for name in ("mean", "variance"))
    if mean is None:
        mean, variance, _count = layer.weights.own((features,), (features,), ())
    deviation = np.maximum(np.sqrt(np.asarray(variance, float)), 1e-7)
    if deviation.size not in (1, features):
        raise refused(f"got a variance of {deviation.size} numbers, expected {features}")
    gain, shift = 1.0 / deviation.reshape(-1), -np.asarray(mean, float).reshape(-1) / deviation.reshape(-1)
    return stepwise(layer, lambda symbol: layer.functions.affine(symbol, gain, shift))


@converts("Rescaling")
def convert_rescaling(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """scale * x + offset."""
    scale, offset = layer.number("scale"), layer.number("offset", 0.0)
    return stepwise(layer, lambda symbol: layer.functions.affine(symbol, scale, offset))


@converts("Activation")
def convert_activation(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To the activation that the configuration names."""
    function = layer.activation()
    if layer.activation_name(layer.get("activation")) in ("softmax", "log_softmax"):
        return stepwise(layer, function)
    return elementwise(layer, function)


@converts("Softmax")
def convert_softmax(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a softmax over the features."""
    layer.expect("axis", -1, [-1])
    return stepwise(layer, layer.function("softmax"))


@converts("LeakyReLU")
def convert_leaky_relu(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a leaky relu, with its slope below 0."""
    slope = layer.number("negative_slope", 0.3)
    return elementwise(layer, layer.function("leaky_relu", slope=slope))


@converts("ELU")
def convert_elu(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To an elu, with its bound below 0."""
    alpha, functions = layer.number("alpha", 1.0), layer.functions
    return elementwise(layer, layer.function("elu") if alpha == 1.0 else lambda x: functions.elu(x, alpha))


@converts("ReLU")
def convert_relu(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a relu with an upper bound or a slope below 0."""
    layer.expect("threshold", 0.0, None)
    slope = 0.0 if layer.get("negative_slope", None) is None else layer.number("negative_slope")
    bound = None if layer.get("max_value", None) is None else layer.number("max_value")
    functions = layer.functions

    def relu(x: Any) -> Any:
        y = functions.leaky_relu(x, slope) if slope else functions.plain("relu", x)
        return y if bound is None else functions.below(y, bound)

    return elementwise(layer, relu)


@converts("Dropout")
def convert_dropout(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a Dropout."""
    if layer.get("noise_shape", None) is not None:
        return convert_noise(layer, args, kwargs)
    return elementwise(layer, Dropout(layer.number("rate"), dtype=layer.dtype))


@converts(
    *(
        "GaussianNoise",
        "GaussianDropout",
        "AlphaDropout",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "ActivityRegularization",
    ),
)
def convert_noise(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To no layer, with a warning: the identity in inference, but not in training."""
    errors.warn(
        f"from_keras: got layer {layer.name!r} ({layer.kind}), which works in training only; it is left out, so train "
        "here without it, or with a Dropout in its place",
        UserWarning,
    )
    return elementwise(layer, lambda symbol: symbol)


@converts("InputLayer", "Identity", "Cast", "StopGradient")
def convert_identity(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To no layer."""
    return lambda args, _kwargs: args[0]


@converts("TimeDistributed")
def convert_time_distributed(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To the inner layer, which acts on each step here anyway."""
    inner = layer.part("layer", "layer")

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Any:
        layer.no_more(kwargs)
        value = layer.sequence(layer.one(args, image=True))
        with layer.builder.stepwise():
            return inner((value,), {})

    return apply
