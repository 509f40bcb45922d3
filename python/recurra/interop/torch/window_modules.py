"""Converters for modules of PyTorch on windows of steps, or on all steps: convolutions and pooling."""

from __future__ import annotations

from typing import Any

from recurra.interop.torch.chain import Chain, converts
from recurra.layers.convolution import Conv1d, ConvTranspose1d
from recurra.layers.pooling import Pool
from recurra.layers.window_pooling import AvgPool1d, MaxPool1d, WindowPool


def _single(value: Any) -> Any:
    """An option that torch stores as a value or a tuple of one."""
    return value[0] if isinstance(value, tuple | list) else value


def check_padding_mode(module: Any, chain: Chain) -> None:
    """Raise unless a convolution is padded with zeros."""
    if module.padding_mode != "zeros":
        raise chain.refused(
            module, f"got padding_mode={module.padding_mode!r}, expected 'zeros'", "there is no other convolution here"
        )


@converts("Conv1d")
def convert_conv(module: Any, chain: Chain) -> None:
    """To a Conv1d: no padding, or zeros that centre the windows."""
    chain.expect(module, "any", "second", "channels")
    kernel, stride, dilation = (_single(getattr(module, name)) for name in ("kernel_size", "stride", "dilation"))
    check_padding_mode(module, chain)
    layer = Conv1d(
        module.in_channels,
        module.out_channels,
        kernel,
        stride=stride,
        dilation=dilation,
        padding=padding_name(module, chain),
        groups=module.groups,
        bias=module.bias is not None,
        dtype=chain.dtype,
    )
    chain.add(layer, module)
    chain.axis, chain.features = "channels", module.out_channels


def padding_name(module: Any, chain: Chain) -> str:
    """The name here of the padding of a convolution, or of a pool over steps."""
    padding = _single(module.padding)
    span = (_single(module.kernel_size) - 1) * _single(getattr(module, "dilation", 1)) + 1
    if padding in ("same", "valid"):
        return str(padding)
    if padding == 0:
        return "valid"
    if 2 * padding == span - 1:
        return "same"
    raise chain.refused(
        module,
        f"got padding={padding} for windows of {span} steps, expected 0 or {(span - 1) / 2:g}, which centres them",
        "with padding on both sides and the end cut off it is padding='causal' here: take the parts by "
        "rc.interop.torch_layers(module, options={'name': {'padding': 'causal'}})",
    )


@converts("ConvTranspose1d")
def convert_transposed(module: Any, chain: Chain) -> None:
    """To a ConvTranspose1d."""
    chain.expect(module, "any", "second", "channels")
    names = ("stride", "padding", "output_padding", "dilation", "groups")
    options = {name: _single(getattr(module, name)) for name in names}
    sizes = (module.in_channels, module.out_channels, _single(module.kernel_size))
    chain.add(ConvTranspose1d(*sizes, **options, bias=module.bias is not None, dtype=chain.dtype), module)
    chain.axis, chain.features = "channels", module.out_channels


@converts("MaxPool1d", "AvgPool1d")
def convert_window_pool(module: Any, chain: Chain) -> None:
    """To a MaxPool1d or AvgPool1d; padding does not enter the windows."""
    chain.expect(module, "any", "second", "channels")
    name = type(module).__name__
    kernel, stride = _single(module.kernel_size), _single(module.stride)
    refused: list[tuple[str, Any]] = [("ceil_mode", False)]
    if name == "MaxPool1d":
        refused += [("dilation", 1), ("return_indices", False)]
    elif _single(module.padding):
        refused += [("count_include_pad", False)]
    for option, value in refused:
        if _single(getattr(module, option)) != value:
            raise chain.refused(
                module, f"got {option}={getattr(module, option)}, expected {value}", "make it with that"
            )
    cls: type[WindowPool] = MaxPool1d if name == "MaxPool1d" else AvgPool1d
    chain.add(cls(kernel, stride, padding_name(module, chain), features=chain.features, dtype=chain.dtype))
    chain.axis = "channels"


@converts("AdaptiveAvgPool1d", "AdaptiveMaxPool1d")
def convert_global_pool(module: Any, chain: Chain) -> None:
    """To a Pool over all steps."""
    chain.expect(module, "any", "second", "channels")
    if _single(module.output_size) != 1:
        raise chain.refused(
            module, f"got output_size={module.output_size}, expected 1, all steps at once", "make it with 1"
        )
    mode = "mean" if type(module).__name__ == "AdaptiveAvgPool1d" else "max"
    chain.add(Pool(mode, dtype=chain.dtype))
    chain.axis = "pooled"
