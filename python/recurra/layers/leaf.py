"""A layer that holds its own parameters: native, or written in Python."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recurra import _core
from recurra.common import checks
from recurra.common.structure import ALONE, Structure
from recurra.common.typing import Array
from recurra.graph.graph import Graph, Port
from recurra.layers.layer import Layer
from recurra.running.runner import Runner

if TYPE_CHECKING:
    from recurra.graph.symbolic import Symbol


class LeafLayer(Layer):
    """The base of all layers that are not models."""

    made_of_layers = False
    #: Whether it runs in the native core.
    native: bool = True
    #: Whether the input must have a time axis.
    needs_sequences: bool = False
    #: Of a layer that makes a sequence of each vector: its steps. Other layers have the time axis of their input, or none.
    made_steps: int | None = None
    #: Whether several inputs are one sequence in parts, or vectors all of them; else the others have time axes of their own.
    joins: bool = False
    #: Whether step t of the output belongs to step t of the input, where both have a time axis.
    keeps_steps: bool = True
    #: Whether steps may be left out between others: nothing is learnt from which steps are neighbours, but their order.
    allows_holes: bool = True
    #: How many inputs a call takes, in a tuple if there are several; 0: two or more.
    num_inputs: int = 1
    #: The arrays of its state.
    state_names: tuple[str, ...] = ()
    #: What `trainable` reads and sets.
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
        """What is changed as one: the parameters, and native buffers."""
        return [self.parameters]

    @property
    def leaves(self) -> Sequence[tuple[str, LeafLayer]]:
        """The layer itself."""
        return [("", self)]

    def _graph(self, inputs: int = 1) -> Graph:
        """The layer alone, at work on so many inputs."""
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
        """How many inputs x has; where there is none to look at, the fewest."""
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

    def state_zeros(self, batch_size: int) -> list[Array]:
        """The arrays of a state at rest."""
        return []

    def output_features(self, features: int | None) -> int | None:
        """Features of the output for an input of `features` (None: not known)."""
        return self.output_size

    def joined_features(self, features: Sequence[int | None]) -> int | None:
        """The same for inputs of so many each."""
        return self.output_features(features[0])

    def check_other(self, index: int, first: Symbol, other: Symbol) -> None:
        """Refuse what does not fit as input `index`, from 1, beside the first one."""

    def output_lengths(self, lengths: Array | None) -> Array | None:
        """The lengths as they are; None if the time axis ends here. Of a layer that makes a time axis: those that it made."""
        if lengths is None:
            return None
        valid = checks.valid_steps(f"{self.label}.output_lengths", lengths)
        return valid if self.return_sequences else None

    def output_reset(self, reset: Array | None, lengths: Array | None) -> Array | None:
        """Where the output's episodes start, given the input's; None if the time axis ends here."""
        return reset if self.return_sequences else None

    def why_not_streamable(self) -> str | None:
        """Why the layer cannot run step by step, to follow "it", and what to do; None if it can."""
        return None
