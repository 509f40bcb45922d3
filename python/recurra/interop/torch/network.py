"""A whole model as one torch module: its layers' modules, and the values between them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recurra.common.structure import Structure
from recurra.interop.torch import steps
from recurra.interop.torch.loops import RecurrentLoop
from recurra.interop.torch.modules import Attention, Repeat, module_of
from recurra.layers.layer import Layer
from recurra.saving import registry


class Step(NamedTuple):
    """A module's call on numbered values, like `recurra.graph.graph.Node`; `sizes`: (slots, H) of its states."""

    path: str
    inputs: tuple[int, ...]
    states: tuple[int | None, ...]
    output: int
    sizes: tuple[tuple[int, int], ...]
    sequences: bool
    directions: int


class Network(nn.Module):
    """Runs the modules of a model's layers. Parameters have their names in the model."""

    def __init__(self, model: Layer) -> None:
        super().__init__()
        #: The model as plain data, from which `recurra.from_torch` rebuilds it.
        self.recurra_config = registry.describe(model)
        graph, runner = model._graph(), model._runner()
        self.structures = runner.inputs.config(), runner.outputs.config()
        paths = {}
        for prefix, layer in model.leaves:
            paths[id(layer)] = path = prefix.rstrip(".") or "layer"
            _put(self, path, module_of("to_torch", layer))
        self.steps = [
            Step(
                paths[id(node.layer)],
                node.inputs,
                node.states if node.layer.state_names and hasattr(node.layer, "num_layers") else (),
                node.output,
                tuple((one.shape[0], one.shape[2]) for one in node.layer.state_zeros(0)),
                node.layer.return_sequences,
                getattr(node.layer, "num_directions", 1),
            )
            for node in graph.nodes
        ]
        self.outputs, self.tokens = tuple(graph.outputs), [port.kind == "tokens" for port in graph.inputs]

    def forward(self, x: Any, state: Any = None, lengths: Any = None, return_state: bool = False) -> Any:
        """The output, zero past the lengths; with return_state, the pair of the output and the state.

        Args:
            x: as the model takes it, with tensors for arrays.
            state: a list as returned with return_state: an entry for each layer, None for those that are not recurrent;
                None for zeros.
            lengths: (N,) valid steps of each row; for several inputs, a tuple or dict like x.
        """
        given, wanted = (Structure.from_config(one) for one in self.structures)
        values: dict[int, Any] = dict(enumerate(given.spread("Network", "x", x)))
        valid: dict[int, Any] = dict(enumerate(given.spread_optional("Network", "lengths", lengths)))
        begin = [None] * len(self.steps) if state is None else list(state)
        finals = []
        for step, own in zip(self.steps, begin, strict=True):
            finals.append(self._take(step, own, values, valid))
        found = []
        for value in self.outputs:
            y = values[value]
            found.append(steps.cleared(y, valid.get(value)) if y.ndim == 3 else y)
        return (wanted.join(found), finals) if return_state else wanted.join(found)

    def _take(self, step: Step, own: Any, values: dict[int, Any], valid: dict[int, Any]) -> Any:
        """Run one module and return its final state, None if it is not recurrent."""
        module = self.get_submodule(step.path)
        inputs, lengths = [values[one] for one in step.inputs], valid.get(step.inputs[0])
        if step.states:
            return self._recur(step, module, own, inputs[0], lengths, values, valid)
        if getattr(module, "takes_lengths", False):
            values[step.output], valid[step.output] = module(inputs[0], lengths)
        elif isinstance(module, Attention):
            values[step.output], valid[step.output] = module(*inputs, valid.get(step.inputs[1])), lengths
        else:
            values[step.output] = module(*inputs)
            valid[step.output] = None if isinstance(module, Repeat) else lengths
        return None

    def _recur(
        self, step: Step, module: Any, own: Any, x: Tensor, lengths: Any, values: dict[int, Any], valid: dict[int, Any]
    ) -> Any:
        given = list(own) if isinstance(own, tuple | list) else [own] * len(step.sizes)
        begin = []
        for value, array, (slots, size) in zip(step.states, given, step.sizes, strict=True):
            if value is not None:
                array = values[value].reshape(-1, slots, size).transpose(0, 1).contiguous()
            begin.append(x.new_zeros(slots, x.shape[0], size) if array is None else array)
        y, final = _run(module, x, tuple(begin) if len(begin) > 1 else begin[0], lengths)
        finals = final if isinstance(final, tuple) else (final,)
        for index, one in enumerate(finals):
            values[step.output + 1 + index] = one.transpose(0, 1).reshape(one.shape[1], -1)
        if not step.sequences:
            y = torch.cat(tuple(finals[0][-step.directions :]), -1)
            if lengths is not None:
                y = torch.where((lengths > 0)[:, None], y, y.new_zeros(()))
        values[step.output], valid[step.output] = y, lengths if step.sequences else None
        return final


def _run(module: Any, x: Tensor, begin: Any, lengths: Tensor | None) -> tuple[Tensor, Any]:
    """Run a recurrent module on the valid steps; rows without steps keep their initial state."""
    if isinstance(module, RecurrentLoop):
        return module(x, begin, lengths)  # type: ignore[no-any-return]
    if lengths is None:
        return module(x, begin)  # type: ignore[no-any-return]
    packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    y, final = module(packed, begin)
    y, _ = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
    there = (lengths > 0)[None, :, None]
    if isinstance(final, tuple):
        return y, tuple(torch.where(there, one, old) for one, old in zip(final, begin, strict=True))
    return y, torch.where(there, final, begin)


def _put(root: nn.Module, path: str, module: nn.Module) -> None:
    """Add a module at a dotted path."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)
