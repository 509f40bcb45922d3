"""Tapes: a recorded forward that owns its memory and runs backward once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol

from recurra import _core
from recurra.common import checks, keywords
from recurra.common.structure import Structure
from recurra.common.typing import Array, Carried, State
from recurra.graph.graph import Graph, pack, unpack
from recurra.running.gradients import Gradients, cores_of
from recurra.running.score_gradient import ParameterGradient, parameter_gradients
from recurra.running.state import StateLayout

if TYPE_CHECKING:
    from recurra.graph.forms import Form
    from recurra.running.runs import Run


class TapePiece(Protocol):
    """The tape of one run of a graph: `_core.Tape`, or its counterpart for a layer written in Python."""

    @property
    def y(self) -> Any: ...
    @property
    def state(self) -> list[Array]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def backward(
        self,
        dy: Any,
        dstate: Sequence[Array | None] | None,
        more: Sequence[ParameterGradient],
        commits: bool,
        to: Sequence[_core.Gradient] | None,
    ) -> tuple[Any, list[Array]]: ...
    def close(self) -> None: ...


class Tape(Generic[Carried]):
    """A recorded forward. It runs backward once, on any thread; several tapes may be open, and run in any order.

    Attributes: y, the output, read-only; state, the final state, as a call returns it; nbytes, the memory it holds;
    closed, whether it has run backward or was closed.

    Example:
        >>> layer = rc.GRU(3, 8)
        >>> tape = layer.record(np.ones((2, 5, 3), np.float32), lengths=[5, 2])
        >>> tape.y.shape, tape.state.shape
        ((2, 5, 8), (1, 2, 8))
        >>> dx, d_state = tape.backward(np.ones_like(tape.y))
        >>> dx.shape
        (2, 5, 3)
    """

    def __init__(
        self,
        owner: str,
        graph: Graph,
        pieces: Sequence[tuple[TapePiece, Run]],
        layout: StateLayout,
        structures: tuple[Structure, Structure],
        versions: Sequence[int],
        form: Form | None = None,
    ) -> None:
        self._owner, self._graph, self._pieces, self._layout = owner, graph, pieces, layout
        self._inputs, self._outputs = structures
        self._versions, self._form = versions, form

    @property
    def y(self) -> Any:
        """The output, as a call returns it; read-only."""
        if len(self._pieces) == 1 and self._outputs.count is None and self._form is None:
            return self._pieces[0][0].y
        values: dict[int, Array] = {}
        for piece, run in self._pieces:
            if not set(run.outputs).isdisjoint(self._graph.outputs):
                values.update(run.made(piece.y))
        return self._outputs.join([self._as_written(value, values[value]) for value in self._graph.outputs])

    def _as_written(self, value: int, array: Array) -> Array | None:
        """An output in the caller's form, read-only."""
        if self._form is None:
            return array
        made = self._form.out(value, array)
        if made is not None:
            made.flags.writeable = False
        return made

    @property
    def state(self) -> Carried:
        """The final state, as a call returns it."""
        flat = [array for piece, _run in self._pieces for array in piece.state]
        nested: Carried = self._layout.nest(flat if self._form is None else self._form.final(flat))
        return nested

    @property
    def pieces(self) -> Sequence[tuple[TapePiece, Run]]:
        """The tapes of the runs in order, for diagnosis."""
        return self._pieces

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the tape holds."""
        return sum(piece.nbytes for piece, _run in self._pieces)

    @property
    def closed(self) -> bool:
        """Whether the tape has run backward or was closed."""
        return any(piece.closed for piece, _run in self._pieces)

    def close(self) -> None:
        """Release the memory without running backward."""
        for piece, _run in self._pieces:
            piece.close()

    @keywords.explained_method
    def backward(self, dy: Any, dstate: State = None, grads: Gradients | None = None) -> tuple[Any, State]:
        """Backpropagation through time: adds the gradients of the parameters to `grads`, once all are complete.

        Args:
            dy: gradient of the loss (of its sum over the batch) with respect to `y`, of the same shape; None for zeros.
                For a model with several outputs, one each. That of `losses.CRF` carries the gradient of the
                transitions.
            dstate: gradient with respect to the final state, structured like it; any of its arrays may be None for
                zeros.
            grads: the gradients to add to, from `new_grads` of the layer or model; None for its own `grads`.

        Ctrl-C is raised before anything is added or after everything is, never in between.

        Returns:
            The gradients with respect to x (None if input_grad was False, or if x holds tokens) and the initial state.

        Raises:
            ValueError: wrong shapes, a tape that was used or closed, parameters that changed since `record`, or `grads`
                of another model.
            TypeError: wrong dtype.
        """
        operation = f"{self._owner}.backward"
        to = cores_of(operation, grads)
        given = self._outputs.spread_optional(operation, "dy", dy)
        more = parameter_gradients(operation, given)
        if more:
            self._check_known(operation, more)
        gradients = {
            value: None if one is None else checks.array(operation, self._outputs.label("dy", index), one)
            for index, (value, one) in enumerate(zip(self._graph.outputs, given, strict=True))
        }
        flat = self._layout.arrays(operation, dstate)
        if self._form is not None:
            gradients = {value: self._form.gradient(value, one) for value, one in gradients.items()}
            flat = self._form.states(operation, flat)
        if self._graph.all_native:  # a single native tape, which checks and undoes by itself
            return self._backward_pieces(gradients, flat, more, to)
        from recurra.running import contributions  # late: few models have layers written in Python

        self._refuse_if_stale()
        python = [layer for layer in self._graph.layers if not layer.native and layer.parameters.size]
        try:
            result, own = contributions.collect(python, lambda: self._backward_pieces(gradients, flat))
            self._refuse_if_stale(used=True)
        except BaseException:  # Ctrl-C included: the gradients stay unchanged
            self.close()
            raise
        native = [piece for piece, _run in self._pieces if isinstance(piece, _core.Tape)]
        _core.add_gradients(native, [*own.items(), *more], to)  # all, or none
        return result

    def _check_known(self, operation: str, more: Sequence[ParameterGradient]) -> None:
        if any(all(layer.parameters is not parameters for layer in self._graph.layers) for parameters, _own in more):
            raise ValueError(
                f"{operation}: got the gradient of a losses.CRF whose layer is not in the model, expected one of the "
                f"model's layers; make the loss with the model's CRF"
            )

    def _backward_pieces(
        self,
        gradients: dict[int, Array | None],
        flat: list[Array | None] | None,
        more: Sequence[ParameterGradient] = (),
        to: Sequence[_core.Gradient] | None = None,
    ) -> tuple[Any, State]:
        initial: list[Array] = []
        for piece, run in reversed(self._pieces):
            given = [gradients.get(value) for value in run.outputs]
            dx, part = piece.backward(pack(given), run.pick(flat), more, self._graph.all_native, to)
            initial[:0] = part
            for value, gradient in zip(run.inputs, unpack(dx, len(run.inputs)), strict=True):
                before = gradients.get(value)
                if gradient is not None:  # summed over all readers of the value
                    gradients[value] = gradient if before is None else before + gradient
        inputs = [gradients.get(index) for index in range(len(self._graph.inputs))]
        if self._form is not None:
            inputs = [self._form.out(index, one) for index, one in enumerate(inputs)]
            initial = self._form.final(initial)
        return self._inputs.join(inputs), self._layout.nest(initial)

    def _refuse_if_stale(self, used: bool = False) -> None:
        if self.closed and not used:
            raise ValueError(f"{self._owner}.backward: the tape was used or closed, and works once; call record again")
        for index, (layer, version) in enumerate(zip(self._graph.layers, self._versions, strict=True)):
            if layer.parameters.version != version:
                raise ValueError(
                    f"{self._owner}.backward: the parameters of {index}.{layer.label} have changed since record, "
                    f"expected the same; record again, and change parameters only after backward"
                )
