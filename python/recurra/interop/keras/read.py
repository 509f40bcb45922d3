"""From Keras' files and models to the same models here."""

from __future__ import annotations

import os
import sys
from typing import Any

from recurra.common import checks, initialise
from recurra.interop.keras import attention, merging, plain, recurrent, windows
from recurra.interop.keras.build import Builder
from recurra.interop.keras.files import damage_told, major_of, open_source, parsed
from recurra.interop.keras.source import Source
from recurra.interop.keras.weights import LiveWeights
from recurra.models.model import Model

__all__ = [
    "attention",
    "from_keras",
    "merging",
    "plain",
    "recurrent",
    "windows",
]  # whose import enters their converters


def from_keras(source: Any, *, skip_padding: bool = False) -> Model:
    """A Sequential or functional model of Keras as the same model here, with copies of its weights.

        model = rc.from_keras("tagger.keras")
        y, states = model(tokens)

    Reads `.keras` archives and HDF5 files (`.h5`) of Keras 1, 2 and 3, which needs h5py and neither Keras nor TensorFlow, and
    models that are there. Nothing in a file is run: Lambda layers and classes of one's own are refused by name. docs/from_keras.md has
    the list of layers, and what differs.

    Inputs with a Masking or an Embedding(mask_zero=True) behind them tell their padding by their values, as in Keras; a call with lengths
    or a mask says it better. At padded steps outputs are 0.

    Args:
        source: the path of a file, or a keras.Model.
        skip_padding: whether layers that read masked steps in Keras, as convolutions and GlobalMaxPooling1D behind a mask do,
            leave them out here, with other results; False refuses such a model.

    Raises:
        ModelFormatError: the file is damaged, or asks for what is not there; a layer or an option that has no counterpart here, by
            its name.
        TypeError: something else than a path or a model.
        ImportError: h5py is missing.
        OSError: the file cannot be read.
    """
    skip_padding = checks.flag("from_keras", "skip_padding", skip_padding)
    if isinstance(source, str | os.PathLike):
        path = checks.path("from_keras", "source", source)
        with open_source(path) as opened:
            return _built(opened, skip_padding)
    if not (hasattr(source, "to_json") and hasattr(source, "layers") and hasattr(source, "get_weights")):
        raise TypeError(
            f"from_keras: got {type(source).__name__}, expected a path or a keras.Model; give the path of a .keras or .h5 file"
        )
    with damage_told(str(getattr(source, "name", "model"))):
        config = parsed(source.to_json())
        package = sys.modules.get(type(source).__module__.partition(".")[0])
        version = config.get("keras_version") or getattr(package, "__version__", "3")
        return _built(Source(config, major_of(str(version)), LiveWeights(source)), skip_padding)


def _built(source: Source, skip_padding: bool) -> Model:
    with initialise.drawing(False):
        return Builder(source, skip_padding).model()
