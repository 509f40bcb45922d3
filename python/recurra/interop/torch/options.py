"""The options of a module, as arguments of its counterpart here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurra.interop.torch.chain import Chain
from recurra.interop.torch.convert import converter_name
from recurra.interop.torch.window_modules import padding_name

#: Options of the same name and meaning on both sides.
_SAME = {
    **dict.fromkeys(("Conv1d", "Conv2d"), ("stride", "dilation", "groups")),
    "ConvTranspose1d": ("stride", "dilation", "padding", "output_padding", "groups"),
    **dict.fromkeys(("LayerNorm", "GroupNorm", "InstanceNorm1d"), ("eps",)),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "SyncBatchNorm"), ("eps", "momentum")),
    **dict.fromkeys(("LSTM", "GRU"), ("dropout",)),
    "RNN": ("dropout", "nonlinearity"),
}


def options_of(module: Any, chain: Chain, given: Mapping[str, Any]) -> dict[str, Any]:
    """The module's options that its parameters' shapes do not tell, without those in `given`.

    Raises:
        ValueError: padding without a counterpart here, if none is given.
    """
    kind = converter_name(module)
    found = {name: _value(getattr(module, name)) for name in _SAME.get(kind or "", ()) if name not in given}
    if kind == "Conv2d" and "padding" not in given:
        found["padding"] = module.padding
    if kind == "Conv1d" and "padding" not in given:
        found["padding"] = padding_name(module, chain)
    return found


def _value(value: Any) -> Any:
    """The option; of a tuple of one, its value."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value
