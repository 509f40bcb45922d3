"""The base of layers computed by the native core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recurra import _core
from recurra.common import seeds
from recurra.common.initialise import is_drawing
from recurra.common.typing import Array
from recurra.layers.leaf import LeafLayer


class NativeLayer(LeafLayer):
    """Wraps a layer of the core; subclasses define its sizes and how its parameters are initialised."""

    def __init__(self, core: _core.Layer, seed: int | None) -> None:
        self._core = core
        self._parameters = core.parameters
        self._dtype = np.dtype(core.dtype)
        if is_drawing():
            self.reset_parameters(seed)
        self._drawn = (self._parameters.version, seed)

    @property
    def parameters(self) -> _core.Parameters:
        """All parameters in one flat buffer, their gradients in another."""
        return self._parameters

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._dtype

    @property
    def core(self) -> _core.Layer:
        """The core's layer."""
        return self._core

    @property
    def waits_for_seed(self) -> bool:
        """Whether a model's seed may initialise the parameters: no seed was given, and none was written since."""
        return self._drawn == (self._parameters.version, None)

    def reset_parameters(self, seed: int | None = None) -> None:
        """Reinitialise the parameters; the same seed gives the same values, None a fresh seed."""
        rng = seeds.generator(seeds.resolve(f"{self.label}.reset_parameters", seed))

        def draw() -> None:
            for name in self._parameters.names:
                self._parameters.assign(name, self._initial(rng, name).astype(self._dtype))

        _core.write_whole([self._parameters], draw)

    def _initial(self, rng: np.random.Generator, name: str) -> Array:
        """The initial value of the parameter `name`; override it where parameters are initialised differently."""
        return self._draw(rng, self._parameters.shape(name))

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """A random value of `shape`, distributed as in PyTorch; required of classes with parameters."""
        raise NotImplementedError(f"{self.label}._draw")


class NativeLayerSizedByInput(NativeLayer):
    """A layer that takes several numbers of features."""

    @property
    def input_size(self) -> None:
        """None: the input tells."""
        return None

    @property
    def output_size(self) -> None:
        """None: it depends on the input."""
        return None


class NativeLayerOfAnySize(NativeLayerSizedByInput):
    """A layer without parameters that takes any number of features."""

    def output_features(self, features: int | None) -> int | None:
        """The input's features."""
        return features

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int:
        """0: there are no parameters."""
        return 0


class NativeLayerOfChannels(NativeLayerSizedByInput):
    """A layer with parameters for each channel, which takes any multiple of the channels as features."""

    #: The argument that is the number of channels.
    _size_name: str

    def output_features(self, features: int | None) -> int | None:
        """The input's features, a multiple of the channels."""
        channels = getattr(self, self._size_name)
        if features is not None and features % channels:
            raise ValueError(
                f"{self.label}: got {features} features, expected a multiple of {self._size_name}={channels}, as each "
                f"position has so many; make the layer with one that divides {features}"
            )
        return features
