"""Reads Keras' files and models."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from recurra.common import checks, initialise
from recurra.common.errors import ModelFormatError
from recurra.interop.keras import attention, images, merging, plain, recurrent, windows
from recurra.interop.keras.build import Builder
from recurra.interop.keras.files import LONGEST_CONFIG, damage_told, open_source, parsed
from recurra.interop.keras.source import Source, refused
from recurra.interop.keras.weights import LiveWeights
from recurra.models.model import Model
from recurra.saving import whole_file

__all__ = [
    "attention",
    "from_keras",
    "images",
    "merging",
    "plain",
    "recurrent",
    "windows",
]  # imported to register their converters


def from_keras(source: Any, *, config: Any = None, skip_padding: bool = False) -> Model:
    """Convert a Sequential or functional model of Keras to the equivalent model, with copies of its weights.

        model = rc.from_keras("tagger.keras")
        y, states = model(tokens)

    Reads `.keras` archives and HDF5 files (`.h5`) of Keras 1, 2 and 3, with h5py but without Keras or TensorFlow, and
    live models. No code in a file is run: Lambda layers and custom classes are refused by name. docs/from_keras.md
    lists the layers and the differences.

    As in Keras, inputs followed by a Masking or an Embedding(mask_zero=True) mark padding by its value; lengths or a
    mask given to a call take precedence. Outputs are 0 at padding.

    Args:
        source: a file's path, or a keras.Model.
        config: for a file of weights only (`save_weights`), the model's description: the path of a JSON file,
            `model.to_json()` itself, or a dict of that form. None if the file has it.
        skip_padding: whether layers that read masked steps in Keras, such as convolutions and GlobalMaxPooling1D after
            a mask, skip them here, with different results; False refuses such a model.

    Raises:
        ModelFormatError: the file is damaged or incomplete; or a layer or option without a counterpart here, which the
            message names.
        TypeError: `source` is not a path or a model.
        ImportError: h5py is not installed.
        OSError: the file cannot be read.

    Example:
        >>> model = rc.from_keras("model.keras")  # Input((20, 3)) and Dense(4)
        >>> y, states = model(np.ones((2, 20, 3), np.float32))
        >>> y.shape
        (2, 20, 4)
    """
    skip_padding = checks.flag("from_keras", "skip_padding", skip_padding)
    if isinstance(source, str | os.PathLike):
        path = checks.path("from_keras", "source", source)
        with open_source(path, _described(config)) as opened:
            return _built(opened, skip_padding)
    if config is not None:
        raise TypeError("from_keras: got config= with a live model, expected it with the path of its weights; drop it")
    if not (hasattr(source, "to_json") and hasattr(source, "layers") and hasattr(source, "get_weights")):
        raise TypeError(
            f"from_keras: got {type(source).__name__}, expected a path or a keras.Model; give the path of a .keras or "
            ".h5 file"
        )
    with damage_told(str(getattr(source, "name", "model"))):
        config = parsed(source.to_json())
        package = sys.modules.get(type(source).__module__.partition(".")[0])
        version = config.get("keras_version") or getattr(package, "__version__", "3")
        return _built(Source(config, str(version), LiveWeights(source)), skip_padding)


def _described(config: Any) -> Mapping[str, Any] | None:
    if config is None or isinstance(config, Mapping):
        return config
    if isinstance(config, str) and config.lstrip().startswith("{"):
        with damage_told("config"):
            return parsed(config)
    path = checks.path("from_keras", "config", config)
    try:
        file, size = whole_file.open_regular("from_keras", path)
    except ValueError as error:
        raise ModelFormatError(str(error)) from error
    with file, damage_told(path):
        if size > LONGEST_CONFIG:
            raise refused(f"got a configuration of {size} bytes, expected at most {LONGEST_CONFIG}")
        return parsed(file.read(size))


def _built(source: Source, skip_padding: bool) -> Model:
    with initialise.drawing(False):
        return Builder(source, skip_padding).model()
