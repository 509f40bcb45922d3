"""What gradients are made for: a layer that says what goes in and out."""

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
        """float32 or float64."""

    @property
    @abstractmethod
    def structures(self) -> tuple[Structure, Structure]:
        """How inputs and outputs are written."""

    @abstractmethod
    def input_infos(self) -> list[InputInfo]:
        """What each input takes."""

    @abstractmethod
    def output_infos(self) -> list[OutputInfo]:
        """What each output is."""
