"""Converters for SimpleRNN, LSTM and GRU of Keras, cells in RNN, and Bidirectional."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.gate_orders import gates
from recurra.interop.keras.layer import Apply, KerasLayer, Kwargs, converts
from recurra.interop.keras.source import class_of, refused
from recurra.interop.keras.values import Value
from recurra.interop.keras.weights import ListWeights
from recurra.layers.leaf import LeafLayer
from recurra.layers.merge import Reverse
from recurra.layers.recurrent.gru import GRU
from recurra.layers.recurrent.lstm import LSTM
from recurra.layers.recurrent.recurrent import Recurrent
from recurra.layers.recurrent.rnn import RNN
from recurra.models.compose import MERGES

_GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}


class Cells:
    """The stacked cells of one recurrent layer, with their weights under recurra's names."""

    def __init__(self, layer: KerasLayer, features: int) -> None:
        self.layer = layer
        self.sequences = layer.flag("return_sequences", False)
        self.backwards = layer.flag("go_backwards", False)
        if layer.get("time_major", False):
            raise refused("got time_major=True, expected (N, T, features)")
        self.cells: list[tuple[KerasLayer, str, dict[str, Array]]] = []
        for cell in _cells_of(layer):
            kind = cell.kind.removesuffix("Cell").removeprefix("CuDNN")
            values = _weights(cell, kind, features)
            self.cells.append((cell, kind, values))
            features = values["weight_hh_l0"].shape[1]

    def made(self) -> list[Recurrent]:
        """The layers for the cells; all but the last return sequences."""
        found = []
        for index, (cell, kind, values) in enumerate(self.cells):
            sequences = self.sequences or index + 1 < len(self.cells)
            layer = _layer(cell, kind, values, return_sequences=sequences)
            cell.filled(layer, values)
            found.append(layer)
        return found

    def is_like(self, other: Cells) -> bool:
        """Whether one bidirectional layer can hold both."""
        if len(self.cells) != 1 or len(other.cells) != 1:
            return False
        (cell, kind, values), (other_cell, other_kind, others) = self.cells[0], other.cells[0]
        shapes, other_shapes = ({name: one.shape for name, one in two.items()} for two in (values, others))
        return (kind, _options(cell, kind), shapes) == (other_kind, _options(other_cell, other_kind), other_shapes)

    def with_reverse(self, other: Cells) -> LeafLayer:
        """The bidirectional layer of both, `other` in reverse."""
        (cell, kind, values), (_cell, _kind, others) = self.cells[0], other.cells[0]
        layer = _layer(cell, kind, values, return_sequences=self.sequences, bidirectional=True)
        return cell.filled(layer, values | {f"{name}_reverse": value for name, value in others.items()})


def _cells_of(layer: KerasLayer) -> list[KerasLayer]:
    if layer.kind not in ("RNN", "StackedRNNCells"):
        inner = KerasLayer(layer.builder, layer.layer, layer.weights.part("cell"), layer.trainable)
        return [inner]
    if layer.kind == "RNN":
        cell = layer.get("cell")
        if isinstance(cell, Mapping) and class_of(cell) != "StackedRNNCells":
            return [layer.part("cell", "cell")]
        return _cells_of(layer.part("cell", "cell"))
    listed = layer.get("cells")
    found = layer.weights.cells(listed)
    return [
        KerasLayer(layer.builder, one, weights, layer.trainable) for one, weights in zip(listed, found, strict=True)
    ]


