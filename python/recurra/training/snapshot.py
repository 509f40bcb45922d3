"""Checkpoint files: a model file that also holds the state of training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.layers.layer import Layer
from recurra.saving import files

#: The key that stands for an array in the JSON.
_ARRAY = "array of the file"


def pack(model: Layer, state: Mapping[str, Any]) -> bytes:
    """The content of a file: the model as `save` writes it, and `state`, plain data and arrays."""
    arrays: dict[str, Array] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            name = f"{files.TRAINING}{len(arrays)}"
            if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
                raise TypeError(f"an array of {value.dtype}")
            arrays[name] = np.require(value, requirements="C")  # unlike ascontiguousarray, this keeps shape ()
            return {_ARRAY: name}
        if isinstance(value, Mapping):
            if not all(isinstance(key, str) for key in value):
                raise TypeError(f"the keys {list(value)!r:.100}, which are not all strings")
            return {key: plain(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        return value.item() if isinstance(value, np.generic) else value

    try:
        text = json.dumps(plain(state))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"fit: got a state that a checkpoint cannot hold ({error}), expected arrays and plain data; change what "
            f"state_dict() of your callback or metric returns"
        ) from error
    return b"".join(files.content("fit", model, arrays, {"training": text}))


def unpack(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """The model's parameters and buffers, and the state of training."""
    arrays, metadata, _whole = files.read("fit", path)

    def restored(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {_ARRAY}:
                return arrays[value[_ARRAY]]
            return {key: restored(one) for key, one in value.items()}
        return [restored(one) for one in value] if isinstance(value, list) else value

    try:
        state = restored(json.loads(metadata["training"]))
    except (LookupError, ValueError, TypeError, RecursionError) as error:
        raise ModelFormatError(
            f"fit: {os.fspath(path)}: got a file without a state of training, expected one by BackupAndRestore; delete "
            f"it, or choose another directory ({type(error).__name__}: {error})"
        ) from error
    model = {name: array for name, array in arrays.items() if not name.startswith(files.TRAINING)}
    return model, state
