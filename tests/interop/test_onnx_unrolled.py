"""Cells that torch.onnx.export has written out step by step become layers again, with the values of onnxruntime."""

from __future__ import annotations

import io
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

import recurra as rc
from unrolled_cells import unrolled


class Loop(nn.Module):
    """Cells in a Python loop.

    axis: of the steps. unbind: how a step is taken. states: whether the caller gives them. embeds: whether a Linear
    comes before. feeds: whether the output is fed back. middle: which h is an output, too. keeps_c: whether all c are.
    """

    def __init__(
        self,
        kind: str,
        steps: int = 3,
        sizes: tuple[int, ...] = (3, 4),
        axis: int = 1,
        unbind: bool = False,
        states: bool = False,
        feeds: bool = False,
        middle: int | None = None,
        keeps_c: bool = False,
        embeds: bool = False,
        **cell: Any,
    ) -> None:
        super().__init__()
        pairs = pairwise(sizes)
        self.cells = nn.ModuleList(getattr(nn, kind)(one, two, **cell) for one, two in pairs)
        self.steps, self.axis, self.unbind, self.states, self.feeds = steps, axis, unbind, states, feeds
        self.embeds = embeds
        self.middle, self.keeps_c, self.head = middle, keeps_c, nn.Linear(sizes[-1], sizes[0])

    def forward(self, x: Any, h: Any = None, c: Any = None) -> Any:
        rows = x.shape[1 - self.axis]
        state = []
        for cell in self.cells:
            zeros = x.new_zeros(rows, cell.hidden_size)
            pair = (h, c) if self.states else (zeros, zeros)
            state.append(pair if isinstance(cell, nn.LSTMCell) else pair[0])
        x = self.head(x) if self.embeds else x
        parts = x.unbind(self.axis) if self.unbind else [x.select(self.axis, t) for t in range(self.steps)]
        made, kept, cs = [], [], []
        for one in parts:
            value = one + torch.tanh(self.head(made[-1])) if self.feeds and made else one
            for index, cell in enumerate(self.cells):
                state[index] = cell(value, state[index])
                value = state[index][0] if isinstance(cell, nn.LSTMCell) else state[index]
            made.append(value)
            cs.append(state[-1][1] if self.keeps_c else value)
        if self.middle is not None:
            kept.append(made[self.middle])
        if self.keeps_c:
            kept.append(torch.stack(cs, 0))
        return torch.stack(made, self.axis), *kept, state[-1]


def exported(loop: Loop, x: torch.Tensor, *states: torch.Tensor) -> bytes:
    torch.manual_seed(0)
    for parameter in loop.parameters():
        parameter.data.uniform_(-1, 1)
    stream, names = io.BytesIO(), ["x", "h", "c"][: 1 + len(states)]
    axes = {"x": {1 - loop.axis: "N"}, "h": {0: "N"}, "c": {0: "N"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            loop.eval(),
            (x, *states),
            stream,
            dynamo=False,
            input_names=names,
            dynamic_axes={name: axes[name] for name in names},
        )
    return stream.getvalue()


def draw(loop: Loop, rows: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(rows)
    width, hidden = loop.cells[0].input_size, loop.cells[-1].hidden_size
    shapes = [(rows, loop.steps, width) if loop.axis else (loop.steps, rows, width)]
    shapes += [(rows, hidden)] * (len(_state_names(loop)))
    return [torch.from_numpy(rng.standard_normal(shape, np.float32)) for shape in shapes]


def _state_names(loop: Loop) -> list[str]:
    return [] if not loop.states else ["h", "c"] if isinstance(loop.cells[0], nn.LSTMCell) else ["h"]


def checked(loop: Loop, content: bytes) -> Any:
    """The model, after its values were compared with onnxruntime's at two numbers of rows."""
    model = rc.from_onnx(content, states={})
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    for rows in (2, 5):
        arrays = [one.numpy() for one in draw(loop, rows)]
        given = dict(zip(["x", *_state_names(loop)], arrays, strict=True))
        y, _state = model(given)
        for one, other in zip(y if isinstance(y, tuple) else (y,), session.run(None, given), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-6)
    return model


def cells_of(model: Any) -> int:
    return sum(node.op in ("LSTM", "GRU", "RNN") for node in model._graph.nodes)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"steps": 1},
    {"steps": 12, "axis": 0},
    {"axis": 0, "unbind": True},
    {"unbind": True},
    {"sizes": (4, 4)},
    {"states": True},
    {"states": True, "sizes": (4, 4)},
    {"states": True, "sizes": (4, 4), "steps": 1, "embeds": True},
    {"sizes": (3, 5, 4)},
    {"middle": 1},
    {"bias": False},
    {"bias": False, "sizes": (3, 5, 4), "states": False},
    {"bias": False, "embeds": True, "sizes": (4, 4)},
]
#: One step of a plain cell is like any other sum of two products.
RNN_OPTIONS = [one for one in OPTIONS if one.get("steps") != 1]


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_loop_becomes_a_layer(kind: str, options: dict[str, Any]) -> None:
    loop = Loop(kind, **options)
    model = checked(loop, exported(loop, *draw(loop, 2)))
    assert cells_of(model) == len(loop.cells)
    if "middle" not in options:
        others = [node.op for node in model._example().numpy]
        assert not others, others


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("options", [*RNN_OPTIONS, {"steps": 1}], ids=str)
def test_a_loop_of_plain_cells_becomes_a_layer(nonlinearity: str, options: dict[str, Any]) -> None:
    loop = Loop("RNNCell", nonlinearity=nonlinearity, **options)
    model = checked(loop, exported(loop, *draw(loop, 2)))
    assert cells_of(model) == (0 if options.get("steps") == 1 else len(loop.cells))


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_a_loop_that_feeds_back_has_a_layer_for_each_step(kind: str) -> None:
    loop = Loop(kind, feeds=True)
    assert cells_of(checked(loop, exported(loop, *draw(loop, 2)))) == loop.steps


