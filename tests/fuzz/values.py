"""Hostile arguments: arrays of every dtype and layout, numbers at every edge, and things that are neither."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NUMBERS: list[Any] = [
    *(0, 1, -1, 2, 3, 255, 2**31 - 1, 2**31, -(2**31) - 1, 2**32, 2**62, 2**63 - 1, 2**63, -(2**63), 10**30),
    *(0.0, -0.0, 0.5, 1.0, -1.5, 1e-320, 1e38, 1e308, float("inf"), float("-inf"), float("nan")),
    *(np.int8(-1), np.int64(2**62), np.uint64(2**64 - 1), np.float16(1.0), np.float32("nan"), np.bool_(True), 1j),
]
THINGS: list[Any] = [
    *(None, True, False, Ellipsis, NotImplemented, "", "x", "tanh", b"x", object(), object, len, lambda *a, **k: None),
    *([], (), {}, set(), [[]], [None], [1, [2]], {"a": 1}, {1: 2}, range(3), iter(()), slice(None), "\0", "\ud800"),
]
DTYPES = [
    "?",
    "b",
    "B",
    "h",
    "H",
    "i",
    "I",
    "l",
    "L",
    "q",
    "Q",
    "e",
    "f",
    "d",
    "g",
    "F",
    "D",
    "O",
    "S3",
    "U3",
    "M8[s]",
    "m8[s]",
    ">f4",
    ">f8",
    ">i8",
    ">i4",
    "V4",
]
SIZES = [0, 0, 1, 1, 2, 3, 4, 5, 7]


def anything(rng: np.random.Generator) -> Any:
    """A number, an array, a thing."""
    return [number, array, array, thing, tensor][rng.integers(5)](rng)


def number(rng: np.random.Generator) -> Any:
    return NUMBERS[rng.integers(len(NUMBERS))]


def thing(rng: np.random.Generator) -> Any:
    return THINGS[rng.integers(len(THINGS))]


def array(rng: np.random.Generator) -> Array:
    """Of any dtype, up to four axes, laid out in any way."""
    shape = tuple(int(SIZES[rng.integers(len(SIZES))]) for _ in range(rng.integers(0, 5)))
    dtype = np.dtype(DTYPES[rng.integers(len(DTYPES))])
    if dtype.kind == "O":
        made = np.full(shape, 1.5, object)
        for place in list(np.ndindex(shape))[:1]:
            made[place] = thing(rng) if rng.random() < 0.5 else 2
        return made
    if dtype.kind in "SUMmV":
        return np.zeros(shape, dtype)
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 4)
    with np.errstate(all="ignore"):
        made = np.asarray(values).astype(dtype)
    return layout(rng, spoiled(rng, made))


def spoiled(rng: np.random.Generator, made: Array) -> Array:
    """Some elements at the edge of their dtype."""
    if made.size and made.dtype.kind in "biufcO" and rng.random() < 0.3:
        flat = made.reshape(-1).copy()
        edges: list[Any] = [0]
        if made.dtype.kind in "iu":
            edges = [np.iinfo(made.dtype).max, np.iinfo(made.dtype).min]
        elif made.dtype.kind == "f":
            edges = [np.nan, np.inf, -np.inf, np.finfo(made.dtype).max, np.finfo(made.dtype).tiny / 2]
        flat[rng.integers(made.size)] = edges[rng.integers(len(edges))]
        return flat.reshape(made.shape)
    return made


LAYOUTS = ("plain", "negative", "strided", "fortran", "misaligned", "swapped", "readonly", "subclass", "zero", "window")


def layout(rng: np.random.Generator, made: Array, same: bool = False) -> Array:
    """The same values elsewhere in memory; unless `same`, rows may also be one and the same."""
    kinds = LAYOUTS[: -2 if same else None]
    kind = kinds[rng.integers(len(kinds))]
    if kind == "negative" and made.ndim:
        axis = rng.integers(made.ndim)
        return np.flip(np.flip(made, axis).copy(), axis)
    if kind == "strided" and made.ndim:
        wide = np.zeros([2 * n for n in made.shape], made.dtype)
        view = wide[tuple(slice(None, None, 2) for _ in made.shape)]
        view[...] = made
        return view
    if kind == "fortran":
        return np.asfortranarray(made)
    if kind == "misaligned" and made.dtype.kind != "O":
        bytes_ = np.zeros(made.nbytes + 1, np.uint8)
        view = bytes_[1:].view(made.dtype).reshape(made.shape)
        view[...] = made
        return view
    if kind == "swapped":
        return made.astype(made.dtype.newbyteorder())
    if kind == "readonly":
        made = made.copy()
        made.flags.writeable = False
        return made
    if kind == "subclass":
        return made.view(_Subclass)
    if kind == "zero" and made.size:
        return np.broadcast_to(made[:1] if made.ndim else made, made.shape)
    if kind == "window" and made.ndim and made.size and made.flags.c_contiguous:
        strides = (made.strides[-1], *made.strides[1:])  # rows that overlap by all but one element
        return np.lib.stride_tricks.as_strided(made, made.shape, strides)
    return made


def huge(rng: np.random.Generator, made: Array) -> Array:
    """More elements than any memory holds, all of them one: an axis without a stride."""
    axis = int(rng.integers(made.ndim))
    size = int(rng.choice([2**40, 2**48, 2**58])) // max(made.itemsize, 1)
    one = made[tuple(slice(0, 1) if place == axis else slice(None) for place in range(made.ndim))]
    if not one.size:
        return made
    shape = [size if place == axis else n for place, n in enumerate(made.shape)]
    try:
        return np.broadcast_to(one, shape)
    except ValueError:  # more than numpy can count
        return made


class _Subclass(np.ndarray[Any, Any]):
    pass


def tensor(rng: np.random.Generator) -> Any:
    """Of torch, where it is installed; else an array."""
    try:
        import torch
    except ImportError:
        return array(rng)
    made = array(rng)
    if made.dtype.kind not in "bif" or made.dtype.itemsize > 8 or not made.dtype.isnative:
        return torch.zeros(made.shape)
    kept = torch.from_numpy(made.copy("C"))
    choices = [
        lambda: kept,
        lambda: kept.to(torch.bfloat16),
        lambda: kept.float().requires_grad_(),
        lambda: kept.to_sparse() if kept.ndim else kept,
        lambda: torch.empty(made.shape, device="meta"),
        lambda: kept.transpose(0, -1) if kept.ndim > 1 else kept,
    ]
    return choices[rng.integers(len(choices))]()
