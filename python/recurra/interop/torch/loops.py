"""Recurrent layers whose cells torch.nn lacks, as loops over torch operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recurra.interop.torch import steps

#: Options without an equivalent module, and their defaults.
_REFUSED = {"layer_norm": False, "input_dropout": 0.0, "recurrent_dropout": 0.0, "zoneout": 0.0, "zoneout_cell": 0.0}
#: Options that the loop supports, and their defaults.
_COMPUTED = {
    "peepholes": False,
    "cell_clip": None,
    "reset_after": True,
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "output_activation": None,
}

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "softsign": nn.functional.softsign,
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: (x / 6 + 0.5).clamp(0, 1),
}


def _function(activation: Any) -> Callable[[Tensor], Tensor]:
    """The activation given by its name or as ("hard_sigmoid", alpha, beta)."""
    if isinstance(activation, str):
        return _FUNCTIONS[activation]
    _name, alpha, beta = activation
    return lambda x: (alpha * x + beta).clamp(0, 1)


def needs_loop(operation: str, kind: str, config: dict[str, Any]) -> bool:
    """Whether torch.nn lacks the cell; raises ValueError if the loop lacks it too."""
    for name, usual in _REFUSED.items():
        if config.get(name, usual) != usual:
            raise ValueError(
                f"{operation}: got {kind} with {name}={config[name]!r}, expected {usual!r}, as torch.nn has no such "
                "module; make the layer without the option"
            )
    if kind.startswith("Min") or config.get("nonlinearity", "tanh") not in ("tanh", "relu"):
        return True
    return any(config.get(name, usual) != usual for name, usual in _COMPUTED.items())


class RecurrentLoop(nn.Module):
    """A stack of recurrent layers with the interface of torch.nn.LSTM."""

    def __init__(self, kind: str, config: dict[str, Any], dtype: torch.dtype) -> None:
        super().__init__()
        self.kind, self.config = kind, config
        self.batch_first = config["batch_first"]
        self.num_layers, self.hidden_size = config["num_layers"], config["hidden_size"]
        self.ends = ("", "_reverse") if config["bidirectional"] else ("",)
        gates = {"RNN": 1, "LSTM": 4, "GRU": 3, "MinGRU": 2, "MinLSTM": 3}[kind] * self.hidden_size
        units = config.get("proj_size") or self.hidden_size
        for layer in range(self.num_layers):
            inputs = config["input_size"] if layer == 0 else units * len(self.ends)
            for end in self.ends:
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, inputs)}
                if not kind.startswith("Min"):
                    shapes["weight_hh"] = (gates, units)
                if config["bias"]:
                    shapes |= {name.replace("weight", "bias"): (gates,) for name in list(shapes)}
                if config.get("proj_size"):
                    shapes["weight_hr"] = (units, self.hidden_size)
                if config.get("peepholes"):
                    shapes["weight_peephole"] = (3 * self.hidden_size,)
                for name, shape in shapes.items():
                    value = nn.Parameter(torch.zeros(shape, dtype=dtype))
                    self.register_parameter(f"{name}_l{layer}{end}", value)

    def forward(self, x: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """As torch.nn.LSTM.forward, with lengths in place of packed sequences."""
        x = x if self.batch_first else x.transpose(0, 1)
        first = [None, None] if state is None else [state, None] if isinstance(state, Tensor) else list(state)
        finals: list[list[Tensor]] = [[], []]
        for layer in range(self.num_layers):
            outputs = []
            for end in self.ends:
                begin = [None if one is None else one[len(finals[0])] for one in first]
                given = steps.turned(x, lengths) if end else x
                y, final = self._run(given, begin, lengths, f"_l{layer}{end}")
                outputs.append(steps.turned(y, lengths) if end else y)
                for kept, one in zip(finals, final, strict=False):
                    kept.append(one)
            x = torch.cat(outputs, -1)
            if self.config["dropout"] and layer + 1 < self.num_layers:
                x = nn.functional.dropout(x, self.config["dropout"], self.training)
        last = tuple(torch.stack(one) for one in finals if one)
        return (x if self.batch_first else x.transpose(0, 1)), (last if len(last) > 1 else last[0])

    def _run(self, x: Tensor, begin: list[Any], lengths: Tensor | None, end: str) -> tuple[Tensor, list[Tensor]]:
        units = self.config.get("proj_size") or self.hidden_size
        sizes = (units, self.hidden_size) if self.kind == "LSTM" else (units,)
        state = [x.new_zeros(x.shape[0], size) if one is None else one for one, size in zip(begin, sizes, strict=False)]
        fed = nn.functional.linear(x, self._own("weight_ih", end), self._own("bias_ih", end))
        outputs = []
        for step in range(x.shape[1]):
            new = self._cell(fed[:, step], state, end)
            if lengths is not None:
                there = (step < lengths)[:, None]
                new = [torch.where(there, one, old) for one, old in zip(new, state, strict=True)]
            state = new
            outputs.append(state[0])
        return (torch.stack(outputs, 1) if outputs else x.new_zeros(x.shape[0], 0, units)), state

    def _own(self, name: str, end: str) -> Any:
        return getattr(self, name + end, None)

    def _cell(self, fed: Tensor, state: list[Tensor], end: str) -> list[Tensor]:
        """The new state after one step; `fed` holds the gates' products with x."""
        config, h = self.config, state[0]
        act = _function(config.get("activation", "tanh"))
        gate = _function(config.get("recurrent_activation", "sigmoid"))
        if self.kind.startswith("Min"):
            return [self._scan_cell(fed, h)]
        if self.kind == "GRU" and not config["reset_after"]:
            return [self._reset_before(fed, h, end, act, gate)]
        own = nn.functional.linear(h, self._own("weight_hh", end), self._own("bias_hh", end))
        if self.kind == "RNN":
            return [_function(config["nonlinearity"])(fed + own)]
        if self.kind == "GRU":
            (r, z, n), (hr, hz, hn) = fed.chunk(3, 1), own.chunk(3, 1)
            z = gate(z + hz)
            return [(1 - z) * act(n + gate(r + hr) * hn) + z * h]
        return self._lstm(fed + own, state, end, act, gate)

    def _lstm(self, sums: Tensor, state: list[Tensor], end: str, act: Any, gate: Any) -> list[Tensor]:
        i, f, g, o = sums.chunk(4, 1)
        c, peepholes = state[1], self._own("weight_peephole", end)
        if peepholes is not None:
            p_i, p_f, p_o = peepholes.chunk(3)
            i, f = i + p_i * c, f + p_f * c
        c = gate(f) * c + gate(i) * act(g)
        if self.config["cell_clip"] is not None:
            c = c.clamp(-self.config["cell_clip"], self.config["cell_clip"])
        if peepholes is not None:
            o = o + p_o * c
        output = self.config.get("output_activation")
        h = gate(o) * (act if output is None else _function(output))(c)
        projection = self._own("weight_hr", end)
        return [h if projection is None else nn.functional.linear(h, projection), c]

    def _reset_before(self, fed: Tensor, h: Tensor, end: str, act: Any, gate: Any) -> Tensor:
        size, weight, bias = self.hidden_size, self._own("weight_hh", end), self._own("bias_hh", end)
        parts = (None, None) if bias is None else (bias[: 2 * size], bias[2 * size :])
        r, z = gate(fed[:, : 2 * size] + nn.functional.linear(h, weight[: 2 * size], parts[0])).chunk(2, 1)
        n = act(fed[:, 2 * size :] + nn.functional.linear(r * h, weight[2 * size :], parts[1]))
        return (1 - z) * n + z * h

    def _scan_cell(self, fed: Tensor, h: Tensor) -> Tensor:
        *gates, n = fed.chunk(2 if self.kind == "MinGRU" else 3, 1)
        if self.config["positive"]:
            n = torch.where(n >= 0, n + 0.5, torch.sigmoid(n))
        if self.kind == "MinGRU":
            z = torch.sigmoid(gates[0])
            return (1 - z) * h + z * n
        f, i = (torch.sigmoid(one) for one in gates)
        return f / (f + i) * h + i / (f + i) * n
