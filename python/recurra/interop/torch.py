"""From PyTorch's recurrent modules to the same layers here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recurra.layers.recurrent.gru import GRU
from recurra.layers.recurrent.lstm import LSTM
from recurra.layers.recurrent.recurrent import Recurrent
from recurra.layers.recurrent.rnn import RNN

if TYPE_CHECKING:
    import torch


def from_torch(module: torch.nn.RNNBase) -> Recurrent:
    """A torch.nn.RNN, LSTM or GRU as the same layer here, with copies of its parameters.

    Takes over every option: num_layers, bias, batch_first, dropout, bidirectional, proj_size, nonlinearity and dtype
    (float32 or float64). The module may be on any device.

    Raises:
        TypeError: another module.
        ValueError: the dtype is another one.
    """
    import torch  # here: only this function needs it

    options: dict[str, Any] = {}
    cls: type[Recurrent]
    if isinstance(module, torch.nn.LSTM):
        cls, options = LSTM, {"proj_size": module.proj_size}
    elif isinstance(module, torch.nn.GRU):
        cls = GRU
    elif isinstance(module, torch.nn.RNN):
        cls, options = RNN, {"nonlinearity": module.nonlinearity}
    else:
        raise TypeError(
            f"from_torch: got {type(module).__name__}, expected a torch.nn.RNN, LSTM or GRU; convert such modules one by one"
        )
    dtype = str(module.weight_ih_l0.dtype).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"from_torch: got a module of {dtype}, expected float32 or float64; write module.float()")
    layer = cls(
        module.input_size,
        module.hidden_size,
        module.num_layers,
        bias=module.bias,
        batch_first=module.batch_first,
        dropout=module.dropout,
        bidirectional=module.bidirectional,
        dtype=dtype,
        **options,
    )
    layer.load_state_dict({name: getattr(module, name).detach().cpu().numpy() for name in layer.params})
    return layer
