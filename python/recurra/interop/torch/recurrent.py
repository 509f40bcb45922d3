"""Converters for recurrent modules and cells of PyTorch."""

from __future__ import annotations

from typing import Any

from recurra.interop.torch.chain import Chain, converts, take
from recurra.layers.recurrent.gru import GRU
from recurra.layers.recurrent.lstm import LSTM
from recurra.layers.recurrent.recurrent import Recurrent
from recurra.layers.recurrent.rnn import RNN

_CLASSES: dict[str, type[Recurrent]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


@converts("LSTM", "GRU", "RNN")
def convert_recurrent(module: Any, chain: Chain) -> None:
    """To a recurrent layer, batch-first within a model."""
    chain.expect(module, "any", "features")
    kind = module.mode.partition("_")[0]
    chain.add(_like(kind, module, chain.dtype, module.batch_first or not chain.alone), module)
    chain.axis = "end"


@converts("LSTMCell", "GRUCell", "RNNCell")
def convert_cell(module: Any, chain: Chain) -> None:
    """To a recurrent layer, which reads sequences."""
    chain.expect(module, "any", "features", "vector")
    name = type(module).__name__.removesuffix("Cell")
    options = {"nonlinearity": module.nonlinearity} if name == "RNN" else {}
    layer = _CLASSES[name](module.input_size, module.hidden_size, bias=module.bias, dtype=chain.dtype, **options)
    take(layer, {own: getattr(module, own.removesuffix("_l0")) for own in layer.params})
    layer.trainable = any(parameter.requires_grad for parameter in module.parameters())
    chain.add(layer)
    chain.axis = "end"


def _like(kind: str, module: Any, dtype: str, batch_first: bool) -> Recurrent:
    options: dict[str, Any] = {}
    if kind == "LSTM":
        options = {"proj_size": module.proj_size}
    elif kind == "RNN":
        options = {"nonlinearity": module.nonlinearity}
    return _CLASSES[kind](
        module.input_size,
        module.hidden_size,
        module.num_layers,
        bias=module.bias,
        batch_first=batch_first,
        dropout=module.dropout if module.num_layers > 1 else 0.0,
        bidirectional=module.bidirectional,
        dtype=dtype,
        **options,
    )
