"""The grid that `compare.py` measures: shapes of published and deployed recurrent models."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

GATES = {"rnn": 1, "lstm": 4, "gru": 3}  # rnn: tanh; gru: the reset-after form, as in PyTorch

KINDS = ("step", "sequence", "training", "ragged", "ragged training")


@dataclass(frozen=True)
class Workload:
    """One row of the grid.

    kind: "step" (one time step a call, the state kept from call to call), "sequence" (whole sequences, forward, from
    the zero state), "training" (forward and backward of all parameters), "ragged" or "ragged training" (the same two
    with sequences of many lengths in a batch; `steps` is the longest).
    """

    kind: str
    cell: str
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    batch: int
    steps: int
    short: bool = False  # part of the quick form that continuous integration runs

    @property
    def trains(self) -> bool:
        return self.kind in ("training", "ragged training")

    @property
    def ragged(self) -> bool:
        return self.kind in ("ragged", "ragged training")

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def layer_input_sizes(self) -> list[int]:
        """The number of features that each layer reads."""
        return [self.input_size] + [self.directions * self.hidden_size] * (self.num_layers - 1)

    def flops(self, input_grad: bool = False) -> float:
        """In products, a multiply-add being two."""
        return self.directions * sum(self.flops_by_layer(input_grad))

    def flops_by_layer(self, input_grad: bool) -> list[float]:
        """Of each layer, in one direction."""
        rows = 2 * GATES[self.cell] * self.hidden_size * self.batch * self.steps
        return [
            rows * self._products(features, input_grad=input_grad or layer > 0)
            for layer, features in enumerate(self.layer_input_sizes)
        ]

    def _products(self, features: int, input_grad: bool) -> int:
        """Numbers that a row of a gate's weights meets in a step: in the product, and for training in dW, dh and dx."""
        forward = features + self.hidden_size
        if not self.trains:
            return forward
        return 2 * forward + self.hidden_size + (features if input_grad else 0)

    @property
    def name(self) -> str:
        """What `--only` matches, such as "sequence lstm 512-128 x2 bi 8x32"."""
        parts = [self.kind, self.cell, f"{self.input_size}-{self.hidden_size}"]
        parts += [f"x{self.num_layers}"] if self.num_layers > 1 else []
        parts += ["bi"] if self.bidirectional else []
        return " ".join([*parts, f"{self.batch}x{self.steps}"])


def _step(cell: str, sizes: tuple[int, int], layers: int = 1, batch: int = 1, short: bool = False) -> Workload:
    return Workload("step", cell, *sizes, layers, False, batch, 1, short)


def _sequence(
    cell: str, sizes: tuple[int, int], batch: int, steps: int, layers: int = 1, both: bool = False, short: bool = False
) -> Workload:
    return Workload("sequence", cell, *sizes, layers, both, batch, steps, short)


def _training(
    cell: str, sizes: tuple[int, int], batch: int, steps: int, layers: int = 1, both: bool = False, short: bool = False
) -> Workload:
    return Workload("training", cell, *sizes, layers, both, batch, steps, short)


RAGGED = [("lstm", (64, 128), 64, 200), ("gru", (64, 128), 64, 200), ("lstm", (32, 128), 256, 365)]

WORKLOADS = [
    _step("lstm", (1, 32), short=True),
    _step("gru", (13, 20)),
    _step("lstm", (48, 40), layers=2, short=True),
    _step("lstm", (128, 128), short=True),
    _step("lstm", (257, 128), layers=2),
    _step("lstm", (64, 256)),
    _step("gru", (256, 256), layers=3),
    _step("gru", (512, 512), layers=2),
    _step("lstm", (128, 128), batch=64),
    _sequence("lstm", (48, 32), 1, 31, both=True, short=True),
    _sequence("lstm", (128, 128), 1, 512),
    _sequence("lstm", (1, 40), 1, 2048, short=True),
    _sequence("lstm", (512, 128), 8, 32, layers=2, both=True),
    _sequence("lstm", (60, 128), 32, 293, layers=4, both=True),
    _sequence("lstm", (512, 256), 1, 255, layers=3, both=True),
    _sequence("lstm", (240, 1024), 8, 100, layers=2),
    _sequence("rnn", (128, 256), 32, 100, short=True),
    _sequence("gru", (512, 1024), 64, 30),
    _training("lstm", (1, 24), 16, 512, short=True),
    _training("lstm", (48, 40), 32, 168, layers=2),
    _training("lstm", (32, 128), 256, 365),
    _training("gru", (6, 64), 800, 20, layers=2),
    _training("gru", (100, 100), 32, 1, short=True),
    _training("lstm", (512, 128), 64, 32, layers=2, both=True),
    _training("lstm", (128, 128), 256, 16),
    _training("rnn", (128, 256), 32, 100),
    _training("lstm", (512, 512), 32, 64, layers=2),
    _training("gru", (256, 512), 32, 64, short=True),
    _training("lstm", (400, 1150), 20, 70),
    *(
        Workload(kind, cell, *sizes, 1, False, batch, steps)
        for kind in ("ragged", "ragged training")
        for cell, sizes, batch, steps in RAGGED
    ),
]

MOST_WORK = 4e9  # floating-point operations of a drawn workload's products


def drawn(count: int, seed: int) -> list[Workload]:
    """`count` sequences and as many trainings that nobody chose: every size is log-uniform, and larger work drawn
    again.

    1 or 2 layers, all cells, one direction or both, inputs and hidden units from 8 to 1024, 1 to 128 rows, 1 to 256
    steps.
    """
    rng = np.random.default_rng(seed)

    def size(least: int, most: int) -> int:
        return round(math.exp(rng.uniform(math.log(least), math.log(most))))

    def draw(kind: str) -> Workload:
        cell = str(rng.choice(list(GATES)))
        return Workload(
            kind,
            cell,
            size(8, 1024),
            size(8, 1024),
            int(rng.integers(1, 3)),
            bool(rng.integers(2)),
            size(1, 128),
            size(1, 256),
        )

    workloads = []
    for kind in ("sequence", "training"):
        while sum(workload.kind == kind for workload in workloads) < count:
            workload = draw(kind)
            if workload.flops() <= MOST_WORK:
                workloads.append(workload)
    return workloads
