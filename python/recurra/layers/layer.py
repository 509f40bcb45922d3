"""The one base class: what every layer and every model can do."""

from __future__ import annotations

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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

#: Names without an underscore, since other modules use them, that no user needs.
_BETWEEN_LAYERS = frozenset(
    [
        "all_parameters", "allows_holes", "check_other", "core", "core_name", "count_parameters", "gates",
        "gates_see_state", "input_infos", "is_built_in", "is_trainable", "joined_features", "joins", "keeps_steps",
        "label", "leaves", "made_of_layers", "made_steps", "native", "needs_sequences", "num_inputs",
        "output_features", "output_infos", "output_reset", "own_buffers", "parameters", "state_names",
        "state_sizes", "state_zeros", "structures", "waits_for_seed", "why_not_streamable",
    ]
)  # fmt: skip

if TYPE_CHECKING:
    from typing_extensions import Self

    from recurra.layers.leaf import LeafLayer
    from recurra.running.runner import Runner


class Layer(ABC):
    """Parameters and what is computed with them; never the state of a sequence, so that many threads share one layer.

    Shapes: N rows, T steps. Inputs and outputs are (N, T, features), tokens (N, T); see each layer for more.
    """

    #: What the layer reads: "features", "tokens" (integers) or "any".
    input_kind: str = "features"
    #: Whether the output has a time axis where the input has one.
    return_sequences: bool = True
    #: Whether it is a model.
    made_of_layers: bool = True
    #: The class itself, or the one it derives from, if that is the library's own: set by `registry.built_in`.
    _built_in: type[Layer] | None = None

    @property
    @abstractmethod
    def leaves(self) -> Sequence[tuple[str, LeafLayer]]:
        """The layers that hold parameters, in order, and what stands before their parameters' names."""

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
        """Features of the output; None where they are known only when it runs."""

    @abstractmethod
    def _graph(self, inputs: int = 1) -> Graph:
        """What the layer computes from so many inputs."""

    @abstractmethod
    def _runner(self, x: Any = None) -> Runner:
        """What runs it, on inputs like x."""

    @property
    def label(self) -> str:
        """What messages call the layer."""
        return type(self).__name__

    # Running

    def __call__(self, x: Any, state: State = None, lengths: Any = None, reset: Any = None, mask: Any = None) -> Any:
        """Inference; or, on what `recurra.Input` or another layer has given, the layer as a part of a model to be made.

        Args:
            x: (N, T, features), or (N, T) tokens, of the layer's dtype; of a layer with several inputs a tuple of them,
                and lengths and reset likewise.
            state: the state to start from, as another call returned it; None for zeros.
            lengths: (N,) integers from 0 to T, the valid steps of each row; the rest is padding, which is never read.
            reset: (N, T) bool; true at (n, t) means that the state of row n before step t is zero (an episode starts).
            mask: (N, T) bool, or integers 0 and 1, true at the valid steps of each row, in place of lengths (Keras'
                mask; PyTorch's key_padding_mask is its opposite). Padding may come before a row's steps, behind them,
                or between them: the valid steps are put together, run as one sequence, and what comes out is put to
                where they were, 0 elsewhere. So recurrent layers go past padding with the state that they have. Padding
                between valid steps is refused where a layer looks at neighbouring steps, as Conv1d, pooling over
                windows, and layers written in Python. Where the output has other steps than the input, they are those
                of `output_lengths`, from 0 on.

        Without a batch axis, x is (T, features) or (T,) tokens, as in PyTorch, and so is all else: state (num_layers *
        directions, H), lengths a number, reset and mask (T,), y (T, features). This is so for what must be a sequence: a
        recurrent layer, or a model with one. Other layers do the same at every step, and take (N, features) as vectors.

        Returns:
            The pair of the output, 0 past the lengths, and the state after each row's last valid step. As a part of a model
            the output alone, whose `.state` is the state.

        Raises:
            ValueError: wrong shapes, lengths or token numbers.
            TypeError: wrong dtype.
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
    ) -> Tape:
        """The same computation, remembered so that it can run backwards.

        Args:
            x, state, lengths, reset, mask: as in a call; y and the gradients have the form of x.
            training: whether dropout and zoneout are random and batch norm looks at the batch.
            input_grad: whether `backward` shall return the gradient with respect to x.
            seed: of their masks; None for fresh randomness.
            memory_budget: bytes that the tape may hold, its `nbytes`: what `backward` adds is included, and so are the copy of
                x and y, but not the gradients that `backward` is given and returns. Where that is less than all that the
                tape would hold, recurrent layers keep what fits of the values of their steps, and `backward` makes the others
                again, stretch by stretch: it takes longer by a forward at most. Every bit of the outputs and gradients
                stays the same. None for no limit.

        Raises:
            ValueError: wrong shapes, lengths or token numbers; a memory_budget below the least that works, which the message
                says; a memory_budget for a model with layers written in Python.
            TypeError: wrong dtype.
        """
        return self._runner(x).record(x, state, lengths, reset, training, input_grad, seed, memory_budget, mask)

    @keywords.explained_method
    def stream(self, batch_size: int = 1) -> Stream:
        """A stream of `batch_size` sequences, from a state of zeros."""
        return self._runner().stream(batch_size)

    def init_state(self, batch_size: int) -> State:
        """A state of zeros for `batch_size` rows."""
        layout = self._runner().layout
        return layout.nest(layout.zeros(batch_size))

    @abstractmethod
    def output_lengths(self, lengths: Array | None) -> Array | None:
        """The valid steps of each row of the output; None where every step is valid or none is left."""

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
        """Gradients in memory of their own, zero, for `tape.backward(dy, grads=...)`.

        Args:
            flat: the memory, an array of the layer's dtype with as many numbers as there are parameters (those of
                embeddings with sparse=True aside), such as a view of a framework's buffer; what it holds stays, and the
                gradients are added to it. None for new memory.

        Raises:
            ValueError: flat has another shape, is strided, or is read-only.
            TypeError: flat has another dtype.
        """
        return FlatGradients(f"{self.label}.new_grads", self._parts, flat)

    @property
    def buffers(self) -> Mapping[str, Array]:
        """Arrays that are saved with the layer but not trained."""
        return {prefix + name: array for prefix, layer in self.leaves for name, array in layer.own_buffers.items()}

    def edit(self) -> arrays.Edit:
        """`with layer.edit() as p: p[name][...] = ...` changes parameters in place, all at once where the block ends.

        What p holds are copies: the layer has its old values until then, keeps them if the block raises, and what is written
        into an array of the block after it reaches nothing.

        Raises:
            ValueError: at the block's end, if something else has written a parameter that the block changes; nothing is
                written then.
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
        """Draw the parameters anew; the same seed gives the same values, None fresh randomness."""

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers by name, of one version, whoever writes to them meanwhile."""
        return _core.read_whole(self._all_parameters, f"{self.label}.state_dict", self._copies)

    def _copies(self) -> dict[str, Array]:
        return {name: array.copy() for name, array in {**self.params, **self.buffers}.items()}

    @keywords.explained_method
    def load_state_dict(self, mapping: Mapping[str, Any], strict: bool = True) -> None:
        """Take over parameters and buffers, all or none: also for calls on other threads, each of which sees one version of
        the whole model.

        Args:
            mapping: arrays by name, of exactly the shapes and dtype here; CPU tensors of torch will do.
            strict: whether the names must be the same; otherwise those that both sides have are taken.

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
        # A view of the model itself would change with it.
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
                    f"{self.label}.config: got no attribute {name!r}, expected one for each of the constructor's arguments; "
                    f"write self.{name} = {name} in __init__, or override config()"
                )
            value = getattr(self, name)
            config[name] = value.name if isinstance(value, np.dtype) else value
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom: Mapping[str, type[Layer]] | None = None) -> Self:
        """A new layer from what `config()` returned; its parameters are drawn anew.

        `custom` finds classes written by users by their names, for a model whose configuration holds such layers.
        """
        return cls(**config)

    @classmethod
    def count_parameters(cls, config: Mapping[str, Any]) -> int | None:
        """How many numbers a layer of this configuration holds, found without making it; None if only it can tell."""
        return None

    @classmethod
    def is_built_in(cls) -> bool:
        """Whether it is one of the library's own, found in files without `custom`."""
        return cls._built_in is cls

    @keywords.explained_method
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file that `recurra.load` reads: parameters, buffers, configuration.

        The file appears whole or not at all: an old one of that name stays until the new one is on disk, and hands its
        mode on. A symbolic link is followed. The same model gives the same bytes.

        Raises:
            ValueError: `path` is something else than a file, such as a device; a configuration that JSON cannot hold.
            OSError: it cannot be written.
        """
        from recurra.saving import files  # here: it brings safetensors, which nothing else needs

        files.save(self, path)

    @keywords.explained_method
    def to_onnx(self, path: str | os.PathLike[str], lengths: bool = False) -> None:
        """Write an ONNX file of the same computation, in inference: any number of rows and steps, layouts as here, (N, T,
        features). States are inputs (`h_in`) and outputs (`h_out`), each (num_layers * directions, N, H).

        Neither onnx nor onnxruntime is needed. The file appears whole or not at all, as with `save`; `recurra.from_onnx`
        reads it back.

        Args:
            path: of the file.
            lengths: whether there is an input (N,) of int64 for each sequence, its name and `_lengths`, with the valid steps
                of each row, 0 allowed; without it, all steps are valid.

        Raises:
            ValueError: a layer or an option that ONNX has no operator for, by its name.
            OSError: it cannot be written.
        """
        beyond.ask("to_onnx")(self, path, lengths)

    def to_torch(self) -> Any:
        """The same computation as a torch.nn.Module, with copies of the parameters under their names here.

        A layer that torch.nn has comes as that, `torch.nn.LSTM`, `torch.nn.Linear` and so on. A model comes as a module of
        them: `module(x, state=None, lengths=None)` gives y, and with return_state=True the pair of y and the state. Arrays are
        laid out as here, (N, T, features), throughout a model; `recurra.from_torch` reads it back. Needs PyTorch.

        Raises:
            ValueError: a layer that torch has no module for, by its name.
        """
        return beyond.ask("to_torch")(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.config(), self.state_dict(), self.trainable)

    def __dir__(self) -> list[str]:
        """What an editor completes: not what layers tell each other."""
        return [name for name in super().__dir__() if name not in _BETWEEN_LAYERS]

    def __repr__(self) -> str:
        return f"{self.label}({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"


def _rebuild(cls: type[Layer], config: dict[str, Any], state: dict[str, Array], trainable: bool) -> Layer:
    """A pickled or copied layer."""
    with initialise.drawing(not cls.is_built_in()):
        layer = cls.from_config(config)
    layer.load_state_dict(state)
    layer.trainable = trainable
    return layer


def _argument_names(cls: type[Layer]) -> list[str]:
    """The constructor's arguments but `seed`; **options stands for the arguments of the class above."""
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
