"""What `from_onnx` reads of files: constants, branches, states; and what it refuses, in bounded time and memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import recurra as rc
from recurra.interop.onnx import wire

FLOAT = TensorProto.FLOAT


def model(
    nodes: list[Any], inputs: dict[str, Any], outputs: list[str], constants: dict[str, Any] | None = None
) -> bytes:
    """A file of these nodes; inputs by name with their dims."""
    values = [helper.make_tensor_value_info(name, FLOAT, dims) for name, dims in inputs.items()]
    ends = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    known = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", values, ends, known)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = made.SerializeToString()
    return data


def lstm(**attributes: Any) -> bytes:
    rng = np.random.default_rng(0)
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    weights = {
        "W": rng.standard_normal((directions, 16, 3)).astype(np.float32),
        "R": rng.standard_normal((directions, 16, 4)).astype(np.float32),
    }
    node = helper.make_node("LSTM", ["x", "W", "R"], ["y"], name="cell", hidden_size=4, **attributes)
    return model([node], {"x": ["T", "N", 3]}, ["y"], weights)


@pytest.mark.parametrize(
    "attributes",
    [
        {"clip": 3.0},
        {"input_forget": 1},
        {"activations": ["Softplus", "Tanh", "Tanh"]},
        {"activations": ["Sigmoid", "Affine", "Tanh"], "activation_alpha": [2.0]},
        {"activations": ["Sigmoid", "Tanh", "Tanh", "Relu", "Tanh", "Tanh"], "direction": "bidirectional"},
        {"direction": "sideways"},
        {"layout": 2},
    ],
    ids=str,
)
def test_attributes_that_no_cell_has_are_refused_by_name(attributes: dict[str, Any]) -> None:
    with pytest.raises(rc.ModelFormatError, match=f"LSTM 'cell': got {next(iter(attributes))}"):
        rc.from_onnx(lstm(**attributes))


def test_an_operator_that_nobody_knows_is_named() -> None:
    node = helper.make_node("Blur", ["x"], ["y"], name="soft")
    with pytest.raises(rc.ModelFormatError, match="Blur 'soft': got an unsupported operator"):
        rc.from_onnx(model([node], {"x": [2]}, ["y"]))


def test_branches_of_known_conditions_are_taken() -> None:
    """Of a bound input, and of a shape; an operator of the other branch is never looked at."""

    def branch(op: str, name: str) -> Any:
        out = helper.make_tensor_value_info(name, FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [out])

    nodes = [
        helper.make_node("Equal", ["rate", "sixteen"], ["fast"]),
        helper.make_node("If", ["fast"], ["y"], then_branch=branch("Neg", "a"), else_branch=branch("Unknown", "b")),
    ]
    data = model(nodes, {"x": ["N", 2], "rate": []}, ["y"], {"sixteen": np.float32(16)})
    made = rc.from_onnx(data, rate=16)
    x = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(made(x)[0], -x)
    with pytest.raises(rc.ModelFormatError, match="Unknown"):
        rc.from_onnx(data, rate=8)
    with pytest.raises(TypeError, match="sr="):
        rc.from_onnx(data, sr=8)
    with pytest.raises(ValueError, match="rate of shape"):
        rc.from_onnx(data, rate=[8, 8])


def test_states_are_found_or_said() -> None:
    """By a cell, whatever their names are; by names; as they are said."""
    weights = {"W": np.ones((1, 4, 3), np.float32), "R": np.ones((1, 4, 4), np.float32)}
    cell = helper.make_node("RNN", ["x", "W", "R", "", "", "a"], ["", "b"], hidden_size=4)
    copy = [helper.make_node("Add", ["cache_in", "x"], ["cache_out"]), helper.make_node("Neg", ["x"], ["y"])]
    sizes = {"x": [2, 1, 3], "a": [1, 1, 4]}
    assert rc.from_onnx(model([cell], sizes, ["b"], weights)).state_names == ("a",)
    data = model(copy, {"x": ["N", 3], "cache_in": ["N", 3]}, ["y", "cache_out"])
    assert rc.from_onnx(data).state_names == ("cache_in",)
    assert rc.from_onnx(data, states={}).state_names == ()
    stream = rc.from_onnx(data, states={"cache_in": "cache_out"}).stream(2)
    for _ in range(3):
        stream.step(np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(stream.state()[0], np.full((2, 3), 3, np.float32))
    twin = stream.fork()
    stream.reset()
    assert not stream.state()[0].any()
    assert twin.state()[0].all()
    with pytest.raises(rc.ModelFormatError, match="got states="):
        rc.from_onnx(data, states={"cache": "y"})


def whole() -> bytes:
    return lstm()


def bomb(kind: str) -> bytes:
    """Files that ask for far more than they hold."""
    node = helper.make_node
    if kind == "claim":  # a field of 100 MB in a few bytes
        return b"\x3a\x80\xc2\xd7\x2f" + b"\x00" * 20
    if kind == "dims":
        tensor = TensorProto(dims=[10**6, 10**6], data_type=FLOAT, name="c")
        tensor.raw_data = b"\x00" * 16
        made = onnx.load_from_string(model([node("Identity", ["c"], ["y"])], {}, ["y"]))
        made.graph.initializer.append(tensor)
        data: bytes = made.SerializeToString()
        return data
    if kind == "filled":
        return model([node("ConstantOfShape", ["c"], ["y"])], {}, ["y"], {"c": np.array([10**6, 10**6])})
    if kind == "doubled":
        nodes = [node("Concat", [f"v{at}", f"v{at}"], [f"v{at + 1}"], axis=0) for at in range(60)]
        return model(nodes, {}, ["v60"], {"v0": np.ones(100, np.float32)})
    if kind == "outer":
        return model([node("Add", ["a", "b"], ["y"])], {}, ["y"], {"a": np.ones((9000, 1)), "b": np.ones((1, 9000))})
    if kind == "cycle":
        return model([node("Neg", ["b"], ["a"]), node("Neg", ["a"], ["b"])], {}, ["a"])
    assert kind == "nested"
    body = b""
    for _ in range(3000):
        body = b"\x32" + wire.varint(len(body)) + body
    return b"\x3a" + wire.varint(len(body)) + body


@pytest.mark.parametrize("kind", ["claim", "dims", "filled", "doubled", "outer", "cycle", "nested"])
def test_bombs_are_refused_in_bounded_memory(kind: str) -> None:
    data = bomb(kind)
    tracemalloc.start()
    with pytest.raises(rc.ModelFormatError):
        rc.from_onnx(data)
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 700e6 if kind == "doubled" else most < 50e6


def test_truncation_is_refused(tmp_path: Path) -> None:
    data = whole()
    path = tmp_path / "m.onnx"
    for end in [*range(120), *range(120, len(data), 17)]:
        path.write_bytes(data[:end])
        with pytest.raises(rc.ModelFormatError, match="from_onnx"):
            rc.from_onnx(path)


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "link", "", "missing", "."])
def test_weights_outside_the_directory_are_refused(location: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret").write_bytes(b"\x00" * 16)
    (home / "link").symlink_to(tmp_path / "secret")
    (home / "weights").write_bytes(np.arange(4, dtype=np.float32).tobytes())

    def made(place: str) -> bytes:
        found = onnx.load_from_string(model([helper.make_node("Add", ["x", "c"], ["y"])], {"x": [4]}, ["y"]))
        tensor = found.graph.initializer.add(name="c", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=place)
        data: bytes = found.SerializeToString()
        return data

    (home / "m.onnx").write_bytes(made("weights"))
    y, _state = rc.from_onnx(home / "m.onnx")(np.zeros(4, np.float32))
    np.testing.assert_array_equal(y, np.arange(4))
    (home / "m.onnx").write_bytes(made(location))
    with pytest.raises(rc.ModelFormatError, match="the tensor 'c'"):
        rc.from_onnx(home / "m.onnx")
    with pytest.raises(rc.ModelFormatError, match="the tensor 'c'"):
        rc.from_onnx(made("weights"))


def test_native_parts_give_what_numpy_gives() -> None:
    """A graph of convolutions, cells and pooling, as layers and, with weights that are inputs, in numpy."""
    rng = np.random.default_rng(0)
    weights = {
        "K": rng.standard_normal((6, 3, 3)).astype(np.float32),
        "W": rng.standard_normal((2, 16, 6)).astype(np.float32),
        "R": rng.standard_normal((2, 16, 4)).astype(np.float32),
        "B": rng.standard_normal((2, 32)).astype(np.float32),
        "M": rng.standard_normal((8, 5)).astype(np.float32),
        "v": rng.standard_normal(5).astype(np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "K"], ["a"], pads=[1, 1], strides=[2]),
        node("Relu", ["a"], ["b"]),
        node("Transpose", ["b"], ["c"], perm=[2, 0, 1]),
        node("LSTM", ["c", "W", "R", "B"], ["d", "h"], hidden_size=4, direction="bidirectional"),
        node("Transpose", ["d"], ["e"], perm=[2, 0, 1, 3]),
        node("Reshape", ["e", "shape"], ["f"]),
        node("MatMul", ["f", "M"], ["g"]),
        node("Add", ["g", "v"], ["i"]),
        node("Softmax", ["i"], ["y"], axis=-1),
        node("ReduceMax", ["y"], ["z"], axes=[1], keepdims=0),
    ]
    shape = {"shape": np.array([0, 0, 8])}
    known = model(nodes, {"x": ["N", 3, "T"]}, ["y", "z", "h"], {**weights, **shape})
    loose = {"x": ["N", 3, "T"], **{name: array.shape for name, array in weights.items()}}
    given = model(nodes, loose, ["y", "z", "h"], shape)
    layers, numpy = rc.from_onnx(known), rc.from_onnx(given)
    for rows, steps in ((1, 1), (1, 8), (3, 9), (2, 2)):
        x = rng.standard_normal((rows, 3, steps)).astype(np.float32)
        (got, _none), (wanted, _none) = layers(x), numpy({"x": x, **weights})
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)
    assert " 0 nodes in numpy" in layers.import_report()
    assert "LSTM x 1" in numpy.import_report()


def test_rows_that_become_steps_end_a_native_model() -> None:
    rng = np.random.default_rng(0)
    sizes = {"M": (3, 6), "W": (1, 16, 6), "R": (1, 16, 4)}
    weights = {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    nodes = [
        helper.make_node("MatMul", ["x", "M"], ["a"]),
        helper.make_node("Unsqueeze", ["a", "axes"], ["b"]),
        helper.make_node("LSTM", ["b", "W", "R"], ["y"], hidden_size=4),
    ]
    axes = {"axes": np.array([1])}
    layers = rc.from_onnx(model(nodes, {"x": ["T", 3]}, ["y"], {**weights, **axes}))
    numpy = rc.from_onnx(model(nodes, {"x": ["T", 3], **sizes}, ["y"], axes))
    x = rng.standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_allclose(layers(x)[0], numpy({"x": x, **weights})[0], atol=1e-6)
    assert "2 layers in 2 native models, 0 nodes in numpy" in layers.import_report()


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_cells_in_numpy_give_what_layers_give(direction: str) -> None:
    """Rows first and with states in, which no layer does; with known weights and with weights that are inputs."""
    rng = np.random.default_rng(0)
    count = 2 if direction == "bidirectional" else 1
    sizes = {"W": (count, 16, 3), "R": (count, 16, 4), "B": (count, 32), "P": (count, 12)}
    weights = {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    lengths = {"lengths": np.array([5, 2, 0], np.int32)}
    given = {
        "x": rng.standard_normal((5, 3, 3)).astype(np.float32),
        "h": rng.standard_normal((count, 3, 4)).astype(np.float32),
        "c": rng.standard_normal((count, 3, 4)).astype(np.float32),
    }

    def cell(layout: int, known: dict[str, Any], inputs: dict[str, Any]) -> Any:
        names = ["x", "W", "R", "B", "lengths", "h", "c", "P"]
        outputs = ["y", "hn", "cn"]
        node = helper.make_node("LSTM", names, outputs, hidden_size=4, direction=direction, layout=layout)
        data = model([node], {name: array.shape for name, array in inputs.items()}, outputs, {**known, **lengths})
        made = rc.from_onnx(data, states={})
        got, _state = made(inputs)
        again, _state = made(inputs)
        for one, other in zip(got, again, strict=True):
            np.testing.assert_array_equal(one, other)
        return got, made.import_report()

    wanted, report = cell(0, weights, given)
    assert " 0 nodes in numpy" in report
    turned = {name: array.swapaxes(0, 1) for name, array in given.items()}
    for known, inputs in ((weights, turned), ({}, {**turned, **weights})):
        (y, *states), report = cell(1, known, inputs)
        assert "LSTM x 1" in report
        np.testing.assert_allclose(y.transpose(1, 2, 0, 3), wanted[0], atol=1e-6)
        for one, other in zip(states, wanted[1:], strict=True):
            np.testing.assert_allclose(one.swapaxes(0, 1), other, atol=1e-6)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("per_column", [False, True])
def test_an_lstm_of_8_bit_weights_comes_as_float(kind: Any, per_column: bool) -> None:
    """Exactly that of the numbers that its weights stand for; onnxruntime, which also rounds x and h, is near."""
    rng = np.random.default_rng(0)
    low = np.iinfo(kind).min
    sizes = {"W": (2, 3, 16), "R": (2, 4, 16)}
    numbers = {name: rng.integers(low, low + 256, size).astype(kind) for name, size in sizes.items()}
    shape = (2, 16) if per_column else (2,)
    scales = {name: rng.uniform(0.003, 0.006, shape).astype(np.float32) for name in sizes}
    zero = np.full(shape, 0 if kind == np.int8 else 128, kind)
    constants = {**numbers, "sW": scales["W"], "zW": zero, "sR": scales["R"], "zR": zero}
    inputs = ["x", "W", "R", "", "", "", "", "", "sW", "zW", "sR", "zR"]
    node = helper.make_node(
        "DynamicQuantizeLSTM", inputs, ["y"], domain="com.microsoft", hidden_size=4, direction="bidirectional"
    )
    found = onnx.load_from_string(model([node], {"x": ["T", "N", 3]}, ["y"], constants))
    found.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    data = found.SerializeToString()

    def real(name: str) -> Any:
        each = scales[name][:, None] if per_column else scales[name][:, None, None]
        return ((numbers[name].astype(np.float32) - float(zero.flat[0])) * each).transpose(0, 2, 1)

    plain = helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=4, direction="bidirectional")
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)
    wanted, _state = rc.from_onnx(model([plain], {"x": ["T", "N", 3]}, ["y"], {"W": real("W"), "R": real("R")}))(x)
    got, _state = rc.from_onnx(data)(x)
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(got, session.run(None, {"x": x})[0], atol=0.02)


@pytest.mark.parametrize("name", ["/dev/null", "/dev/zero"])
def test_devices_are_refused_and_named_once(name: str) -> None:
    for read in (rc.from_onnx, rc.from_keras):
        with pytest.raises(
            rc.ModelFormatError, match=f"^from_[a-z]+: got {name}, which is a device, expected"
        ) as caught:
            read(name)
        assert str(caught.value).count("from_") == 1


@pytest.mark.parametrize("order", [1, -1])
def test_outputs_belong_to_the_caller(order: int) -> None:
    """Whatever gives them: an input, a constant of the graph, a view of one, or the same value under two names."""
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Identity", ["c"], ["known"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Reshape", ["c", "shape"], ["shaped"]),
        helper.make_node("Softsign", ["x"], ["soft"]),
        helper.make_node("Identity", ["soft"], ["again"]),
        helper.make_node("Transpose", ["soft"], ["turned"], perm=[1, 0]),
        helper.make_node("Sign", ["x"], ["sign"]),
        helper.make_node("Transpose", ["sign"], ["turned sign"], perm=[1, 0]),
    ]
    names = ["same", "known", "shaped", "soft", "again", "turned", "sign", "turned sign"][::order]
    runs = rc.from_onnx(model(nodes, {"x": ["N", 2]}, names, {"c": np.arange(6, dtype=np.float32)}))
    x = np.ones((3, 2), np.float32)
    first, _state = runs(x)
    kept = [one.copy() for one in first]
    for at, one in enumerate(first):
        one[:] = 99
        for other in range(at + 1, len(first)):
            np.testing.assert_array_equal(first[other], kept[other], err_msg=f"{names[at]} and {names[other]}")
    np.testing.assert_array_equal(x, 1)
    for one, other in zip(runs(x)[0], kept, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("axis", range(-3, 3))
def test_what_only_moves_numbers_moves_them_as_onnxruntime_does(axis: int) -> None:
    """With places that are known when the graph is read."""
    x = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    size = x.shape[axis]
    nodes = [
        *(helper.make_node("Gather", ["x", f"at {at}"], [f"one {at}"], axis=axis) for at in (0, size - 1, -1, -size)),
        helper.make_node("Gather", ["x", "list"], ["listed"], axis=axis),
        helper.make_node("Concat", ["x", "listed", "x"], ["joined"], axis=axis),
        helper.make_node("Split", ["joined", "sizes"], ["a", "b", "c"], axis=axis),
        helper.make_node("Split", ["joined", "all"], ["whole"], axis=axis),
    ]
    places = {f"at {at}": np.array(at) for at in (0, size - 1, -1, -size)}
    constants = {**places, "list": np.array([[1]]), "sizes": np.array([2, 0, 2 * size - 1]), "all": [2 * size + 1]}
    nodes.insert(5, helper.make_node("Squeeze", ["listed", "flat"], ["squeezed"]))
    nodes[6].input[1] = "squeezed"
    constants["flat"] = np.array([axis % 3])
    names = [*(f"one {at}" for at in (0, size - 1, -1, -size)), "listed", "joined", "a", "b", "c", "whole"]
    content = model(nodes, {"x": [3, 4, 5]}, names, constants)
    wanted = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    for name, one, other in zip(names, rc.from_onnx(content)(x)[0], wanted, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("at", [3, -4])
def test_a_place_that_is_not_there_is_told_with_its_node(at: int) -> None:
    node = helper.make_node("Gather", ["x", "at"], ["y"], name="taker")
    runs = rc.from_onnx(model([node], {"x": ["N", 2]}, ["y"], {"at": np.array(at)}))
    with pytest.raises(ValueError, match="taker"):
        runs(np.ones((3, 2), np.float32))


@pytest.mark.parametrize("state", [0.0, 1.0])
def test_a_constant_initial_state_is_no_part_of_a_model(state: float) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("RNN", ["x", "W", "R", "", "", "h"], ["Y"], hidden_size=4),
        helper.make_node("Squeeze", ["Y", "one"], ["y"]),
    ]
    constants = {
        "W": rng.standard_normal((1, 4, 3)),
        "R": rng.standard_normal((1, 4, 4)),
        "h": np.full((1, 2, 4), state),
    }
    constants = {name: array.astype(np.float32) for name, array in constants.items()} | {"one": np.array([1])}
    imported = rc.from_onnx(model(nodes, {"x": ["T", 2, 3]}, ["y"], constants))
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)
    y, _state = imported(x)
    if state:
        with pytest.raises(ValueError, match=r"^OnnxModel\.as_model: got a layer that begins with a constant state"):
            imported.as_model()
    else:
        np.testing.assert_array_equal(imported.as_model()(x.swapaxes(0, 1).copy())[0].swapaxes(0, 1), y)


def test_a_layer_whose_shape_alone_is_asked_for_does_not_run() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["wide"]),
        helper.make_node("Shape", ["wide"], ["y"]),
    ]
    runs = rc.from_onnx(model(nodes, {"x": ["N", 5, 2]}, ["y"], {"w": np.ones((2, 7), np.float32)}))
    np.testing.assert_array_equal(runs(np.ones((3, 5, 2), np.float32))[0], [3, 5, 7])


@pytest.mark.parametrize("outputs", [["one"], ["one", "two"], ["one", "flat"], ["flat", "one"], ["one", "same"]])
def test_outputs_share_no_memory(outputs: list[str]) -> None:
    """With one another, the input or the graph's constants: what is written to one changes nothing else."""
    nodes = [
        helper.make_node("Concat", ["x", "c"], ["one"], axis=1),
        helper.make_node("Concat", ["c", "x"], ["two"], axis=1),
        helper.make_node("Reshape", ["one", "all"], ["flat"]),
        helper.make_node("Identity", ["one"], ["same"]),
    ]
    constants = {"c": np.ones((2, 3), np.float32), "all": np.array([-1])}
    run = rc.from_onnx(model(nodes, {"x": [2, 3]}, outputs, constants))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for _ in range(2):
        made = run(x)[0]
        arrays = [made] if len(outputs) == 1 else list(made)
        for name, array in zip(outputs, arrays, strict=True):
            pair = [constants["c"], x] if name == "two" else [x, constants["c"]]
            assert np.array_equal(array.ravel(), np.concatenate(pair, 1).ravel())
        for number, array in enumerate(arrays):
            array[...] = number - 7
        assert all((array == number - 7).all() for number, array in enumerate(arrays))
        assert x.max() == 5