def _weights(cell: KerasLayer, kind: str, features: int) -> dict[str, Array]:
    """The weights under recurra's names, from Keras' kernels or from Keras 1's matrices for each gate."""
    if kind not in _GATES:
        raise refused(f"got a cell of class {cell.kind!r:.80}, expected one of {', '.join(_GATES)}")
    units, count = cell.integer("units"), _GATES[kind]
    bias = cell.flag("use_bias", True)
    if count > 1 and isinstance(cell.weights, ListWeights) and cell.weights.next_shape() == (features, units):
        biases: Array | None
        kernel, recurrent, biases = _of_keras_1(cell, kind, features, units)
    else:
        cudnn, rows = cell.kind.startswith("CuDNN"), count * units
        biases_shape = (2 * rows,) if cudnn else (2, rows) if kind == "GRU" and _reset_after(cell) else (rows,)
        kernel, recurrent, *rest = cell.weights.own((features, rows), (units, rows), *([biases_shape] if bias else []))
        biases = rest[0] if rest else None
        if cudnn:
            kernel, recurrent = _from_cudnn(kernel, count), _from_cudnn(recurrent, count, rows=True)
            biases = None if biases is None else biases.reshape(2, -1)
    if kind == "GRU":
        kernel, recurrent = (gates(one, "GRU", "keras", axis=1) for one in (kernel, recurrent))
        biases = None if biases is None else gates(biases, "GRU", "keras", axis=-1)
    found = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T}
    if biases is not None:
        first, second = biases if biases.ndim == 2 else (biases, np.zeros_like(biases))
        found |= {"bias_ih_l0": first, "bias_hh_l0": second}
    return found


def _of_keras_1(cell: KerasLayer, kind: str, features: int, units: int) -> tuple[Array, Array, Array]:
    """W, U and b from Keras 1's three arrays for each gate, in the order i, c, f, o or z, r, h."""
    arrays = cell.weights.own(*[(features, units), (units, units), (units,)] * _GATES[kind])
    order = "icfo" if kind == "LSTM" else "zrh"
    kernel, recurrent, bias = (
        gates(np.concatenate(arrays[which::3], -1), kind, order, "keras", axis=-1) for which in range(3)
    )
    return kernel, recurrent, bias


def _from_cudnn(kernel: Array, count: int, rows: bool = False) -> Array:
    """A CuDNN kernel in the usual layout: each gate's matrix transposed, the input's also in Fortran order."""
    blocks = np.split(kernel, count, axis=1)
    turned = [one.T if rows else one.T.reshape(one.shape, order="F") for one in blocks]
    return np.concatenate(turned, axis=1)


def _reset_after(cell: KerasLayer) -> bool:
    return cell.kind == "CuDNNGRU" or cell.flag("reset_after", cell.builder.major >= 3)


def _options(cell: KerasLayer, kind: str) -> dict[str, Any]:
    """The layer's arguments besides its sizes."""
    options: dict[str, Any] = {
        "bias": cell.flag("use_bias", True),
        "input_dropout": cell.number("dropout", 0.0),
        "recurrent_dropout": cell.number("recurrent_dropout", 0.0),
    }
    names = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    usual = {"recurrent_activation": "hard_sigmoid"} if cell.builder.has_hard_gates else {}
    if cell.kind.startswith("CuDNN"):
        chosen = dict(names)
    else:
        chosen = {name: cell.activation_name(cell.get(name, usual.get(name, one))) for name, one in names.items()}
    if kind == "GRU":
        options["reset_after"] = _reset_after(cell)
    if kind == "SimpleRNN":
        options["nonlinearity"] = _in_cell(cell, chosen["activation"])
    else:
        options |= {name: _in_cell(cell, one) for name, one in chosen.items() if one != names[name]}
    return options


def _in_cell(cell: KerasLayer, name: str) -> Any:
    """A cell's activation, in the form of the layers' arguments."""
    return ("hard_sigmoid", 0.2, 0.5) if name == "hard_sigmoid" and cell.builder.major < 3 else name


def _layer(cell: KerasLayer, kind: str, values: Mapping[str, Array], **options: Any) -> Recurrent:
    cls: Callable[..., Recurrent] = {"SimpleRNN": RNN, "LSTM": LSTM, "GRU": GRU}[kind]
    weight, recurrent = values["weight_ih_l0"], values["weight_hh_l0"]
    chosen = _options(cell, kind)
    try:
        return cls(weight.shape[1], recurrent.shape[1], dtype=cell.dtype, **chosen, **options)
    except (TypeError, ValueError) as error:
        raise refused(f"got arguments that no layer here has: {error}") from error


def _split(layer: KerasLayer, args: Sequence[Any], kwargs: Kwargs) -> tuple[Value, list[Value]]:
    """The input sequence and the initial states."""
    layer.no_more(kwargs, "initial_state")
    given = args[0] if args else None
    states = kwargs.get("initial_state") or (args[1] if len(args) > 1 else None) or []
    if isinstance(given, list | tuple):
        given, states = given[0], [*given[1:], *(states if isinstance(states, list) else [states])]
    flat: list[Any] = []
    for one in states if isinstance(states, list | tuple) else [states]:
        flat += list(one) if isinstance(one, list | tuple) else [one]
    return layer.sequence(layer.one((given,))), [layer.one((one,)) for one in flat]


