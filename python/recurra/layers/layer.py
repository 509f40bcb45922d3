"""The base class of all layers and models."""

from __future__ import annotations

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from recurra import _core
from recurra.common import beyond, checks, initialise, keywords
from recurra.common.typing import Array, State
from recurra.graph import calls, symbolic
from recurra.graph.graph import Graph
from recurra.running import arrays
from recurra.running.gradients import FlatGradients, Gradients
from recurra.running.stream import Stream
from recurra.running.tape import Tape

#: Public names for other modules' use alone; `__dir__` hides them.
_BETWEEN_LAYERS = frozenset(
    [
        "all_parameters", "allows_holes", "check_other", "core", "core_name", "count_parameters", "described_as",
        "gates", "gates_see_state", "input_infos", "is_built_in", "is_trainable", "joined_features", "joins",
        "keeps_steps", "label", "leaves", "made_of_layers", "made_steps", "native", "needs_sequences", "num_inputs",
        "output_features", "output_infos", "output_reset", "own_buffers", "parameters", "state_names",
        "state_sizes", "state_zeros", "structures", "waits_for_seed", "why_not_streamable",
    ]
)  # fmt: skip

#: One symbol, or for several inputs a tuple of them.
Symbols: TypeAlias = "symbolic.Symbol | tuple[symbolic.Symbol, ...]"

if TYPE_CHECKING:
    from typing_extensions import Self

    from recurra.layers.leaf import LeafLayer
    from recurra.running.runner import Runner


