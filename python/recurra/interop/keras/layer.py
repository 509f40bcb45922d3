"""One layer of the model being read: its configuration in Keras 3's names, its weights, and the table of converters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.errors import ModelFormatError
from recurra.common.typing import Array
from recurra.interop.functions import Functions
from recurra.interop.keras.source import Weights, class_of, name_of, refused
from recurra.interop.keras.values import Mask, Value
from recurra.interop.table import Table

if TYPE_CHECKING:
    from recurra.interop.keras.build import Builder
    from recurra.layers.leaf import LeafLayer

Kwargs = Mapping[str, Any]
#: A converted layer's call: maps arguments, with Values for tensors, to a Value or a list of them.
Apply = Callable[[tuple[Any, ...], Kwargs], Any]
#: Converts a layer at its first call, with that call's arguments.
Converter = Callable[["KerasLayer", tuple[Any, ...], Kwargs], Apply]

#: Converters by the names of Keras' classes.
CONVERTERS: Table[Converter] = Table()
converts = CONVERTERS.enter

#: Older names of arguments.
_OLD_NAMES = {
    "units": ("output_dim",),
    "recurrent_activation": ("inner_activation",),
    "use_bias": ("bias",),
    "filters": ("nb_filter",),
    "kernel_size": ("filter_length",),
    "padding": ("border_mode",),
    "strides": ("subsample_length", "stride"),
    "dilation_rate": ("atrous_rate",),
    "pool_size": ("pool_length",),
    "rate": ("p",),
    "dropout": ("dropout_W",),
    "recurrent_dropout": ("dropout_U",),
    "negative_slope": ("alpha",),
    "alpha": ("negative_slope",),
}
_MISSING = object()


class KerasLayer:
    """A layer's configuration and weights; `builder` is that of the model."""

    def __init__(self, builder: Builder, layer: Mapping[str, Any], weights: Weights, trainable: bool = True) -> None:
        self.builder, self.layer, self.weights = builder, layer, weights
        self.kind, self.name = class_of(layer), name_of(layer)
        config = layer.get("config")
        self.config: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
        self.trainable = trainable and bool(self.config.get("trainable", True))
        self.functions = Functions(builder.dtype)
        self._apply: Apply | None = None

    @property
    def dtype(self) -> str:
        """float32 or float64."""
        return self.builder.dtype

    def __call__(self, args: tuple[Any, ...], kwargs: Kwargs) -> Any:
        """The outputs of a call."""
        self.builder.count()
        try:
            if self._apply is None:
                if self.kind not in CONVERTERS:
                    raise self._unknown()
                self._apply = CONVERTERS[self.kind](self, args, kwargs)
            return self._apply(args, kwargs)
        except ModelFormatError as error:
            if str(error).startswith("layer "):
                raise
            raise refused(f"layer {self.name!r} ({self.kind}): {error}") from error.__cause__

    def _unknown(self) -> ModelFormatError:
        if self.kind in ("Lambda", "TFOpLambda", "SlicingOpLambda"):
            return refused(
                "got code instead of a layer, expected layers, as code in files is never run; write it as a layer here"
            )
        return refused(f"got a class that has no counterpart here, expected one of {', '.join(sorted(CONVERTERS))}")

    # Configuration

    def get(self, name: str, default: Any = _MISSING) -> Any:
        """An argument of the layer's configuration, looked up under its older names too."""
        for one in (name, *_OLD_NAMES.get(name, ())):
            if one in self.config:
                return self.config[one]
        if default is _MISSING:
            raise refused(f"got a configuration without {name}, expected it")
        return default

    def integer(self, name: str, default: Any = _MISSING) -> int:
        """An argument that must be a positive integer, alone or in a list."""
        value = self.get(name, default)
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if type(value) is not int or not 0 < value < 1 << 31:
            raise refused(f"got {name}={value!r:.80}, expected a positive integer")
        return value

    def number(self, name: str, default: Any = _MISSING) -> float:
        """An argument that must be a number."""
        value = self.get(name, default)
        if isinstance(value, Mapping):  # Keras 2's form of an array
            value = value.get("config", {}).get("value") if isinstance(value.get("config"), Mapping) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
            raise refused(f"got {name}={value!r:.80}, expected a number")
        return float(value)

    def flag(self, name: str, default: Any = _MISSING) -> bool:
        """An argument that must be a bool."""
        value = self.get(name, default)
        if value not in (True, False):
            raise refused(f"got {name}={value!r:.80}, expected true or false")
        return bool(value)

    def expect(self, name: str, *allowed: Any) -> Any:
        """An argument that must be one of `allowed`, the first by default."""
        value = self.get(name, allowed[0])
        if value not in allowed:
            raise refused(f"got {name}={value!r:.80}, expected {' or '.join(map(repr, allowed))}")
        return value

    def part(self, name: str, *attributes: str) -> KerasLayer:
        """The layer in the argument `name`, whose weights lie under one of `attributes`."""
        inner = self.get(name)
        if not isinstance(inner, Mapping) or "class_name" not in inner:
            raise refused(f"got {type(inner).__name__} as {name}, expected a layer")
        return KerasLayer(self.builder, inner, self.weights.part(*attributes), self.trainable)

    # Conversion

    def filled(self, layer: LeafLayer, values: Mapping[str, Array]) -> LeafLayer:
        """`layer` with the parameters `values`, trainable if the layer of Keras is."""
        layer.load_state_dict({name: np.ascontiguousarray(value, self.dtype) for name, value in values.items()})
        layer.trainable = self.trainable
        return layer

    def activation(self, default: str = "linear", name: str = "activation") -> Callable[[Any], Any]:
        """The activation that an argument names, as a function of symbols."""
        value = self.get(name, default)
        if isinstance(value, Mapping) and value.get("class_name") in CONVERTERS:
            inner = KerasLayer(self.builder, value, self.weights)
            return lambda symbol: inner((Value(symbol, sequence=symbol.sequence),), {}).symbol
        return self.function(self.activation_name(value))

    def activation_name(self, value: Any) -> str:
        """Keras' name of an activation."""
        if isinstance(value, Mapping):
            value = value["config"] if isinstance(value.get("config"), str) else value.get("class_name", value)
        if value is not None and not isinstance(value, str):
            raise refused(f"got {value!r:.80} as an activation, expected its name")
        return (value or "linear").rpartition(">")[2]

    def function(self, name: str, **options: Any) -> Callable[[Any], Any]:
        """The elementwise function of Keras called `name`."""
        functions = self.functions
        if name == "swish":
            name = "silu"
        name = "hard_swish" if name == "hard_silu" else name
        if name == "hard_sigmoid":
            scale = 1.0 / 6.0 if self.builder.major >= 3 else 0.2
            return lambda x: functions.hard_sigmoid(x, scale)
        if name == "leaky_relu":
            return lambda x: functions.leaky_relu(x, options.get("slope", 0.2))
        found = functions.named(name)
        if found is None or name in ("sqrt", "square", "log", "abs"):
            raise refused(f"got activation {name!r:.80}, which has no counterpart here, expected a known one")
        return found

    # Inputs

    def one(self, args: Sequence[Any], flat: bool = False, image: bool = False) -> Value:
        """The only input; a flattened one only with `flat`, images only with `image`."""
        value = args[0] if args else None
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, Value):
            raise refused(f"got {type(value).__name__} as input, expected one tensor")
        if value.flat and not flat:
            raise refused("got it after a Flatten of a sequence, expected a Dense there")
        if value.image and not image:
            raise refused(
                f"got images, {value.image} in each step, expected a Reshape or Flatten before it, as it takes features"
            )
        return value

    def several(self, args: Sequence[Any]) -> list[Value]:
        """All inputs, given as a list."""
        values = list(args[0]) if args and isinstance(args[0], list | tuple) else list(args)
        if not values or not all(isinstance(one, Value) and not one.flat for one in values):
            raise refused("got inputs that are not tensors, expected a list of tensors")
        if len({one.image for one in values}) > 1:
            raise refused("got images of different sizes, expected equal ones")
        return values

    def sequence(self, value: Value) -> Value:
        """The value, which must have a time axis."""
        if not value.sequence:
            raise refused("got vectors, expected sequences")
        return value

    def skips(self, value: Value, kwargs: Mapping[str, Any]) -> bool:
        """Whether the layer skips masked steps; if so, records its name for the input."""
        mask = kwargs.get("mask")
        if mask is not None and not isinstance(mask, Mask):
            raise refused("got a mask that is computed, expected that of Masking or of mask_zero")
        masked = value.masked if mask is None else mask.port is not None
        port = value.port if mask is None else mask.port
        self.builder.check_not_stepwise(value)
        if masked and port is not None:
            port.skipping = self.name
        else:
            self.reads(value)
        return masked

    def reads(self, value: Value) -> None:
        """Record that the layer reads all steps, including padding."""
        self.builder.check_not_stepwise(value)
        if value.sequence and value.port is not None:
            value.port.reading = self.name

    def no_more(self, kwargs: Mapping[str, Any], *known: str) -> None:
        """Raise for arguments of the call that are not among `known`."""
        for name, value in kwargs.items():
            if name not in (*known, "training", "mask") and value not in (None, False):
                raise refused(f"got a call with {name}={value!r:.80}, expected none")
