"""PyTorch, eager: the modules in their own (T, N, features) order and, for steps, the cells."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from engines import PARAMETERS, Array, Problem, Runner

MODULES: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
CELLS: dict[str, type[nn.RNNCellBase]] = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}


class TorchEngine:
    name = "torch"
    version = torch.__version__

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
            return [_module_step(module, x), _cell_step(problem, x[0])]
        if workload.kind == "sequence":
            return [Runner("module", lambda: module(x), lambda: _numpy(module(x)[0][-1]), torch.inference_mode)]
        return [_training(module, x.requires_grad_(problem.input_grad), problem)]


def _module_step(module: nn.RNNBase, x: torch.Tensor) -> Runner:
    state: Any = None

    def run() -> torch.Tensor:
        nonlocal state
        y, state = module(x, state)
        return y

    def result() -> Array:
        nonlocal state
        state = None
        return _numpy(run()[0])

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
        return _numpy(run())

    return Runner("cells", run, result, torch.inference_mode)


def _training(module: nn.RNNBase, x: torch.Tensor, problem: Problem) -> Runner:
    dy = torch.from_numpy(problem.dy).transpose(0, 1).contiguous()

    def run() -> None:
        module.zero_grad(set_to_none=True)
        x.grad = None
        module(x)[0].backward(dy)

    def result() -> Array:
        run()
        gradient = module.get_parameter("weight_ih_l0").grad
        assert gradient is not None
        return _numpy(gradient)

    return Runner("forward, backward", run, result)


def _numpy(tensor: torch.Tensor) -> Array:
    return tensor.detach().clone().numpy()
