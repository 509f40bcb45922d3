"""The base class of models: a layer that describes its inputs and outputs."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from recurra.common.structure import Structure
from recurra.data.feed import InputInfo, OutputInfo
from recurra.layers.layer import Layer


class Trainable(Layer):
    """The base of all models."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """The dtype of parameters and outputs, float32 or float64."""

    @property
    @abstractmethod
    def structures(self) -> tuple[Structure, Structure]:
        """The structures of the inputs and of the outputs: a single value, a tuple or a dict."""

    @abstractmethod
    def input_infos(self) -> list[InputInfo]:
        """The properties of each input."""

    @abstractmethod
    def output_infos(self) -> list[OutputInfo]:
        """The properties of each output."""
