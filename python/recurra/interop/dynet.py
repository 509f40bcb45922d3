"""Reads the parameters in DyNet's text files, and the recurrent layers among them."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from recurra.common import checks
from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.interop.gate_orders import gates
from recurra.interop.named import read_layers
from recurra.interop.torch.parts import layers_of_parameters
from recurra.layers.leaf import LeafLayer
from recurra.saving import whole_file

_HEADER = re.compile(rb"#(Lookup)?Parameter# (\S+) \{(\d{1,9}(?:,\d{1,9}){0,6})\} (\d{1,18}) (?:ZERO|FULL)_GRAD\n")
_LONGEST_HEADER = 10_000
_BUILDER = re.compile(r"([a-z-]+)-builder(?:_(\d{1,6}))?")
#: Parameters of each layer of a builder.
_PER_LAYER = {"vanilla-lstm": 3, "compact-vanilla-lstm": 3, "gru": 9, "simple-rnn": 3}


def dynet_parameters(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The parameters in a text file of DyNet (`ParameterCollection.save`), by their full names, as "/birnn/..." or
    "/_5".

    Args:
        path: the file.

    Returns:
        float32 arrays: of parameters in DyNet's shape, so that a matrix is (out, in); of lookup parameters
        (entries, dimension), as an Embedding's weight.

    Raises:
        ModelFormatError: the file is not one of DyNet, is damaged, or is not a regular file.
        OSError: it cannot be read.

    Example:
        >>> with open("dynet.model", "w") as file:
        ...     print("#Parameter# /_0 {2,1} 33 ZERO_GRAD", file=file)
        ...     print("+1.00000000e+00 +2.00000000e+00 ", file=file)
        >>> rc.interop.dynet_parameters("dynet.model")["/_0"].tolist()
        [[1.0], [2.0]]
    """
    name = checks.path("dynet_parameters", "path", path)
    try:
        file, size = whole_file.open_regular("dynet_parameters", name)
    except ValueError as error:
        raise ModelFormatError(str(error)) from error
    found: dict[str, Array] = {}
    with file:
        while header := file.readline(_LONGEST_HEADER):
            try:
                own, value = _section(file, header, size)
                if own in found:
                    raise ValueError(f"the name {own} twice")
            except ValueError as error:
                raise ModelFormatError(
                    f"dynet_parameters: {name}: got a damaged or foreign file ({error}), expected the text that "
                    "ParameterCollection.save of DyNet writes; save the model again"
                ) from error
            found[own] = value
    if not found:
        raise ModelFormatError(
            f"dynet_parameters: {name}: got an empty file, expected parameters; save the model again"
        )
    return found


def _section(file: BinaryIO, header: bytes, size: int) -> tuple[str, Array]:
    """The name and value of the parameter that `header` announces; its gradient is skipped."""
    parts = _HEADER.fullmatch(header)
    if parts is None:
        raise ValueError(f"a line {header[:60]!r} in place of a parameter's")
    name, shape, length = parts[2].decode(), [int(one) for one in parts[3].split(b",")], int(parts[4])
    count = math.prod(shape)
    if not 2 * count <= length <= size - file.tell():
        raise ValueError(f"{name} of {count} values in {length} bytes, of which {size - file.tell()} are there")
    text = file.read(length).partition(b"\n")[0]
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("error", DeprecationWarning)  # text that is no number
        try:
            values = np.fromstring(text.decode("ascii"), sep=" ").astype(np.float32)
        except DeprecationWarning as error:
            raise ValueError(f"{name} with something other than numbers") from error
    if values.size != count:
        raise ValueError(f"{name} with {values.size} values, not {count}")
    array = values.reshape(shape, order="F")
    return name, np.ascontiguousarray(array if parts[1] is None else np.moveaxis(array, -1, 0))


