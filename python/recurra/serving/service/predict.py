"""Whole sequences: a body in, the outputs of one call back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recurra.common.typing import Array
from recurra.serving.service.limits import Limits, Share
from recurra.serving.service.problems import Problem
from recurra.serving.service.values import JSON_COST, Values, read_json, written

if TYPE_CHECKING:
    from recurra.layers.layer import Layer

JSON, SAFETENSORS = "application/json", "application/x-safetensors"
_BINARY = (SAFETENSORS, "application/octet-stream")


class Forms(NamedTuple):
    """Whether the body and the answer are JSON; else they are safetensors."""

    body: bool
    answer: bool

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Forms:
        """What the headers Content-Type and Accept ask for."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON and kind not in _BINARY:
            raise Problem(
                415,
                "ValueError",
                f"predict: got the content type {kind[:80] or 'none'!r}, expected {JSON} or {SAFETENSORS}; set "
                "Content-Type",
            )
        accepts = [one.partition(";")[0].strip().lower() for one in headers.get("accept", "").split(",")]
        wanted = next((one for one in accepts if one == JSON or one in _BINARY), kind)
        return cls(kind == JSON, wanted == JSON)


async def read_body(
    chunks: AsyncIterator[bytes], length: str | None, limits: Limits, share: Share, as_json: bool
) -> bytes:
    """The body, of which nothing is read beyond the limits."""
    if length is not None and length.isascii() and length.isdigit():
        limits.check_body(int(length[:20]))
    parts: list[bytes] = []
    size = 0

    async def read() -> None:
        nonlocal size
        async for chunk in chunks:
            size += len(chunk)
            limits.check_body(size)
            share.add(len(chunk) * (2 + JSON_COST * as_json))
            parts.append(chunk)

    try:
        await asyncio.wait_for(read(), limits.body_seconds)
    except asyncio.TimeoutError:
        raise Problem(
            408,
            "TimeoutError",
            f"predict: got no whole body in {limits.body_seconds:g} seconds, expected one; send it faster",
        ) from None
    return b"".join(parts)


class Predictor:
    """Calls a model with what bodies hold."""

    def __init__(self, model: Layer, values: Values, limits: Limits) -> None:
        self._model, self._values, self._limits = model, values, limits

    def answer(self, body: bytes, forms: Forms, share: Share) -> bytes:
        """The body of the answer; on a thread that may take its time."""
        values = self._values
        arrays, lengths = self._json(body) if forms.body else values.from_safetensors("predict", body)
        batch = values.has_batch("predict", arrays)
        steps = self._check_size(arrays, batch)
        share.add(values.cost(steps, forms.answer))
        if lengths is not None and not batch:
            raise ValueError("predict: got lengths for one sequence, expected them for several; leave them out")
        x = values.inputs.join([array if batch else array[None] for array in arrays])
        if lengths is not None and values.inputs.count is not None:
            lengths = values.inputs.join([lengths] * values.inputs.count)
        y, _state = self._model(x, lengths=lengths)
        if not batch:
            y = values.outputs.join([one[0] for one in values.outputs.spread("predict", "y", y)])
        return f'{{"y": {written(values.to_json(y))}}}'.encode() if forms.answer else values.to_safetensors(y)

    def _json(self, body: bytes) -> tuple[list[Array], Array | None]:
        given = read_json("predict", body)
        if not isinstance(given, dict) or not {"x"} <= set(given) <= {"x", "lengths"}:
            raise ValueError(
                'predict: got another object than {"x": ...}, expected x, and lengths if need be; see /v1/model'
            )
        lengths = given.get("lengths")
        if lengths is not None and (not isinstance(lengths, list) or not {int}.issuperset(map(type, lengths))):
            raise ValueError("predict: got other lengths than a list of integers, expected one for each sequence")
        try:
            valid = None if lengths is None else np.array(lengths, np.int64)
        except OverflowError:
            raise ValueError("predict: got a length beyond 64 bits, expected at most the steps of x") from None
        return self._values.from_json("predict", given["x"], batches=True), valid

    def _check_size(self, arrays: Sequence[Array], batch: bool) -> int:
        """The steps of all sequences, those of an empty one counted as one."""
        most = 1
        for port, array in zip(self._values.ports, arrays, strict=True):
            # With an axis of 0, the others cost no bytes, and yet the model's memory.
            self._limits.check_body(math.prod(max(one, 1) for one in array.shape))
            steps = array.shape[: array.ndim - (port.kind != "tokens")]
            most = max(most, math.prod(max(one, 1) for one in steps))
        self._limits.check_steps("predict", most)
        return most
