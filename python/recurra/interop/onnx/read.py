"""`recurra.from_onnx`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from recurra.common import checks
from recurra.common.errors import ModelFormatError
from recurra.interop.onnx import evaluate
from recurra.interop.onnx import states as pairing
from recurra.interop.onnx.fold import bind, fold
from recurra.interop.onnx.fuse import fuse
from recurra.interop.onnx.graph import Graph, parse
from recurra.interop.onnx.model import OnnxModel
from recurra.interop.onnx.unrolled import roll
from recurra.saving import whole_file

#: The maximum size of a file, that of protocol buffers.
_LARGEST = (1 << 31) - 1


def from_onnx(
    source: str | os.PathLike[str] | bytes,
    /,
    *,
    states: Mapping[str, str] | None = None,
    round_activations: bool = False,
    **constants: npt.ArrayLike,
) -> OnnxModel:
    """Read an ONNX model: recurrent nodes, convolutions and products become layers, other nodes run in numpy.

    Needs neither onnx nor onnxruntime.

        vad = rc.from_onnx("silero_vad.onnx", sr=16000)
        stream = vad.stream()
        probability = stream.step(window)  # (1, 512)

    Nodes with constant inputs are folded, and so is an If with a constant condition. Inputs whose next values are
    outputs (`h` and `hn`, `state` and `stateN`) become the model's state. `model.import_report()` tells what runs
    where.

    Args:
        source: a path, or a file's bytes. External weights are only read from the path's directory and below.
        states: for each state input, the output that holds its next value; None to find them, {} for none.
        round_activations: whether a DynamicQuantizeLSTM rounds x and h to 8 bits, with one scale for the whole batch,
            as onnxruntime does; it then runs in numpy. False makes it a layer of float32, whose outputs are closer to
            those of the model before it was quantised.
        constants: values to bind inputs of the graph to, by name: `sr=16000`, `W=weights`.

    Raises:
        ModelFormatError: the source is not an ONNX model or is damaged, or an operator or attribute is not supported;
            the message names the node.
        OSError: the file cannot be read.
        TypeError, ValueError: a name in `constants` is not an input of the graph, or the value does not fit it.

    Example:
        >>> rc.Sequential(rc.LSTM(8, 16), rc.Linear(16, 2)).to_onnx("small.onnx")
        >>> model = rc.from_onnx("small.onnx")
        >>> y, state = model(np.zeros((1, 20, 8), np.float32))
        >>> y.shape
        (1, 20, 2)
    """
    if isinstance(source, bytes | bytearray | memoryview):
        where, data, directory = "bytes", bytes(source), None
    else:
        where, data, directory = os.fspath(source), _file(source), Path(os.fspath(source)).parent
    rounds = checks.flag("from_onnx", "round_activations", round_activations)
    try:
        graph = bind(_understood(parse, data, directory), constants)
        folded = _understood(lambda: roll(fuse(fold(graph, rounds))))
        return OnnxModel(folded, pairing.pairs(folded, states))
    except ModelFormatError as error:
        raise ModelFormatError(f"from_onnx: {where}: {error}") from error.__cause__


def _understood(function: Callable[..., Graph], *args: Any) -> Graph:
    try:
        return function(*args)
    except ModelFormatError:
        raise
    except evaluate.BROKEN as error:
        raise ModelFormatError(
            f"got contents that do not make a model ({type(error).__name__}: {error}), expected what an exporter writes"
        ) from error


def _file(path: str | os.PathLike[str]) -> bytes:
    try:
        file, size = whole_file.open_regular("from_onnx", path)
    except ValueError as error:
        raise ModelFormatError(str(error)) from error
    with file:
        if size > _LARGEST:
            raise ModelFormatError(
                f"from_onnx: {os.fspath(path)}: got {size} bytes, expected at most {_LARGEST}; keep weights in files "
                "of their own"
            )
        return file.read(size)