def dynet_layers(source: str | os.PathLike[str] | Mapping[str, Array]) -> dict[str, LeafLayer]:
    """The recurrent layers in a text file of DyNet, by the names of their builders.

        parameters = rc.interop.dynet_parameters("tagger.model")
        layers = rc.interop.dynet_layers(parameters)
        out = rc.from_torch({"weight": parameters["/_5"], "bias": parameters["/_6"]})
        tagger = rc.Sequential(layers["/birnn"], out)

    VanillaLSTMBuilder, which LSTMBuilder is, and CompactVanillaLSTMBuilder become an LSTM, with the 1 that they add to
    the forget gate; GRUBuilder a GRU with reset_after=False, whose z is 1 minus DyNet's; SimpleRNNBuilder an RNN. Those
    of a BiRNNBuilder are one bidirectional layer with its name. Options that a file does not hold are taken to be the
    defaults: forget_bias=1, no layer norm.

    Args:
        source: the file's path, or what `dynet_parameters` gives.

    Returns:
        A dict by name. Builders that could not be read are missing; the KeyError says why.

    Raises:
        TypeError: `source` is neither.
        ModelFormatError, OSError: as in `dynet_parameters`.

    Example:
        >>> builder = "/vanilla-lstm-builder"
        >>> shapes = {"_0": (32, 3), "_1": (32, 8), "_2": (32,)}
        >>> parameters = {
        ...     f"{builder}/{name}": np.ones(shape, "f") for name, shape in shapes.items()
        ... }
        >>> rc.interop.dynet_layers(parameters)[builder]
        LSTM(input_size=3, hidden_size=8)
    """
    parameters = source if isinstance(source, Mapping) else dynet_parameters(source)
    builders: dict[str, dict[int, Array]] = {}
    for name, value in parameters.items():
        builder, _, own = name.rpartition("/")
        if _BUILDER.fullmatch(builder.rpartition("/")[2]) and re.fullmatch(r"_\d{1,6}", own):
            builders.setdefault(builder, {})[int(own[1:])] = value
    stacks: dict[str, list[str]] = {}
    for builder in sorted(builders, key=_number):
        parent = builder.rpartition("/")[0]
        both = re.fullmatch(r"birnn(_\d+)?", parent.rpartition("/")[2])
        stacks.setdefault(parent if both else builder, []).append(builder)

    def made(name: str, members: list[str]) -> LeafLayer:
        return _layer(name, {one: builders[one] for one in members}, name not in builders)

    return read_layers("dynet_layers", stacks, made)


def _number(builder: str) -> tuple[str, int]:
    """Where a builder comes among its parent's."""
    found = _BUILDER.fullmatch(builder.rpartition("/")[2])
    return builder.rpartition("/")[0], int((found and found[2]) or 0)


def _layer(name: str, builders: Mapping[str, Mapping[int, Array]], both: bool) -> LeafLayer:
    arrays: dict[str, Any] = {}
    kinds = {_BUILDER.sub(r"\1", builder.rpartition("/")[2]) for builder in builders}
    kind = kinds.pop()
    per = _PER_LAYER.get(kind)
    if kinds or per is None:
        raise ValueError(f"it is of a {kind} builder, which has no counterpart here")
    for place, (builder, numbered) in enumerate(builders.items()):
        values = [numbered[one] for one in sorted(numbered)]
        if set(numbered) != set(range(len(values))) or len(values) % per or (both and len(values) != per):
            raise ValueError(f"{builder} has parameters {', '.join(f'_{one}' for one in sorted(numbered))}")
        for layer in range(len(values) // per):
            end = f"_l{place // 2}{'_reverse' * (place % 2)}" if both else f"_l{layer}"
            converted = _converted(kind, values[per * layer : per * (layer + 1)])
            arrays |= {f"{name}.{own}{end}": value for own, value in converted.items()}
    options = {name: {"reset_after": False}} if kind == "gru" else {}
    layers = layers_of_parameters("dynet_layers", arrays, options)
    return layers.answering({name: {}})[name]


def _converted(kind: str, values: Sequence[Array]) -> dict[str, Array]:
    """A layer's and direction's parameters by PyTorch's names."""
    if kind == "gru":  # z, r and h, each with its W_x, W_h and b; h' = (1 - z) h + z n
        signs = (1.0, -1.0, 1.0)
        inner, outer, bias = (
            np.concatenate(
                [np.float32(sign) * values[3 * gate + part] for sign, gate in zip(signs, (1, 0, 2), strict=True)]
            )
            for part in range(3)
        )
    else:
        inner, outer, bias = values
    if kind.endswith("lstm"):
        inner, outer, bias = (gates(one, "LSTM", "dynet") for one in (inner, outer, bias))
        bias[len(bias) // 4 : len(bias) // 2] += np.float32(1)
    return {"weight_ih": inner, "weight_hh": outer, "bias_ih": bias, "bias_hh": np.zeros_like(bias)}
