"""Converters for modules of PyTorch on images."""

from __future__ import annotations

from typing import Any

from recurra.interop.torch.chain import Chain, converts
from recurra.interop.torch.window_modules import check_padding_mode
from recurra.layers.convolution2d import Conv2d
from recurra.layers.image_pooling import AvgPool2d, MaxPool2d
from recurra.layers.normalisation import BatchNorm2d
from recurra.layers.pooling import Pool
from recurra.layers.slicing import Permute


def _pair(value: Any) -> Any:
    """An option that torch stores as a value or a pair."""
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _image(module: Any, chain: Chain) -> dict[str, Any]:
    """The size of the images, as arguments of layers here."""
    if chain.axis == "any" and chain.height is None:
        raise chain.refused(
            module,
            "got images of unknown size, expected their height, and their width unless their columns are the steps "
            "here",
            "write rc.from_torch(module, height=32), or height= and width=; with torch_layers, "
            "options={'name': {'height': 32}}",
        )
    chain.expect(module, "image")
    return {"height": chain.height, "width": chain.width}


@converts("Conv2d")
def convert_conv2d(module: Any, chain: Chain) -> None:
    """To a Conv2d."""
    size = _image(module, chain)
    check_padding_mode(module, chain)
    padding = module.padding if isinstance(module.padding, str) else _pair(module.padding)
    options: dict[str, Any] = {name: _pair(getattr(module, name)) for name in ("kernel_size", "stride", "dilation")}
    options |= {"padding": padding, "groups": module.groups, "bias": module.bias is not None, **size}
    layer = Conv2d(module.in_channels, module.out_channels, **options, dtype=chain.dtype)
    chain.add(layer, module)
    chain.features, chain.height, chain.width = module.out_channels, layer.output_height, layer.output_width


@converts("MaxPool2d", "AvgPool2d")
def convert_pool2d(module: Any, chain: Chain) -> None:
    """To a MaxPool2d or AvgPool2d; padding does not enter the windows."""
    size, largest = _image(module, chain), type(module).__name__ == "MaxPool2d"
    wanted: dict[str, Any] = {"ceil_mode": False}
    if largest:
        wanted |= {"dilation": 1, "return_indices": False}
    else:
        wanted |= {"divisor_override": None} | ({"count_include_pad": False} if any(_pair(module.padding)) else {})
    for option, value in wanted.items():
        if getattr(module, option) not in (value, (value, value)):
            raise chain.refused(
                module, f"got {option}={getattr(module, option)}, expected {value}", "make it with that"
            )
    channels = _channels(module, chain)
    options = {name: _pair(getattr(module, name)) for name in ("kernel_size", "stride", "padding")}
    layer = (MaxPool2d if largest else AvgPool2d)(**options, channels=channels, **size, dtype=chain.dtype)
    chain.add(layer)
    chain.height, chain.width = layer.output_height, layer.output_width


def _channels(module: Any, chain: Chain) -> int:
    if not chain.features:
        raise chain.refused(
            module,
            "got images with an unknown number of channels, expected a module before it that says it",
            "put it behind a Conv2d or BatchNorm2d; with torch_layers, options={'name': {'channels': 64, ...}}",
        )
    return chain.features


@converts("AdaptiveAvgPool2d", "AdaptiveMaxPool2d")
def convert_global_pool2d(module: Any, chain: Chain) -> None:
    """To a pool over a whole image or over its rows, and a Pool over the columns where they are the steps."""
    size, mean = _image(module, chain), type(module).__name__ == "AdaptiveAvgPool2d"
    wanted = _pair(module.output_size)
    if wanted[0] != 1 or wanted[1] not in (1, None) or (wanted[1] is None and chain.width is not None):
        raise chain.refused(
            module,
            f"got output_size={module.output_size}, expected 1, the whole image, or (1, None) where columns are steps",
            "make it with that",
        )
    window = (chain.height or 1, chain.width or 1)
    channels = _channels(module, chain)
    chain.add((AvgPool2d if mean else MaxPool2d)(window, channels=channels, **size, dtype=chain.dtype))
    chain.height = 1
    if chain.width is not None:
        chain.width = 1
    elif wanted[1] == 1:
        chain.add(Pool("mean" if mean else "max", dtype=chain.dtype))
        chain.axis = "pooled image"


@converts("BatchNorm2d")
def convert_batch_norm2d(module: Any, chain: Chain) -> None:
    """To a BatchNorm2d."""
    chain.expect(module, "any", "image")
    if not module.track_running_stats or module.momentum is None:
        raise chain.refused(
            module,
            f"got track_running_stats={module.track_running_stats}, momentum={module.momentum}, expected running "
            "statistics with a momentum",
            "make it with the defaults of both",
        )
    options = {"eps": module.eps, "momentum": module.momentum, "affine": module.affine}
    chain.add(BatchNorm2d(module.num_features, **options, dtype=chain.dtype), module)
    chain.features = module.num_features


def flatten_image(module: Any, chain: Chain) -> None:
    """Flatten images: torch's features are channels first. To a Permute, or no layer if that is the same."""
    channels, last = _channels(module, chain), module.end_dim
    if chain.axis == "pooled image":
        if (module.start_dim, last) not in ((1, -1), (1, 3)):
            raise _not_flat(module, chain, "1 and -1")
        chain.axis = "vector"
        return
    rows, columns = chain.height or 1, chain.width
    if (module.start_dim, last) not in (((1, 2), (1, -2)) if columns is None else ((1, -1), (1, 3))):
        raise _not_flat(module, chain, "1 and 2 where columns are steps" if columns is None else "1 and -1")
    places = rows * (columns or 1)
    if channels > 1 and places > 1:
        chain.add(Permute((places, channels), (1, 0), dtype=chain.dtype))
    chain.features = channels * places
    chain.axis = "channels" if columns is None else "vector"


def _not_flat(module: Any, chain: Chain, wanted: str) -> ValueError:
    return chain.refused(
        module,
        f"got start_dim={module.start_dim}, end_dim={module.end_dim} of images, expected {wanted}",
        "only what is one step here can be flattened",
    )