def test_states_between_the_steps_end_a_layer() -> None:
    loop = Loop("LSTMCell", keeps_c=True)
    assert cells_of(checked(loop, exported(loop, *draw(loop, 2)))) == loop.steps


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_what_is_nearly_a_cell_stays_as_it_is(kind: str, bias: bool) -> None:
    """Every node of the file as another one: no value may change, whether a cell is found in it or not."""
    loop = Loop(kind, steps=2, bias=bias)
    whole = onnx.load_from_string(exported(loop, *draw(loop, 2)))
    other = {"Sigmoid": "Tanh", "Tanh": "Sigmoid", "Add": "Mul", "Mul": "Add", "Sub": "Add"}
    x = draw(loop, 2)[0].numpy()
    tried = 0
    for index, node in enumerate(whole.graph.node):
        changed = onnx.ModelProto()
        changed.CopyFrom(whole)
        target = changed.graph.node[index]
        if node.op_type in other:
            target.op_type = other[node.op_type]
        elif node.op_type == "Gemm":
            target.attribute[0].f = 0.5
        else:
            continue
        tried += 1
        content = changed.SerializeToString()
        wanted = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})
        y, _state = rc.from_onnx(content, states={})(x)
        for one, expected in zip(y, wanted, strict=True):
            np.testing.assert_allclose(one, expected, atol=2e-6, err_msg=f"{node.op_type} {index}")
    assert tried > (3 if kind == "RNNCell" else 15)


@pytest.mark.parametrize(("unbind", "steps"), [(False, 2), (True, 2), (True, 4)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_sequence_of_another_length_is_an_error_as_before(unbind: bool, steps: int, axis: int) -> None:
    loop = Loop("GRUCell", steps=3, axis=axis, unbind=unbind)
    model = rc.from_onnx(_any_steps(exported(loop, *draw(loop, 2))))
    model(np.zeros((2, 3, 3) if axis else (3, 2, 3), np.float32))
    with pytest.raises(ValueError, match=r"^OnnxModel: got a graph that cannot run on"):
        model(np.zeros((2, steps, 3) if axis else (steps, 2, 3), np.float32))


def _any_steps(content: bytes) -> bytes:
    whole = onnx.load_from_string(content)
    for dim in whole.graph.input[0].type.tensor_type.shape.dim[:2]:
        dim.dim_param = "any" + str(dim.dim_value)
    data: bytes = whole.SerializeToString()
    return data


@pytest.mark.parametrize(("op", "steps"), [("LSTM", 1), ("LSTM", 6), ("GRU", 1), ("GRU", 6), ("RNN", 6)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", ["torchscript", "dynamo"])
def test_any_order_of_nodes_and_of_what_they_add_and_multiply(op: str, steps: int, bias: bool, form: str) -> None:
    whole = onnx.load_from_string(unrolled(op, steps, bias, form))
    rng = np.random.default_rng(0)
    for node in whole.graph.node:
        if node.op_type in ("Add", "Mul") and rng.random() < 0.5:
            node.input[:] = node.input[::-1]
    given = {
        one.name: rng.standard_normal((5, *([steps] * (one.name == "x")), 3 + (one.name != "x")))
        for one in whole.graph.input
    }
    given = {name: array.astype(np.float32) for name, array in given.items()}
    model = rc.from_onnx(whole.SerializeToString(), states={})
    assert cells_of(model) == 1
    wanted = ort.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, given)
    for one, other in zip(model(given)[0], wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_a_state_of_the_caller_becomes_a_streams() -> None:
    loop = Loop("GRUCell", steps=1, states=True)
    x, h = draw(loop, 1)
    content = exported(loop, x, h)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    after = session.get_outputs()[1].name
    stream = rc.from_onnx(content, states={"h": after}).stream()
    state = np.zeros((1, 4), np.float32)
    for step in range(5):
        given = x.numpy() * step
        wanted, state = session.run(None, {"x": given, "h": state})
        np.testing.assert_allclose(stream.step(given), wanted, atol=2e-6)


def test_a_product_of_sequences_is_no_cell() -> None:
    """The equations of a cell over all steps at once: MatMul takes matrices and sequences alike."""
    whole = onnx.load_from_string(unrolled("LSTM", 1, bias=False))
    for one in whole.graph.input:
        dims = one.type.tensor_type.shape.dim
        if one.name != "x":
            dims.add().dim_value = dims[1].dim_value
            dims[1].dim_value = 1
    for node in whole.graph.node:
        if node.op_type == "Split":
            node.attribute[0].i = 2
    content, rng = whole.SerializeToString(), np.random.default_rng(0)
    given = {"x": rng.standard_normal((5, 1, 3)).astype(np.float32)}
    given |= {name: rng.standard_normal((5, 1, 4)).astype(np.float32) for name in "hc"}
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    model = rc.from_onnx(content, states={})
    assert cells_of(model) == 0
    for one, other in zip(model(given)[0], session.run(None, given), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
