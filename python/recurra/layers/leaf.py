"""The base of layers that hold their own parameters, native or written in Python."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recurra import _core
from recurra.common import checks, keywords
from recurra.common.structure import ALONE, Structure
from recurra.common.typing import Array
from recurra.graph.graph import Graph, Port
from recurra.layers.layer import Layer
from recurra.running.runner import Runner
from recurra.running.tape import Tape

if TYPE_CHECKING:
    from recurra.graph.symbolic import Symbol


class LeafLayer(Layer):
    """The base of all layers that are not models."""

    made_of_layers = False
    #: Whether it runs in the native core.
    native: bool = True
    #: Whether the input must have a time axis.
    needs_sequences: bool = False
    #: Steps that a layer makes of each vector; None for layers whose output has the input's time axis, or none.
    made_steps: int | None = None
    #: Whether all inputs share one time axis, or are all vectors; otherwise each further input has its own time axis.
    joins: bool = False
    #: Whether step t of the output corresponds to step t of the input, where both have a time axis.
    keeps_steps: bool = True
    #: Whether a mask may leave out steps between valid ones: the layer uses the order of steps, not their distance.
    allows_holes: bool = True
    #: Inputs of a call, in a tuple if there are several; 0 means two or more.
    num_inputs: int = 1
    #: Names of the state's arrays.
    state_names: tuple[str, ...] = ()
    #: The value behind `trainable`.
    is_trainable: bool = True

    @property
    @abstractmethod
    def parameters(self) -> _core.Parameters:
        """All parameters in one flat buffer, their gradients in another."""

    @property
    def own_buffers(self) -> Mapping[str, Array]:
        """The arrays behind `buffers`."""
        return {}

    @property
    def all_parameters(self) -> list[_core.Parameters]:
        """What is written atomically: the parameters and native buffers."""
        return [self.parameters]

    @property
    def leaves(self) -> Sequence[tuple[str, LeafLayer]]:
        """The layer itself."""
        return [("", self)]

    def _graph(self, inputs: int = 1) -> Graph:
        """The graph of this layer alone, with `inputs` inputs."""
        axis = "either" if self.made_steps is None else "vector"
        port = Port(self.input_kind, self.input_size, axis)
        others = [Port()] * (inputs - 1)
        return Graph([port, *others], [(self, range(inputs), [])], [inputs])

    @cached_property
    def _runners(self) -> dict[int, Runner]:
        return {}

    def _runner(self, x: Any = None) -> Runner:
        count = self.num_inputs
        if count != 1:
            count = self._count_inputs(x)
        return self._runners.get(count) or self._make_runner(count)

    def _count_inputs(self, x: Any) -> int:
        """The number of inputs in `x`; the least allowed if x is None."""
        wanted = self.num_inputs
        if x is None:
            return wanted or 2
        if not isinstance(x, tuple) or (len(x) < 2 if wanted == 0 else len(x) != wanted):
            got = f"a tuple of {len(x)}" if isinstance(x, tuple) else type(x).__name__
            raise TypeError(
                f"{self.label}: got {got} as x, expected a tuple of {wanted or 'two or more'} inputs; write (a, b)"
            )
        return len(x)

    def _make_runner(self, count: int) -> Runner:
        inputs = ALONE if count == 1 else Structure(count)
        time_major = not getattr(self, "batch_first", True)
        made = Runner(self.label, self._graph(count), alone=True, inputs=inputs, time_major=time_major)
        self._runners[count] = made
        return made

    @keywords.explained_method
    def open_tape(self, memory: Any) -> Tape[Any]:
        """As of every layer; of one that takes any number of inputs, with as many as the tape was recorded with."""
        if self.num_inputs:
            return super().open_tape(memory)
        known, problems = list(self._runners), []
        for count in dict.fromkeys((*known, *range(2, 33))):  # the bytes only tell whether it is the right number
            try:
                return (self._runners.get(count) or self._make_runner(count)).open_tape(memory)
            except ValueError as error:
                problems.append(error)
                if count not in known:
                    del self._runners[count]
        raise problems[0]

    def state_zeros(self, batch_size: int) -> list[Array]:
        """The arrays of a zero state."""
        return []

    def output_features(self, features: int | None) -> int | None:
        """Features of the output for an input of `features` (None: not known)."""
        return self.output_size

    def joined_features(self, features: Sequence[int | None]) -> int | None:
        """Features of the output for several inputs, given the features of each."""
        return self.output_features(features[0])

    def check_other(self, index: int, first: Symbol, other: Symbol) -> None:
        """Raise if `other` does not fit as input `index` (from 1) beside `first`."""

    def output_lengths(self, lengths: Array | None) -> Array | None:
        """The output's lengths: those of the input by default; None if the output has no time axis."""
        if lengths is None:
            return None
        valid = checks.valid_steps(f"{self.label}.output_lengths", lengths)
        return valid if self.return_sequences else None

    def output_reset(self, reset: Array | None, lengths: Array | None) -> Array | None:
        """The output's `reset`, given the input's; None if the output has no time axis."""
        return reset if self.return_sequences else None

    def why_not_streamable(self) -> str | None:
        """Why the layer cannot stream and what to do, as the predicate of a sentence; None if it can."""
        return None
