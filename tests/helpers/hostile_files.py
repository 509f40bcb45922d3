"""Model files with sizes that they do not back, loaded where memory is short: run by test_hostile_files.py in a process
of its own, since the limit cannot be taken back.

Prints a line for every file that was neither refused with a ModelFormatError nor loaded.
"""

from __future__ import annotations

import copy
import json
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

import recurra as rc

HUGE = [0, -1, -5, 1 << 16, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 62, 1 << 64, 10**40]
#: Values for options of any kind, such as values that are truthy but not True, or numeric but not numbers.
ODD: list[Any] = [
    None,
    True,
    False,
    "",
    "False",
    [],
    [[]],
    {},
    [1] * 3,
    1e308,
    0.5,
    -0.0,
    "a",
    "dot",
    "lstm",
    "orthogonal",
]
LIMIT = 512 << 20


def layers() -> Iterator[Any]:
    """One layer of every kind, and of every option that changes sizes."""
    for make in (rc.RNN, rc.GRU, rc.LSTM, rc.MinGRU, rc.MinLSTM):
        yield make(3, 4)
        yield make(3, 4, 2, bidirectional=True, bias=False)
    yield rc.LSTM(3, 4, proj_size=2, peepholes=True, layer_norm=True, recurrent_init="orthogonal")
    yield from (rc.Linear(3, 4), rc.Linear(3, 4, bias=False), rc.Embedding(3, 4), rc.Dropout(), rc.Activation("relu"))
    for padding in ("causal", "same", "valid"):
        yield rc.Conv1d(3, 4, 2, padding=padding)
    for affine in (True, False):
        yield from (rc.LayerNorm(4, affine=affine), rc.BatchNorm(4, affine=affine))
    yield from (rc.Conv2d(1, 2, 3, padding=(1, "causal"), height=4), rc.Conv2d(1, 2, 2, height=4, width=1, padding=1))
    yield from (rc.MaxPool2d(2, channels=2, height=2), rc.AvgPool2d((1, 2), channels=1, height=2, width=2))
    yield from (rc.BatchNorm2d(2), rc.GroupNorm(2, 4), rc.InstanceNorm1d(3), rc.InstanceNorm1d(3, affine=True))
    yield from (rc.ConvTranspose1d(2, 3, 2), rc.ConvTranspose1d(2, 3, 3, 2, 1, 1, bias=False))
    yield rc.Permute((2, 3), (1, 0))
    yield from (rc.PReLU(), rc.PReLU(4))
    yield from (rc.Pool("last"), rc.AttentionPool(3), rc.AttentionPool(3, 4))
    yield from (rc.AdditiveAttention(3, 4, 5), rc.MultiplicativeAttention(4, 4))
    yield rc.MultiplicativeAttention(3, 4, score="general")
    yield rc.Hopfield(4, steps=2)
    for attention in ("additive", "dot", "general"):
        yield rc.AttentionDecoder(3, 4, 4, attention=attention)
    yield rc.AttentionDecoder(3, 4, 4, attention="dot", input_feeding=False)
    yield from (rc.Add(), rc.Multiply(), rc.Concatenate(), rc.Reverse())
    yield from (rc.CRF(3), rc.CRF.for_tags(["O", "B-x", "I-x"]), rc.LearntVector(3), rc.LearntVector(3, init="uniform"))
    yield from (
        rc.RepeatVector(3),
        rc.Slice(0, 2),
        rc.AvgPool1d(2),
        rc.MaxPool1d(2, features=3),
        rc.Average(),
        rc.Dot(),
    )


def models() -> Iterator[Any]:
    """Each layer alone and, where possible, in both kinds of model."""
    for layer in layers():
        yield layer
        if layer.num_inputs == 1:
            yield rc.Sequential(copy.deepcopy(layer))
    yield rc.Bidirectional(rc.GRU(3, 4), rc.LSTM(3, 4))
    x = rc.Input(features=3)
    yield rc.Model((x,), {"a": rc.Linear(3, 4)(x)})


def variants(value: Any) -> Iterator[Any]:
    """Configurations with one value changed, for every value at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            for one in variants(inner):
                yield {**value, name: one}
            yield {other: kept for other, kept in value.items() if other != name}
            if name in ("features", "hidden_size", "in_channels", "dilation"):  # two that make up for each other
                yield {**value, name: -(1 << 20), "bias": False}
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            for one in variants(inner):
                yield [*value[:index], one, *value[index + 1 :]]
        yield value * 2
    if isinstance(value, int) or value is None:
        yield from HUGE
    yield from ODD


def write(path: Path, arrays: dict[str, Any], description: Any) -> None:
    """Write a file as an attacker would: without checksums."""
    metadata = {"format": "recurra", "format_version": "1", "config": json.dumps(description)}
    path.write_bytes(safetensors.numpy.save(arrays, metadata))


def main() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    originals = [(model.state_dict(), model.config(), type(model).__name__, model.trainable) for model in models()]
    described = [
        (arrays, {"type": name, "config": config, "trainable": trainable})
        for arrays, config, name, trainable in originals
    ]
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT, used + LIMIT))
    count = loaded = 0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model"
        for arrays, description in described:
            for hostile in variants(description):
                for given in (arrays, {}) if count % 4 == 0 else (arrays,):
                    count += 1
                    write(path, given, hostile)
                    try:
                        rc.load(path)
                        loaded += 1
                    except rc.ModelFormatError:
                        pass
                    except Exception as error:  # noqa: BLE001 - each is a finding
                        print(f"{type(error).__name__}: {error!s:.100} from {json.dumps(hostile):.300}")
    print(f"{count} files, {loaded} loaded", file=sys.stderr)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
