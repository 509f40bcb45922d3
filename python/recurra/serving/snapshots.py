"""A stream's state as bytes, which only the model that made it takes back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array, State
from recurra.saving import container, registry

if TYPE_CHECKING:
    from recurra.layers.layer import Layer
    from recurra.running.state import StateLayout

_FORMAT, _VERSION = "recurra stream", "1"


class Snapshots:
    """Writes and reads states of one model's streams."""

    def __init__(
        self,
        names: Sequence[str],
        zeros: Callable[[], Sequence[Array]],
        config: str,
        weights: Callable[[], tuple[Any, Iterable[tuple[str, Array]]]],
        layout: StateLayout | None = None,
    ) -> None:
        """names: of a row's states; zeros: makes them; config: a hash of what they belong to; weights: what changes
        when the weights change, and those; layout: of a state that is not a list of arrays."""
        self._names, self._zeros, self._config = names, zeros, config
        self._read_weights, self._layout = weights, layout
        self._weights: tuple[Any, str] | None = None

    @classmethod
    def of(cls, model: Layer) -> Snapshots:
        """Of a layer or model."""
        layout = model._runner().layout
        names = [
            f"{index}.{node.layer.state_names[which]}"
            for index, node in enumerate(model._graph().nodes)
            for which in node.own_states
        ]
        config = hashed([json.dumps(_without_flags(registry.describe(model)), sort_keys=True).encode()])

        def arrays() -> Iterator[tuple[str, Array]]:
            yield from sorted(model.state_dict().items())

        def weights() -> tuple[Any, Iterable[tuple[str, Array]]]:
            return tuple(one.version for one in model._all_parameters), arrays()

        return cls(names, lambda: layout.zeros(1), config, weights, layout)

    def write(self, state: State) -> bytes:
        """safetensors bytes of one stream's state."""
        arrays = state if self._layout is None else self._layout.arrays("snapshot", state) or []
        named = {name: one for name, one in zip(self._names, arrays, strict=True) if one is not None}
        metadata = {
            "format": _FORMAT,
            "format_version": _VERSION,
            "config": self._config,
            "weights": self._weights_hash(),
        }
        return b"".join(container.serialise("snapshot", named, metadata))

    def read(self, data: Any, strict: bool) -> State:
        """The state in such bytes."""
        content = container.read_bytes("restore", data)
        about = content.metadata
        if about.get("format") != _FORMAT or about.get("format_version") != _VERSION:
            raise ModelFormatError(
                f"restore: got bytes of format {about.get('format')!r}, version {about.get('format_version')!r}, "
                f"expected {_FORMAT!r}, version {_VERSION}; give what a stream's snapshot() returned"
            )
        if not content.whole:
            raise ModelFormatError("restore: got damaged bytes, expected those of a snapshot; take an older one")
        if about.get("config") != self._config:
            raise ValueError(
                "restore: got a snapshot of another model, expected one of a model with this pool's layers; restore it "
                "in a pool of its own model"
            )
        if strict and about.get("weights") != self._weights_hash():
            raise ValueError(
                "restore: got a snapshot taken with other weights, expected those that the model has now; load them, "
                "or write strict=False to go on with the new ones"
            )
        arrays = self._checked(content.arrays)
        return arrays if self._layout is None else self._layout.nest(arrays)

    def _checked(self, arrays: dict[str, Array]) -> Sequence[Array]:
        zeros = self._zeros()
        wanted = {name: (zero.shape, zero.dtype) for name, zero in zip(self._names, zeros, strict=True)}
        if {name: (one.shape, one.dtype) for name, one in arrays.items()} != wanted:
            raise ModelFormatError(
                f"restore: got the arrays {', '.join(sorted(arrays)) or 'of no state'}, expected "
                f"{', '.join(self._names) or 'none'}, of this model's shapes; give what a stream's snapshot() returned"
            )
        return [arrays[name] for name in self._names]

    def _weights_hash(self) -> str:
        """Of the parameters and buffers, made again when these have changed."""
        versions, arrays = self._read_weights()
        if self._weights is None or self._weights[0] != versions:
            parts: list[Any] = []
            for name, array in arrays:
                parts += [f"{name} {array.dtype} {array.shape}".encode(), array.tobytes()]
            self._weights = versions, hashed(parts)
        return self._weights[1]


def hashed(parts: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _without_flags(description: Any) -> Any:
    """A model's description, whatever part of it is trainable."""
    if isinstance(description, dict):
        return {key: _without_flags(one) for key, one in description.items() if key != "trainable"}
    return [_without_flags(one) for one in description] if isinstance(description, list | tuple) else description
