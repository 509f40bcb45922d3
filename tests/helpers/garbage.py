"""Calls of the core with invalid arguments: whatever the result, the process must survive."""

from __future__ import annotations

import contextlib
import signal
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np

from recurra import _core

Call = tuple[Callable[..., Any], list[Any]]


def floats(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def unmade(kind: type) -> Any:
    return kind.__new__(kind)


def values() -> list[Any]:
    """Values to pass instead of an argument."""
    extremes = [-(2**63), -(2**31), -1, 0, 1, 3, 2**31 - 1, 2**31, 2**48, 2**62, 2**63 - 1, 2**64 - 1, 2**64]
    numbers = [*extremes, 0.5, float("nan"), float("inf"), -1e308, True, 1j]
    arrays = [
        *(np.zeros(shape, dtype) for shape in [(), (0,), (2,), (2, 3), (2, 3, 4), (0, 0, 0)] for dtype in "fdl?"),
        *(np.full((2, 3), extreme, np.int64) for extreme in (-(2**63), 2**40, 2**63 - 1)),
        np.zeros((2, 3, 4), np.float32)[::-1, :, ::2],
        np.broadcast_to(np.float32(1), (2, 2**40, 4)),
        np.zeros((2, 3), object),
        np.frombuffer(bytes(4 * 24), np.float32).reshape(2, 3, 4),
    ]
    half_made = [unmade(kind) for kind in vars(_core).values() if isinstance(kind, type)]
    made = [_core.Dense(4, 5), _core.Dense(4, 5, dtype="float64"), _core.Dropout(0.5), parameters()]
    return [None, object(), "", "lstm", "\0", b"x", (), [], {}, *numbers, *arrays, *half_made, *made, [None], [[]], int]


class Slot:
    """What stands for a pool's stream."""

    def __init__(self, slot: Any = 0) -> None:
        self.slot, self.used = slot, 0.0


def step_group(count: int) -> Any:
    group = _core.StepGroup("float32", 3, None, Future, deque())
    for slot in range(count):
        group.add(Slot(slot), floats(3))
    return group


def taken_group() -> Any:
    group = step_group(2)
    group.take(0.0)
    return group


def parameters() -> Any:
    return _core.Parameters("float32", [("w", [2, 3])])


def gradient() -> Any:
    return _core.Gradient(parameters(), floats(6))


def add_chosen() -> Call:
    own = parameters()
    return lambda *to: _core.add_gradients([], [(own, floats(6))], to), [_core.Gradient(own, floats(6))]


def program() -> Any:
    return _core.Program("p", [("either", 4)], [(_core.Recurrent("gru", 4, 5), [0], [])], [1])


def tape() -> Any:
    return program().record(floats(2, 3, 4))


def tape_block() -> Any:
    """The bytes of a tape, whose signature is 7."""
    size = program().tape_bytes(floats(2, 3, 4), None, False, False, False, True, None)
    spare = np.zeros(size + 64, np.uint8)
    begin = -spare.ctypes.data % 64
    block = spare[begin : begin + size]
    program().record(floats(2, 3, 4), None, None, None, False, True, True, 0, None, True, 0, (block, 7))
    return block


def pending() -> Any:
    """A tape with gradients pending for `add_gradients`."""
    made = tape()
    made.backward(floats(2, 3, 5), None, (), False)
    return made


def unfinished() -> Any:
    """A tape pending for `finish_records`."""
    return program().record(floats(2, 3, 4), None, None, None, False, True, True, 0, None, False)


def stream() -> Any:
    return program().stream(2)


LABELS = np.ones((2, 3), np.int64)
LENGTHS, WEIGHTS = np.array([3, 1]), np.array([1.0, 2.0])
RULE = (0.1, 0.0, 1.0, 1.0, 1.0)


def loss(name: str, width: int, *more: Any) -> tuple[str, Callable[[], Call]]:
    return name, lambda: (getattr(_core, name), [floats(2, 3, 4), floats(2, 3, width), LENGTHS, WEIGHTS, True, *more])


def update(name: str, *more: Any) -> tuple[str, Callable[[], Call]]:
    def run(*given: Any) -> Any:
        _core.run_updates([getattr(_core, name)(*given)], {}, {})

    return name, lambda: (run, [parameters(), 0, 6, RULE, *more])


def method(name: str, make: Callable[[], Any], *arguments: Any) -> tuple[str, Callable[[], Call]]:
    return name, lambda: (getattr(make(), name.split(".")[1]), list(arguments))


def layer(name: str, *arguments: Any, **options: Any) -> tuple[str, Callable[[], Call]]:
    def make(*given: Any) -> Any:
        named = dict(zip(options, given[len(arguments) :], strict=True))
        return getattr(_core, name)(*given[: len(arguments)], **named)

    return f"{name}.__init__", lambda: (make, [*arguments, *options.values()])


HEAD = {"kind": "categorical", "temperature": 1.0, "top_k": 2, "top_p": 0.9, "repetition_penalty": 1.2, "suppress": [1],
        "stop": [0], "eps": 1e-6}  # fmt: skip
GENERATION = [floats(2, 3, 5), LENGTHS, [0], [floats(1, 2, 5)], [HEAD], 4, 7, [3, 5], 1]


def language_model() -> Any:
    """Its five classes are what it reads, one-hot."""
    return _core.Program("p", [("either", 5)], [(_core.Recurrent("gru", 5, 5), [0], [])], [1])


def generation() -> Any:
    made = _core.Generation(language_model(), *GENERATION)
    made.run(2)
    return made


def decoder_search() -> Call:
    layers = [_core.Embedding(4, 4), _core.Recurrent("gru", 4, 5), _core.Dense(5, 4)]
    return _core.search, [layers, 2, [None], None, None, 0, 1, 4, 2, 1, 0.0]


#: By name, one entry per form of a call: the function, and valid arguments.
GOOD_CALLS: list[tuple[str, Callable[[], Call]]] = [
    ("num_threads", lambda: (_core.num_threads, [])),
    ("set_num_threads", lambda: (_core.set_num_threads, [2])),
    ("caches", lambda: (_core.caches, [])),
    ("set_caches", lambda: (_core.set_caches, [1 << 15, 1 << 20])),
    ("isa", lambda: (_core.isa, [])),
    ("build_info", lambda: (_core.build_info, [])),
    ("softmax_cross_entropy", lambda: (_core.softmax_cross_entropy, [floats(2, 3, 4), LABELS, LENGTHS, WEIGHTS, True,
        floats(4), 0.1, 2])),
    loss("binary_cross_entropy", 4),
    loss("mean_squared_error", 4),
    loss("absolute_error", 4),
    loss("huber", 4, 1.0),
    loss("quantile_loss", 2, [0.1, 0.9]),
    loss("gaussian_nll", 2, 1e-6),
    ("mixture_density", lambda: (_core.mixture_density, [floats(2, 3, 6), floats(2, 3, 2), LENGTHS, None, True, 1, 2,
        True, False, 1e-6])),
    loss("policy_loss", 4, True, 0.2, 0.1, 1e-6),
    loss("value_loss", 8, 0.2),
    ("crf", lambda: (_core.crf, [floats(2, 3, 4), LABELS, LENGTHS, None, True, _core.CRF(4).parameters, None, None])),
    ("crf_viterbi", lambda: (_core.crf_viterbi, [floats(2, 3, 4), LENGTHS, _core.CRF(4).parameters, None])),
    ("crf_marginals", lambda: (_core.crf_marginals, [floats(2, 3, 4), LENGTHS, _core.CRF(4).parameters, None])),
    ("ctc", lambda: (_core.ctc, [floats(2, 3, 4), LABELS[:, :1], LENGTHS, WEIGHTS, True, 0])),
    ("ctc_greedy", lambda: (_core.ctc_greedy, [floats(2, 3, 4), LENGTHS, 0])),
    ("ctc_beam_search", lambda: (_core.ctc_beam_search, [floats(2, 3, 4), LENGTHS, 0, 2, 1])),
    ("gradient_norm", lambda: (_core.gradient_norm, [parameters(), 1.0, 1.0])),
    update("sgd_update", floats(6), 0.9, True),
    update("adam_update", floats(6), floats(6), 1, 0.9, 0.999, 1e-8, False, True),
    update("rmsprop_update", floats(6), floats(6), floats(6), 0.99, 1e-8, 0.9),
    update("adagrad_update", floats(6), 1e-8),
    ("run_updates", lambda: (_core.run_updates, [
        [_core.sgd_update(parameters(), 0, 6, RULE, None, 0.0, False)], {}, {"steps": 1}])),
    ("assign", lambda: (_core.assign, [[(parameters(), "w", floats(2, 3))], [(floats(2), floats(2))]])),
    ("assign", lambda: (lambda *one: _core.assign([one]), [parameters(), "w", floats(2, 3)])),
    ("finish_records", lambda: (_core.finish_records, [[unfinished()]])),
    ("add_gradients", lambda: (_core.add_gradients, [[], [(parameters(), floats(6))]])),
    ("add_gradients", lambda: (lambda tape, *own: _core.add_gradients([tape], [own]),
        [pending(), parameters(), floats(6)])),
    ("add_gradients", add_chosen),
    ("sum_gradients", lambda: (_core.sum_gradients, [[gradient()], [gradient()]])),
    ("sum_gradients", lambda: (lambda one, other: _core.sum_gradients([one], [other]), [gradient(), gradient()])),
    ("Gradient.__init__", lambda: (_core.Gradient, [parameters(), floats(6)])),
    method("Gradient.zero", gradient),
    ("read_whole", lambda: (_core.read_whole, [[parameters()], "t", len, "a"])),
    ("write_whole", lambda: (_core.write_whole, [[parameters()], len, "a"])),
    ("release_signals", lambda: (_core.release_signals, [len, {signal.SIGUSR1: print}, []])),
    ("OwnCell.__init__", lambda: (_core.OwnCell, ["own", 1, (0, 1), (0, 0), [0, -1, -1, -1], [-1] * 4, 1, False, "",
        [["W"], [], ["b"], ["u"]], [0] * 4])),
    ("Turns.__init__", lambda: (_core.Turns, [])),
    ("Turns.__call__", lambda: (_core.Turns(), ["t", len, "a"])),
    ("Turns.read", lambda: (_core.Turns().read, [len, "a"])),
    ("StepGroup.__init__", lambda: (_core.StepGroup, ["float32", 3, None, Future, deque()])),
    ("StepGroup.add", lambda: (step_group(0).add, [Slot(), floats(3)])),
    ("StepGroup.add", lambda: (lambda *owned: _core.StepGroup("float32", 3, *owned).add(Slot(), floats(3)),
        [None, Future, deque()])),
    method("StepGroup.take", lambda: step_group(2), 0.0),
    ("StepGroup.finish", lambda: (taken_group().finish, [floats(2, 3), 0.0])),
    method("StepGroup.spread", lambda: step_group(2)),
    method("StepGroup.abandon", taken_group),
    method("StepGroup.clear", lambda: step_group(2)),
    ("Turns.attempt", lambda: (_core.Turns().attempt, [len, "a"])),
    ("Together.__init__", lambda: (_core.Together, ["t", [stream()], [parameters()]])),
    ("Together.__call__", lambda: (_core.Together("t", [stream()], [parameters()]), [len, "a"])),
    ("search", decoder_search),
    ("attention_weights", lambda: (_core.attention_weights, [_core.Attention("dot", 4, 4), "a", floats(2, 3, 4),
        floats(2, 5, 4), LENGTHS, np.array([5, 0]), []])),
    layer("Parameters", "float32", [("w", [2, 3])]),
    method("Parameters.shape", parameters, "w"),
    method("Parameters.span", parameters, "w"),
    method("Parameters.value", parameters, "w"),
    method("Parameters.grad", parameters, "w"),
    method("Gradient.assign", gradient, "w", floats(2, 3)),
    method("Parameters.writable", parameters, "w"),
    method("Parameters.assign", parameters, "w", floats(2, 3)),
    method("Parameters.touch", parameters),
    method("Parameters.zero_grad", parameters),
    layer("Hopfield", 4, beta=2.0, steps=3, tolerance=1e-3, dtype="float32"),
    layer("Recurrent", "lstm", 4, 5, 1, bias=True, bidirectional=False, dropout=0.0, return_sequences=True,
        dtype="float32", proj_size=2, peepholes=True, layer_norm=True, input_dropout=0.1, recurrent_dropout=0.1,
        zoneout=0.1, zoneout_cell=0.1, cell_clip=1.0, activations=[("sigmoid", 0.0, 0.0), ("relu", 0.0, 0.0),
        ("hard_sigmoid", 0.2, 0.5)]),
    layer("Dense", 4, 5, bias=True, dtype="float32"),
    layer("Embedding", 4, 5, sparse=True, dtype="float32"),
    layer("Dropout", 0.5, dtype="float32"),
    layer("Attention", "additive", 4, 5, 3, dtype="float32"),
    layer("AttentionDecoder", "lstm", 4, 5, 3, attention="additive", attention_size=2, input_feeding=True, bias=True,
        dtype="float32"),
    *(layer(name, dtype="float32") for name in (
        "Add", "Multiply", "Concatenate", "Subtract", "Average", "Maximum", "Minimum", "Dot", "Reverse")),
    layer("Conv1d", 4, 5, 3, stride=1, dilation=1, padding="causal", bias=True, dtype="float32"),
    layer("ConvTranspose1d", 4, 5, 3, stride=2, padding=1, output_padding=1, dilation=1, bias=True, dtype="float32"),
    layer("GroupNorm", 2, 4, eps=1e-5, affine=True, instance=False, dtype="float32"),
    layer("Conv2d", 2, 5, (3, 2), height=2, width=0, stride=(1, 1), dilation=(1, 1), padding=((1, 1), (1, 0)),
        bias=True, dtype="float32"),
    layer("WindowPool2d", "max", (2, 1), channels=2, height=2, width=0, stride=(1, 1), padding=((0, 0), (0, 0)),
        dtype="float32"),
    layer("Pool", "mean", dtype="float32"),
    layer("Slice", 1, 4, 2, dtype="float32"),
    layer("RepeatVector", 3, dtype="float32"),
    layer("LearntVector", 3, dtype="float32"),
    layer("WindowPool1d", "max", 3, stride=1, padding="causal", features=4, dtype="float32"),
    layer("AttentionPool", 4, 5, dtype="float32"),
    method("AttentionPool.weights", lambda: _core.AttentionPool(4, 5), floats(2, 3, 4), LENGTHS),
    layer("LayerNorm", 4, eps=1e-5, affine=True, dtype="float32"),
    layer("BatchNorm", 4, eps=1e-5, momentum=0.1, affine=True, images=True, dtype="float32"),
    layer("Activation", "relu", dtype="float32"),
    layer("Permute", (2, 2), (1, 0), dtype="float32"),
    layer("PReLU", 4, dtype="float32"),
    layer("CRF", 4, dtype="float32"),
    layer("Program", "p", [("either", 4)], [(_core.Dense(4, 5), [0], [])], [1]),
    ("Program.__init__", lambda: (lambda each: _core.Program("p", [("either", 4)], [(each, [0], [])], [1]),
        [_core.Dense(4, 5)])),
    ("Program.__init__", lambda: (lambda kind, size, reads, begins, out: _core.Program("p", [(kind, size)],
        [(_core.Recurrent("gru", 4, 5), reads, begins)], [out]), ["either", 4, [0], [-1], 1])),
    ("Program.__init__", lambda: (lambda read, begin: _core.Program("p", [("either", 4)],
        [(_core.Recurrent("gru", 4, 5), [read], [begin])], [1]), [0, -1])),
    method("Program.forward", program, floats(2, 3, 4), LENGTHS, np.zeros((2, 3), bool), [floats(1, 2, 5)], False),
    method("Program.record", program, floats(2, 3, 4), LENGTHS, np.zeros((2, 3), bool), [floats(1, 2, 5)], False, True,
        True, 0, None, True),
    method("Program.tape_bytes", program, floats(2, 3, 4), LENGTHS, True, True, False, True, 1 << 20),
    ("Program.open_tape", lambda: (program().open_tape, [tape_block(), 7])),
    method("Program.stream", program, 2),
    method("Tape.backward", tape, floats(2, 3, 5), [floats(1, 2, 5)]),
    method("Tape.activity", tape, 0),
    method("Tape.keep_gradient_norms", tape),
    method("Tape.close", tape),
    ("Generation.__init__", lambda: (_core.Generation, [language_model(), *GENERATION])),
    method("Generation.run", generation, 1),
    method("Generation.open_rows", generation),
    method("Generation.end", generation, 1),
    method("Generation.generated", generation, 1),
    method("Generation.state", generation),
    method("Stream.step", stream, floats(2, 4), np.zeros(2, bool), floats(2, 5), np.array([1, 0])),
    method("Stream.process", stream, floats(2, 3, 4), np.zeros((2, 3), bool), floats(2, 3, 5), np.array([1, 0])),
    method("Stream.copy_rows", stream, np.array([1]), np.array([0])),
    ("listed_rows", lambda: (_core.listed_rows, ["s", np.array([1, 0]), 2, True])),
    method("Stream.reset", stream, np.array([1])),
    method("Stream.state", stream, np.array([1])),
    method("Stream.load_state", stream, [floats(1, 1, 5)], np.array([1])),
    method("Stream.fork", stream, 2, np.array([1])),
]  # fmt: skip


def attempt(call: Callable[..., Any], *arguments: Any) -> None:
    with contextlib.suppress(Exception):  # whichever: what must not happen is a crash
        call(*arguments)


def try_arguments(name: str) -> None:
    """Each argument of a function replaced by every value, one at a time; then too few and too many arguments."""
    for _name, make in (each for each in GOOD_CALLS if each[0] == name):
        call, good = make()
        call(*good)
        for position in range(len(good)):
            for value in values():
                print(name, position, repr(value)[:100], flush=True)
                call, given = make()
                given[position] = value
                attempt(call, *given)
        for count in range(len(good) + 3):
            call, given = make()
            attempt(call, *[*given, None, None, None][:count])


def try_unmade(kind: type) -> None:
    """Every attribute of an object made by __new__ alone, called on it and, through its class, on other objects too."""
    for attribute in dir(kind):
        if attribute in ("__class__", "__init_subclass__", "__subclasshook__", "__new__"):
            continue
        for victim in (unmade(kind), unmade(_core.Stream), None, 1):
            print(kind.__name__, attribute, type(victim).__name__, flush=True)
            descriptor = getattr(kind, attribute)
            if isinstance(descriptor, property):
                attempt(descriptor.fget, victim)  # type: ignore[arg-type]
            elif callable(descriptor):
                for arguments in ([], [None], [0], ["w"], [floats(2, 4)], ["w", floats(2, 3)]):
                    attempt(descriptor, victim, *arguments)
    del victim
