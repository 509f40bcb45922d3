"""A layer that holds its own parameters: native, or written in Python."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recurra import _core
from recurra.chain import Chain
from recurra.layer import Layer
from recurra.typing import Array

if TYPE_CHECKING:
    from recurra.chain import Program


class LeafLayer(Layer):
    """The base of all layers that are not models."""

    #: Whether it runs in the native core.
    native: bool = True
    #: Whether the input must have a time axis.
    needs_sequences: bool = False
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
    def leaves(self) -> Sequence[tuple[str, LeafLayer]]:
        """The layer itself."""
        return [("", self)]

    @cached_property
    def _chain(self) -> Chain:
        return Chain(self.label, self.leaves, alone=True, time_major=not getattr(self, "batch_first", True))

    @classmethod
    @abstractmethod
    def program(cls, owner: str, layers: Sequence[Any]) -> Program:
        """What runs these neighbours, all of this kind; messages begin with `owner`."""

    def state_zeros(self, batch_size: int) -> list[Array]:
        """The arrays of a state at rest."""
        return []

    def output_features(self, features: int | None) -> int | None:
        """Features of the output for an input of `features` (None: not known)."""
        return self.output_size

    def output_lengths(self, lengths: Array | None) -> Array | None:
        """The lengths as they are; None if the time axis ends here."""
        return lengths if self.return_sequences else None

    def why_not_streamable(self) -> str | None:
        """Why the layer cannot run step by step, to follow "it", and what to do; None if it can."""
        return None

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int | None:
        """How many numbers a layer of this configuration holds, found without making it; None if only it can tell."""
        return None
