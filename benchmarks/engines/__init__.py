"""The engines that `compare.py` knows: a new one is a module with an `Engine` in it, and a row in ENGINES."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from table import OURS
from workloads import GATES, Workload

Array = npt.NDArray[Any]
Result = TypeVar("Result")

CHECKED_STEPS = 4
LENGTH_SIGMA = 0.6  # of the lengths' logarithms in ragged batches
PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of a layer and direction, in PyTorch's order


@dataclass(frozen=True)
class Problem:
    """A workload with its numbers: the same ones for every engine."""

    workload: Workload
    weights: dict[str, Array]  # PyTorch's names, shapes and gate order
    x: Array  # (N, T, input_size)
    dy: Array  # (N, T, directions * hidden_size), 0 past the lengths
    lengths: Array  # (N,), all T unless the workload is ragged
    input_grad: bool  # training computes the gradient of x too


@dataclass(frozen=True)
class Runner:
    """One way in which an engine can do the work."""

    label: str
    run: Callable[[], object]  # the work, once: what is timed
    # The work from the zero state, for comparison: the last valid output of each row (N, features), in steps after
    # `several` of them, of training the gradient of weight_ih_l0. It is the first call, and warms the engine up.
    result: Callable[[], Array]
    context: Callable[[], AbstractContextManager[object]] = nullcontext  # entered around many calls of `run`
    variant: str = ""  # what it does otherwise, such as "dense", where that is to have a column of its own


class Engine(Protocol):
    name: str
    version: str
    kinds: Collection[str]  # of workloads: those that it may be able to do

    def set_num_threads(self, threads: int) -> None: ...

    def runners(self, problem: Problem) -> list[Runner]:
        """All ways that may be the fastest; none where the engine cannot do the work. Called for its kinds only."""
        ...


class KeepsThreads:
    """For engines that are told the number of threads with every model."""

    def __init__(self) -> None:
        self._threads = 1

    def set_num_threads(self, threads: int) -> None:
        self._threads = threads


ENGINES = {  # name: (module, class, what to pip install); ours first
    "recurra": ("engines.recurra_engine", "RecurraEngine", "'.[test]'"),
    "torch": ("engines.torch_engine", "TorchEngine", "'.[test]'"),
    "onnxruntime": ("engines.onnxruntime_engine", "OnnxRuntimeEngine", "'.[test]'"),
    "openvino": ("engines.openvino_engine", "OpenVinoEngine", "openvino onnx"),
    "MNN": ("engines.mnn_engine", "MnnEngine", "MNN onnx"),
    "ncnn": ("engines.ncnn_engine", "NcnnEngine", "ncnn"),
    "jax": ("engines.jax_engine", "JaxEngine", "jax"),
}


def load_engines(names: Sequence[str], threads: int) -> list[Engine]:
    """Ours and those named, in the order of ENGINES."""
    loaded: dict[str, Engine] = {}
    wanted = [name for name in ENGINES if name == OURS or name in names]
    for name in wanted:
        module, kind, packages = ENGINES[name]
        try:
            loaded[name] = getattr(import_module(module), kind)()
        except ImportError as error:
            raise SystemExit(f"benchmarks: {name} is missing ({error}); run: pip install {packages}") from error
        loaded[name].set_num_threads(threads)
    return [loaded[name] for name in wanted]


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
    lengths = np.full(workload.batch, workload.steps)
    if workload.ragged:
        lengths = ragged_lengths(rng, workload.batch, workload.steps)
        dy[np.arange(workload.steps) >= lengths[:, None]] = 0
    return Problem(workload, weights, x, dy, lengths, input_grad)


def ragged_lengths(rng: np.random.Generator, batch: int, steps: int) -> Array:
    """Log-normal, as the lengths of texts and recordings are: half of the padded area is filled, one row wholly.

    The scale is found by bisection, because the longest are cut off at `steps`.
    """
    draws = np.exp(LENGTH_SIGMA * rng.standard_normal(batch))
    draws /= draws.max()  # at the scale `steps`, the longest fills its row
    low, high = float(steps), steps / draws.min()
    if draws.mean() >= 0.5:
        high = low
    for _ in range(50):
        scale = (low + high) / 2
        low, high = (scale, high) if np.minimum(draws * scale, steps).mean() < steps / 2 else (low, scale)
    return np.clip(np.rint(draws * high), 1, steps).astype(np.int64)


def reorder_gates(value: Array, order: Sequence[int]) -> Array:
    """Rows of all gates, one gate after the other, in another order."""
    return np.concatenate([np.split(value, len(order))[gate] for gate in order])


def several(workload: Workload, run: Callable[[], Result]) -> Result:
    """What the last of some steps returns: the first alone does not show whether the state is kept."""
    for _ in range(CHECKED_STEPS if workload.kind == "step" else 1):
        result = run()
    return result