class Layer(ABC):
    """Parameters and the computation on them. Holds no state of a sequence, so threads can share a layer.

    Shapes: N rows, T steps. Inputs and outputs are (N, T, features), tokens (N, T); see each layer for more.

    Example:
        >>> layer = rc.GRU(3, 8)
        >>> x = np.ones((2, 5, 3), np.float32)
        >>> y, state = layer(x)  # inference
        >>> tape = layer.record(x)  # training
        >>> dx, d_state = tape.backward(np.ones_like(tape.y))
        >>> layer.grads["weight_ih_l0"].shape
        (24, 3)
    """

    #: The kind of input: "features", "tokens" (integers) or "any".
    input_kind: str = "features"
    #: Whether the output has a time axis if the input has one.
    return_sequences: bool = True
    #: Whether it is a model.
    made_of_layers: bool = True
    #: The nearest class in the MRO that belongs to the library; set by `registry.built_in`.
    _built_in: type[Layer] | None = None
    #: The built-in class that files name instead of this one, where its `from_config` makes the class itself.
    described_as: str

    @property
    @abstractmethod
    def leaves(self) -> Sequence[tuple[str, LeafLayer]]:
        """The layers that hold parameters, in order, each with the prefix of its parameters' names."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any] | None:
        """float32 or float64; None for a layer that takes either."""

    @property
    @abstractmethod
    def input_size(self) -> int | None:
        """Features of the input, or the number of different tokens; None for any."""

    @property
    @abstractmethod
    def output_size(self) -> int | None:
        """Features of the output; None if only a run tells."""

    @abstractmethod
    def _graph(self, inputs: int = 1) -> Graph:
        """The graph for `inputs` inputs."""

    @abstractmethod
    def _runner(self, x: Any = None) -> Runner:
        """The runner for inputs like `x`."""

    @property
    def label(self) -> str:
        """The layer's name in messages."""
        return type(self).__name__

    # Running

    @overload
    def __call__(
        self, x: Symbols, state: Any = None, lengths: Any = None, reset: Any = None, mask: Any = None
    ) -> symbolic.Symbol: ...
    @overload
    def __call__(
        self, x: Any, state: State = None, lengths: Any = None, reset: Any = None, mask: Any = None
    ) -> tuple[Array, State]: ...
    def __call__(self, x: Any, state: State = None, lengths: Any = None, reset: Any = None, mask: Any = None) -> Any:
        """Run inference on arrays; on symbols (of `recurra.Input` or another layer), add a call to a model's graph.

        Args:
            x: (N, T, features), converted to the layer's dtype, or (N, T) tokens, integers; for several inputs, a tuple
                of them, and likewise lengths and reset.
            state: the initial state, as returned by another call; None for zeros.
            lengths: (N,) integers from 0 to T, the valid steps of each row; padding past them is never read.
            reset: (N, T) bool; true at (n, t) sets the state of row n to zero before step t (an episode starts).
            mask: (N, T) bool, or integers 0 and 1, true at the valid steps of each row, in place of lengths (Keras'
                mask; the negation of PyTorch's key_padding_mask). Padding may lie before, after or between valid steps:
                each row's valid steps run as one sequence, and the outputs return to their positions, 0 elsewhere.
                So recurrent layers carry their state across padding. Padding between valid steps is refused by layers
                that look at neighbouring steps: Conv1d, pooling over windows, and layers written in Python. If the
                output's steps are not the input's, the valid ones are the first `output_lengths`.

        As in PyTorch, the batch axis may be missing throughout: x (T, features) or (T,) tokens, state
        (num_layers * directions, H), lengths a number, reset and mask (T,), y (T, features). This holds where the input
        must be a sequence: recurrent layers, and models with one. Other layers, the same at every step, read
        (N, features) as vectors.

        Returns:
            The output, 0 past the lengths, and the final state, after each row's last valid step. On symbols, the
            output alone, with the final state as its `.state`.

        Raises:
            ValueError: wrong shapes, lengths or token numbers; numbers too large for the dtype.
            TypeError: x that holds no real numbers, or tokens that are not integers.
        """
        if type(x) is not np.ndarray and symbolic.found(x):
            return calls.call(self, x, state, lengths, reset, mask)
        return self._runner(x).forward(x, state, lengths, reset, mask)

    @keywords.explained_method
    def record(
        self,
        x: Any,
        state: State = None,
        lengths: Any = None,
        reset: Any = None,
        training: bool = True,
        input_grad: bool = True,
        seed: int | None = None,
        memory_budget: int | None = None,
        mask: Any = None,
        first_row: int = 0,
        memory: Any = None,
    ) -> Tape[Any]:
        """Run forward and record a tape for `backward`.

        Args:
            x, state, lengths, reset, mask: as in a call; y and the gradients have the form of x.
            training: whether dropout and zoneout draw masks and batch norm uses the batch's statistics.
            input_grad: whether `backward` returns the gradient with respect to x.
            seed: for the masks; None for a fresh seed.
            memory_budget: bound in bytes on the tape's `nbytes`, including the copy of x, y and what `backward` adds,
                but not the gradients that `backward` takes and returns. If the tape would need more, recurrent layers
                keep as many steps' saved values as fit, and `backward` recomputes the others, a stretch at a time, at
                the cost of at most one more forward. Outputs and gradients stay bitwise the same. None for no limit.
            first_row: the number of the first row where the rows are a part of a larger batch: with its seed they have
                the masks, outputs and gradients with respect to x that they would have there. A layer written in Python
                is given another rng for each first_row.
            memory: (B,) uint8, an array that holds the whole tape: `tape_bytes` says how many bytes it needs. It begins
                at a multiple of 64 bytes. What `record` writes there does not depend on its address: `open_tape` makes
                a tape of the bytes, or of a copy of them. None for memory that the tape owns.

        Raises:
            ValueError: wrong shapes, lengths or token numbers; a memory_budget below the least possible, which the
                message states; memory that is too small or not aligned; memory_budget or memory for a model with layers
                written in Python; memory with a mask, or with x without a batch axis.
            TypeError: wrong dtype.
        """
        return self._runner(x).record(
            x, state, lengths, reset, training, input_grad, seed, memory_budget, mask, first_row, memory
        )

    @keywords.explained_method
    def tape_bytes(
        self,
        shape: Any,
        lengths: Any = None,
        reset: bool = False,
        state: bool = False,
        training: bool = True,
        memory_budget: int | None = None,
    ) -> int:
        """Bytes of memory that `record(..., memory=)` needs for a call.

        Args:
            shape: of x; for several inputs a tuple of shapes, or a dict, as x itself.
            lengths: as in the call; what is enough without lengths, and without memory_budget, is enough with any.
            reset: whether the call has resets.
            state: whether the call has an initial state.
            training, memory_budget: as in the call.

        Raises:
            ValueError: shapes that do not fit; a model with layers written in Python.
        """
        many = isinstance(shape, Mapping) or (isinstance(shape, tuple) and any(isinstance(one, tuple) for one in shape))
        return self._runner(shape if many else None).tape_bytes(shape, lengths, reset, state, training, memory_budget)

    @keywords.explained_method
    def open_tape(self, memory: Any) -> Tape[Any]:
        """The tape that `record(..., memory=)` wrote into `memory`, or into bytes that it is a copy of.

        It may be opened several times, at any address, in any process with the same model, version of the library and
        instruction set; each time the result is a tape that runs backward once. The bytes are only read, in place if
        they begin at a multiple of 64, else copied: do not change them until backward has run.

        Args:
            memory: (B,) uint8.

        Raises:
            ValueError: bytes that hold no tape of this model, or one recorded with other weights.
            TypeError: wrong dtype.
        """
        return self._runner().open_tape(memory)

    @keywords.explained_method
    def stream(self, batch_size: int = 1) -> Stream[Array]:
        """A stream of `batch_size` sequences, starting from a zero state."""
        return self._runner().stream(batch_size, self)

    def init_state(self, batch_size: int) -> State:
        """A zero state for `batch_size` rows."""
        layout = self._runner().layout
        return layout.nest(layout.zeros(batch_size))

    @abstractmethod
    def output_lengths(self, lengths: Array | None) -> Array | None:
        """The valid steps of each row of the output; None if all are valid or the output has no time axis."""

    # Parameters

    @property
    def _parts(self) -> arrays.Parts:
        return [(prefix, layer.parameters) for prefix, layer in self.leaves]

    @property
    def _all_parameters(self) -> list[_core.Parameters]:
        return [one for _prefix, layer in self.leaves for one in layer.all_parameters]

    @property
    def params(self) -> arrays.NamedArrays:
        """Read-only views by name; `params[name] = array` checks shape and dtype, and writes."""
        return arrays.params(self._parts)

    @property
    def grads(self) -> Gradients:
        """Writable views of the gradients by name."""
        return Gradients(self._parts)

    @keywords.explained_method
    def new_grads(self, flat: Any = None) -> FlatGradients:
        """A separate set of gradients, zero, for `tape.backward(dy, grads=...)`.

        Args:
            flat: the memory to use, such as a view of a framework's buffer: an array of the layer's dtype with one
                number for each parameter value (except those of embeddings with sparse=True). It is not zeroed;
                gradients are added to its contents. None for new memory.

        Raises:
            ValueError: flat has another shape, is strided, or is read-only.
            TypeError: flat has another dtype.
        """
        return FlatGradients(f"{self.label}.new_grads", self._parts, flat)

    @property
    def buffers(self) -> Mapping[str, Array]:
        """Arrays that are saved with the layer but not trained, by name."""
        return {prefix + name: array for prefix, layer in self.leaves for name, array in layer.own_buffers.items()}

    def edit(self) -> arrays.Edit:
        """`with layer.edit() as p: p[name][...] = ...` changes parameters in place, atomically when the block ends.

        `p` holds copies: the layer has its old values until then and keeps them if the block raises, and writing into
        an array of `p` after the block has no effect.

        Raises:
            ValueError: at the block's end, if a parameter that it changes was written meanwhile; then nothing is
                written.
        """
        return arrays.Edit(self._parts)

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        for _prefix, parameters in self._parts:
            parameters.zero_grad()

    @property
    def trainable(self) -> bool:
        """Whether optimisers change the parameters; setting it on a model sets it on all its layers."""
        return any(layer.is_trainable for _prefix, layer in self.leaves)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for _prefix, layer in self.leaves:
            layer.is_trainable = checks.flag(layer.label, "trainable", value)

    @abstractmethod
    def reset_parameters(self, seed: int | None = None) -> None:
        """Reinitialise the parameters; the same seed gives the same values, None a fresh seed."""

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers by name, consistent even while other threads write to them."""
        return _core.read_whole(self._all_parameters, f"{self.label}.state_dict", self._copies)

    def _copies(self) -> dict[str, Array]:
        return {name: array.copy() for name, array in {**self.params, **self.buffers}.items()}

    @keywords.explained_method
    def load_state_dict(self, mapping: Mapping[str, Any], strict: bool = True) -> None:
        """Load parameters and buffers, atomically: a call on another thread sees one version of the whole model.

        Args:
            mapping: arrays by name, of exactly the shapes and dtype of this layer; CPU tensors of torch work too.
            strict: whether the names must be the same; otherwise only the common names are loaded.

        Raises:
            ValueError: the mapping does not fit; the message names every problem.
        """
        operation = f"{self.label}.load_state_dict"
        if not isinstance(mapping, Mapping):
            raise TypeError(f"{operation}: got {type(mapping).__name__}, expected arrays by name; pass a state_dict()")
        strict = checks.flag(operation, "strict", strict)
        params, buffers = self.params, self.buffers
        wanted = {**params, **buffers}
        given = {name: checks.array(operation, name, mapping[name]) for name in mapping if name in wanted}
        problems = []
        if strict:
            problems += [
                f"{name}: missing, expected shape {array.shape}" for name, array in wanted.items() if name not in given
            ]
            problems += [f"{name}: not known here" for name in mapping if name not in wanted]
        for name, array in given.items():
            if array.shape != wanted[name].shape:
                problems.append(f"{name}: got shape {array.shape}, expected {wanted[name].shape}")
            if array.dtype != wanted[name].dtype:
                dtype = wanted[name].dtype
                problems.append(
                    f"{name}: got {array.dtype}, expected {dtype}; write mapping[{name!r}].astype('{dtype}')"
                )
        if problems:
            raise ValueError(
                f"{operation}: got a mapping other than expected; change the layer's sizes or the mapping:\n  "
                + "\n  ".join(problems)
            )
        # Views of this model's own parameters would change during the write.
        given = {name: array.copy() if arrays.is_view(array) else array for name, array in given.items()}
        places = {prefix + name: (parameters, name) for prefix, parameters in self._parts for name in parameters.names}
        _core.write_whole(
            self._all_parameters,
            _core.assign,
            [(*places[name], array) for name, array in given.items() if name not in buffers],
            [(buffers[name], array) for name, array in given.items() if name in buffers],
        )

    # Configuration, copies, files

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data, without the seed; each is kept in an attribute of its name."""
        config = {}
        for name in _argument_names(type(self)):
            if not hasattr(self, name):
                raise TypeError(
                    f"{self.label}.config: got no attribute {name!r}, expected one for each of the constructor's "
                    f"arguments; write self.{name} = {name} in __init__, or override config()"
                )
            value = getattr(self, name)
            config[name] = value.name if isinstance(value, np.dtype) else value
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom: Mapping[str, type[Layer]] | None = None) -> Self:
        """A new layer from a `config()`, with freshly initialised parameters.

        `custom` maps names to users' own classes, for a model that contains such layers.
        """
        return cls(**config)

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int | None:
        """Values in parameters and buffers for this configuration, without making the layer; None if unknown."""
        return None

    @classmethod
    def is_built_in(cls) -> bool:
        """Whether the class is the library's own, which loads without `custom`."""
        return cls._built_in is cls

    @keywords.explained_method
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file that `recurra.load` reads: parameters, buffers, configuration.

        The write is atomic: an old file of that name stays until the new one is on disk, which takes over its mode. A
        symbolic link is followed. The same model gives the same bytes. A name that files of others have, such as
        "model.keras", warns.

        Raises:
            ValueError: `path` is not a regular file, such as a device; a configuration that JSON cannot hold.
            OSError: the file cannot be written.
        """
        from recurra.saving import files  # late: it imports safetensors

        files.save(self, path)

    @keywords.explained_method
    def to_onnx(self, path: str | os.PathLike[str], lengths: bool = False) -> None:
        """Write an ONNX file of the layer's inference: any number of rows and steps, arrays laid out as here,
        (N, T, features). States are inputs (`h_in`) and outputs (`h_out`), each (num_layers * directions, N, H).

        Needs neither onnx nor onnxruntime. The write is atomic, as with `save`; `recurra.from_onnx` reads the file
        back.

        Args:
            path: the file to write.
            lengths: whether each sequence input has a further input for its lengths, named after it with `_lengths`,
                (N,) of int64, 0 allowed; if not, all steps are valid.

        Raises:
            ValueError: a layer or an option without an ONNX equivalent; the message names it.
            OSError: the file cannot be written.
        """
        beyond.ask("to_onnx")(self, path, lengths)

    def to_torch(self) -> Any:
        """The layer as a torch.nn.Module, with copies of the parameters under the same names.

        A layer that torch.nn has becomes that module: `torch.nn.LSTM`, `torch.nn.Linear` and so on. A model becomes a
        module of them: `module(x, state=None, lengths=None)` gives y, and with return_state=True the pair of y and the
        state. Arrays are (N, T, features) throughout a model, as here; `recurra.from_torch` reads it back. Needs
        PyTorch.

        Raises:
            ValueError: a layer without a torch equivalent; the message names it.
        """
        return beyond.ask("to_torch")(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), self.config(), self.state_dict(), self.trainable)

    if not TYPE_CHECKING:  # an editor and mypy know which names there are

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or hasattr(
                type(self), name
            ):  # a property's own error has been lost on the way here
                return object.__getattribute__(self, name)
            from recurra.common import habits

            raise habits.of_layer(self, name)

    def __dir__(self) -> list[str]:
        """The names that an editor completes, without those for other modules."""
        return [name for name in super().__dir__() if name not in _BETWEEN_LAYERS]

    #: Arguments that a repr shows even if they have their defaults.
    _always_shown: tuple[str, ...] = ()

    def _shown(self) -> dict[str, Any]:
        """What `repr` shows where it is not the default."""
        return self.config()

    def __repr__(self) -> str:
        defaults = {name: repr(one.default) for name, one in inspect.signature(type(self)).parameters.items()}
        shown = [
            f"{name}={value!r}"
            for name, value in self._shown().items()
            if name in self._always_shown or defaults.get(name) != repr(value)
        ]
        return f"{self.label}({', '.join(shown)})"


def rebuild(cls: type[Layer], config: dict[str, Any], state: dict[str, Array], trainable: bool) -> Layer:
    """Rebuild a pickled or copied layer."""
    with initialise.drawing(not cls.is_built_in()):
        layer = cls.from_config(config)
    layer.load_state_dict(state)
    layer.trainable = trainable
    return layer


def _argument_names(cls: type[Layer]) -> list[str]:
    """The constructor's arguments except `seed`; `**options` stands for those of the base class."""
    names: list[str] = []
    for owner in cls.__mro__:
        init = owner.__dict__.get("__init__")
        if init is None or owner is object:
            continue
        arguments = list(inspect.signature(init).parameters.values())[1:]
        plain = [a.name for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)]
        names += [name for name in plain if name != "seed" and name not in names]
        if all(a.kind is not a.VAR_KEYWORD for a in arguments):
            break
    return names
