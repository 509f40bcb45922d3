"""The engines that `compare.py` knows: a new one is a module with an `Engine` in it, and a row in ENGINES."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from workloads import GATES, Workload

Array = npt.NDArray[Any]

PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of a layer and direction, in PyTorch's order


@dataclass(frozen=True)
class Problem:
    """A workload with its numbers: the same ones for every engine."""

    workload: Workload
    weights: dict[str, Array]  # PyTorch's names, shapes and gate order
    x: Array  # (N, T, input_size)
    dy: Array  # (N, T, directions * hidden_size)
    input_grad: bool  # training computes the gradient of x too


@dataclass(frozen=True)
class Runner:
    """One way in which an engine can do the work."""

    label: str
    run: Callable[[], object]  # the work, once: what is timed
    # The work from the zero state, for comparison: the last step's output (N, features), of training the gradient of
    # weight_ih_l0. It is the first call, and warms the engine up.
    result: Callable[[], Array]
    context: Callable[[], AbstractContextManager[object]] = nullcontext  # entered around many calls of `run`


class Engine(Protocol):
    name: str
    version: str

    def set_num_threads(self, threads: int) -> None: ...

    def runners(self, problem: Problem) -> list[Runner]:
        """All ways that may be the fastest; none where the engine cannot do the work."""
        ...


ENGINES = {  # name: (module, class); ours first
    "recurra": ("engines.recurra_engine", "RecurraEngine"),
    "torch": ("engines.torch_engine", "TorchEngine"),
    "onnxruntime": ("engines.onnxruntime_engine", "OnnxRuntimeEngine"),
}


def load_engines(threads: int) -> list[Engine]:
    """All of ENGINES, in its order.

    They are loaded in the reverse order. PyTorch and recurra share one OpenMP runtime, and who brings it in decides how
    long its threads wait for more work: so everybody runs under PyTorch's setting.
    """
    loaded: dict[str, Engine] = {}
    for name, (module, kind) in reversed(ENGINES.items()):
        try:
            loaded[name] = getattr(import_module(module), kind)()
        except ImportError as error:
            raise SystemExit(f"compare.py: {name} is missing ({error}); run: pip install '.[test]'") from error
        loaded[name].set_num_threads(threads)
    return [loaded[name] for name in ENGINES]


def make_problem(workload: Workload, input_grad: bool) -> Problem:
    """Weights as PyTorch draws them, uniform in +-1/sqrt(H); inputs and output gradients normal."""
    rng = np.random.default_rng(0)
    bound = workload.hidden_size**-0.5
    rows = GATES[workload.cell] * workload.hidden_size
    weights = {}
    for layer, features in enumerate(workload.layer_input_sizes):
        for direction in range(workload.directions):
            suffix = f"_l{layer}" + "_reverse" * direction
            shapes = [(rows, features), (rows, workload.hidden_size), (rows,), (rows,)]
            for name, shape in zip(PARAMETERS, shapes, strict=True):
                weights[name + suffix] = rng.uniform(-bound, bound, shape).astype(np.float32)
    x = rng.standard_normal((workload.batch, workload.steps, workload.input_size), np.float32)
    features = workload.directions * workload.hidden_size
    dy = rng.standard_normal((workload.batch, workload.steps, features), np.float32)
    return Problem(workload, weights, x, dy, input_grad)