def _masked(layer: KerasLayer, x: Value, states: Sequence[Value], kwargs: Kwargs) -> bool:
    """Whether the layer skips masked steps; in Keras 3, not with an initial state, although the mask is passed on."""
    if states and layer.builder.major >= 3 and kwargs.get("mask") is None:
        layer.reads(x)
        return False
    return layer.skips(x, kwargs)


@converts("SimpleRNN", "LSTM", "GRU", "CuDNNLSTM", "CuDNNGRU", "RNN")
def convert_recurrent(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To a recurrent layer for each cell."""
    cells = Cells(layer, _split(layer, args, kwargs)[0].features)
    made, returns_state = cells.made(), layer.flag("return_state", False)

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Any:
        x, states = _split(layer, args, kwargs)
        masked = _masked(layer, x, states, kwargs)
        if cells.backwards and cells.sequences and masked:
            raise refused(
                "got go_backwards with return_sequences and a mask, which then belongs to other steps, expected no mask"
            )
        y, finals = _run(made, Reverse(dtype=layer.dtype)(x.symbol) if cells.backwards else x.symbol, states)
        output = x.now(y) if cells.sequences else x.vector(y)
        return [output, *(Value(one, sequence=False) for one in finals)] if returns_state else output

    return apply


def _run(layers: Sequence[Recurrent], x: Any, states: Sequence[Value]) -> tuple[Any, list[Any]]:
    """The last layer's output, and the final states of all."""
    given, finals = list(states), []
    wanted = sum(len(layer.state_names) for layer in layers)
    if given and len(given) != wanted:
        raise refused(f"got {len(given)} initial states, expected {wanted}")
    for layer in layers:
        own = [given.pop(0).symbol for _name in layer.state_names] if given else []
        x = layer(x, state=None if not own else own[0] if len(own) == 1 else tuple(own))
        finals += list(x.state) if isinstance(x.state, tuple) else [x.state]
    return x, finals


@converts("Bidirectional")
def convert_bidirectional(layer: KerasLayer, args: tuple[Any, ...], kwargs: Kwargs) -> Apply:
    """To one bidirectional layer if both directions are alike and concatenated, else to a layer for each."""
    features = _split(layer, args, kwargs)[0].features
    merge_mode = layer.expect("merge_mode", *MERGES, None)
    forward_layer = layer.part("layer", "forward_layer")
    has_own = layer.config.get("backward_layer") is not None
    backward_layer = layer.part("backward_layer" if has_own else "layer", "backward_layer")
    forward, backward = Cells(forward_layer, features), Cells(backward_layer, features)
    if forward.backwards or (has_own and not backward.backwards):
        raise refused("got a forward layer with go_backwards, or a backward layer without, expected the opposite")
    returns_state = forward_layer.flag("return_state", False)
    plain = merge_mode == "concat" and not returns_state and forward.is_like(backward)
    both = forward.with_reverse(backward) if plain else None
    separate = cache(lambda: (forward.made(), backward.made()))

    def apply(args: tuple[Any, ...], kwargs: Kwargs) -> Any:
        x, states = _split(layer, args, kwargs)
        _masked(layer, x, states, kwargs)
        output = x.now if forward.sequences else x.vector
        if both is not None and not states:
            return output(both(x.symbol))
        half = len(states) // 2
        turn = Reverse(dtype=layer.dtype)
        ahead, back = separate()
        y, finals = _run(ahead, x.symbol, states[:half])
        z, others = _run(back, turn(x.symbol), states[half:])
        z = turn(z) if forward.sequences else z
        if merge_mode is None:
            merged = [output(y), output(z)]
        else:
            merged = [output(MERGES[merge_mode](dtype=layer.dtype)((y, z)))]
        final = [Value(one, sequence=False) for one in (*finals, *others)] if returns_state else []
        found = [*merged, *final]
        return found[0] if len(found) == 1 else found

    return apply
