"""PyTorch, eager: the modules in their own (T, N, features) order, for steps also the cells, ragged batches packed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from engines import PARAMETERS, Array, Problem, Runner, several
from workloads import KINDS, Workload

MODULES: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
CELLS: dict[str, type[nn.RNNCellBase]] = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}


class TorchEngine:
    name = "torch"
    version = torch.__version__
    kinds = KINDS

    def set_num_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def runners(self, problem: Problem) -> list[Runner]:
        workload = problem.workload
        module = MODULES[workload.cell](
            workload.input_size, workload.hidden_size, workload.num_layers, bidirectional=workload.bidirectional
        )
        module.load_state_dict({name: torch.from_numpy(value) for name, value in problem.weights.items()})
        x = torch.from_numpy(problem.x).transpose(0, 1).contiguous()
        if workload.kind == "step":
            return [_module_step(module, x, workload), _cell_step(problem, x[0])]
        if workload.kind == "sequence":
            return [_padded(module, x, problem.lengths)]
        if workload.kind == "ragged":
            return [_padded(module, x, problem.lengths), _packed(module, x, problem.lengths)]
        x.requires_grad_(problem.input_grad)
        packed = [_packed_training(module, x, problem)] if workload.ragged else []
        return [_training(module, x, problem), *packed]


def _module_step(module: nn.RNNBase, x: torch.Tensor, workload: Workload) -> Runner:
    state: Any = None

    def run() -> torch.Tensor:
        nonlocal state
        y, state = module(x, state)
        return y

    def result() -> Array:
        nonlocal state
        state = None
        return _numpy(several(workload, run)[0])

    return Runner("module", run, result, torch.inference_mode)


def _cell_step(problem: Problem, x: torch.Tensor) -> Runner:
    workload = problem.workload
    cells = []
    for layer, features in enumerate(workload.layer_input_sizes):
        cell = CELLS[workload.cell](features, workload.hidden_size)
        cell.load_state_dict({name: torch.from_numpy(problem.weights[f"{name}_l{layer}"]) for name in PARAMETERS})
        cells.append(cell)
    lstm = workload.cell == "lstm"
    states: list[Any] = [None] * len(cells)

    def run() -> torch.Tensor:
        h = x
        for layer, cell in enumerate(cells):
            states[layer] = state = cell(h, states[layer])
            h = state[0] if lstm else state
        return h

    def result() -> Array:
        states[:] = [None] * len(cells)
        return _numpy(several(workload, run))

    return Runner("cells", run, result, torch.inference_mode)


def _training(module: nn.RNNBase, x: torch.Tensor, problem: Problem) -> Runner:
    dy = torch.from_numpy(problem.dy).transpose(0, 1).contiguous()

    def run() -> None:
        _clear_gradients(module, x)
        module(x)[0].backward(dy)

    return Runner("forward, backward", run, lambda: _weight_gradient(module, run))


def _padded(module: nn.RNNBase, x: torch.Tensor, lengths: Array) -> Runner:
    """All steps of all rows, also those past the lengths."""
    last, rows = torch.from_numpy(lengths) - 1, torch.arange(len(lengths))
    return Runner("module", lambda: module(x), lambda: _numpy(module(x)[0][last, rows]), torch.inference_mode)


def _packed(module: nn.RNNBase, x: torch.Tensor, lengths: Array) -> Runner:
    """Packing is part of the work: batches of sequences come padded."""
    rows = torch.from_numpy(lengths)

    def run() -> Any:
        return module(pack_padded_sequence(x, rows, enforce_sorted=False))

    def result() -> Array:
        states = run()[1]
        return _numpy((states[0] if isinstance(states, tuple) else states)[-1])  # the last valid output of each row

    return Runner("packed", run, result, torch.inference_mode, variant="packed")


def _packed_training(module: nn.RNNBase, x: torch.Tensor, problem: Problem) -> Runner:
    """The gradient of the packed output is given packed, so that only the input is packed in the measured time."""
    rows = torch.from_numpy(problem.lengths)
    dy = torch.from_numpy(problem.dy).transpose(0, 1)
    packed_dy = pack_padded_sequence(dy, rows, enforce_sorted=False).data

    def run() -> None:
        _clear_gradients(module, x)
        module(pack_padded_sequence(x, rows, enforce_sorted=False))[0].data.backward(packed_dy)

    return Runner("packed", run, lambda: _weight_gradient(module, run), variant="packed")


def _clear_gradients(module: nn.RNNBase, x: torch.Tensor) -> None:
    module.zero_grad(set_to_none=True)
    x.grad = None


def _weight_gradient(module: nn.RNNBase, run: Callable[[], None]) -> Array:
    run()
    gradient = module.get_parameter("weight_ih_l0").grad
    assert gradient is not None
    return _numpy(gradient)


def _numpy(tensor: torch.Tensor) -> Array:
    return tensor.detach().clone().numpy()
