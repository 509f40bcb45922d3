"""Generation: sequences drawn step by step from what a model says of the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra import _core
from recurra.common import checks, keywords, seeds
from recurra.common.structure import ALONE, Structure
from recurra.common.typing import Array, Lengths, State
from recurra.data.rows import ragged
from recurra.decoding.step_part import StepPart
from recurra.graph.graph import Graph, pack
from recurra.layers.layer import Layer
from recurra.losses.find import named
from recurra.losses.labels import BinaryCrossEntropy, CrossEntropy
from recurra.losses.mixture import MixtureDensity
from recurra.losses.numbers import L1, GaussianNLL, Huber, MeanSquaredError
from recurra.models.graph_model import GraphModel
from recurra.running.state import StateLayout
from recurra.running.stream import Stream

__all__ = ["Generated", "generate"]

_NAME = "generate"

#: Called after a step with its number, its samples and the rows that drew one.
Callback = Callable[[int, Any, Array], Any]


@dataclass(frozen=True)
class Generated:
    """What `generate` has drawn for N rows. L is the length of the longest; past a row's length there are zeros.

    Attributes:
        samples: (N, L) tokens or (N, L, features) numbers; of a model with several outputs, one each in their
            structure.
        lengths: (N,) the steps of each row, a stop token included.
        log_probs: (N, L), in the structure of `samples`: the logarithm of each token's probability, or of each vector's
            density, as the model says: whatever temperature, top_k and so on are. 0 for values that are not drawn.
        weights: (N, L, Tm), the attention weights over the memory of the first `AttentionDecoder` at each step; None
            without one.
        state: the model's state after all steps but the last sample, which `generate` goes on from; None of a model of
            which a part runs once, such as an encoder.

    Example:
        >>> model = rc.Sequential(rc.Embedding(12, 8), rc.GRU(8, 16), rc.Linear(16, 12), seed=0)
        >>> drawn = rc.generate(model, [[1, 2], [3, 4]], 5, stop=0, seed=1)
        >>> [len(row) for row in drawn.lists()] == drawn.lengths.tolist()
        True
    """

    samples: Any
    lengths: Array
    log_probs: Any
    weights: Array | None
    state: State

    def __len__(self) -> int:
        return len(self.lengths)

    def lists(self) -> Any:
        """Each row's samples without padding, as plain lists; in the structure of `samples`."""
        if isinstance(self.samples, Mapping):
            return {name: self._cut(one) for name, one in self.samples.items()}
        return tuple(map(self._cut, self.samples)) if isinstance(self.samples, tuple) else self._cut(self.samples)

    def _cut(self, samples: Array) -> list[Any]:
        return [row[:length].tolist() for row, length in zip(samples, self.lengths, strict=True)]


def generate(
    model: Layer | Stream[Any],
    prompt: Any,
    steps: int,
    *,
    lengths: Lengths = None,
    given: Mapping[Any, Any] | None = None,
    state: State = None,
    loss: Any = None,
    temperature: Any = 1.0,
    repetition_penalty: Any = 1.0,
    top_k: Any = None,
    top_p: Any = None,
    suppress: Any = None,
    stop: Any = None,
    seed: int | None = None,
    row_ids: Sequence[int] | Array | None = None,
    first_step: int = 0,
    callback: Callback | None = None,
) -> Generated:
    """Draws sequences from a model, each sample being its next input: all steps of all rows in one native call.

        drawn = rc.generate(model, prompt, steps=200, temperature=0.8, top_p=0.95, stop=END, seed=0)

    Logits of tokens are changed in the order of Hugging Face's `generate`, with its names: tokens of `suppress` become
    impossible; `repetition_penalty` (Keskar et al. 2019, section 4.1) divides positive logits of tokens that the prompt
    or the row has, and multiplies negative ones; all are divided by `temperature`; the `top_k` largest stay (Fan,
    Lewis, Dauphin 2018), with what equals the last of them; of those, the fewest whose probabilities sum to `top_p`
    (Holtzman et al. 2020), the more probable first, of equal ones the smaller token.

    Each row is drawn by itself: its random numbers depend on the seed, its id and the step alone (Philox, Salmon et al.
    2011), so it has the same bits in any batch, beside any other rows, and on any number of threads.

    Args:
        model: a model or layer whose output says what the next input may be, or an open stream of one, which goes on:
            it then has the state that `Generated.state` describes. Layers with attention look at what the given inputs
            become; what does not depend on the generated input runs once, such as an encoder.
        prompt: what is known of the sequences, at least one step, which the first sample follows: (N, P) tokens or (N,
            P, features), or a list with an array for each (ragged) row. With several outputs, one such for each input
            that they feed, in a tuple or a dict by the inputs' names. One-hot inputs are fed one-hot.
        steps: the most steps to generate; 0 or more.
        lengths: (N,) valid steps of the prompts; not with a list.
        given: the inputs that no output feeds, by name or, without names, by index. What is read step by step has to
            reach over the prompt and all steps to generate but the last.
        state: the state before the prompt, as a call takes it; None for zeros, and for a stream's own.
        loss: what the model was trained with, in the structure of its outputs, or one for all. `CrossEntropy` (the
            default) makes the outputs logits of tokens, `BinaryCrossEntropy` logits of numbers that are 0 or 1,
            `GaussianNLL` and `MixtureDensity` distributions of vectors; the outputs of `MeanSquaredError`, `L1` and
            `Huber` are themselves the next inputs.
        temperature: divides logits and multiplies variances (of mixtures: Ha and Eck 2018, section 3.3). 0 for the most
            probable: of equal tokens, the smallest; of a mixture, the mean of the component of the largest weight.
        repetition_penalty, top_k, top_p: as above; 1, None and None leave all as they are.
        suppress: tokens that are never drawn.
        stop: the token or tokens that end a row, being its last sample; None for none.
        seed: None for a fresh one.
        row_ids: (N,) a number for each row, which may be a user's or a document's; None for 0 to N - 1.
        first_step: the number of the first step, for the random numbers of a call that goes on with another one.
        callback: called as callback(step, samples, drew) after each step, `samples` (N, ...) being those of the step
            and drew (N,) bool the rows that have one. If it returns True, all rows end here; of an array of N bools,
            those rows. The weights may change between two steps.

    With several outputs, each of temperature, repetition_penalty, top_k, top_p, suppress and stop may be a tuple or
    dict in their structure; a single one stands for all outputs that it can apply to. A row ends when any of its
    outputs draws a stop token.

    Raises:
        ValueError, TypeError: arguments do not fit, or a row's logits hold NaN or allow no token; nothing has changed
            then, nor after Ctrl-C or an exception of the callback.

    Example:
        >>> model = rc.Sequential(rc.Embedding(12, 8), rc.GRU(8, 16), rc.Linear(16, 12), seed=0)
        >>> prompt = [np.array([1, 2, 3]), np.array([4])]  # ragged
        >>> drawn = rc.generate(model, prompt, 20, top_k=5, temperature=0.8, seed=0)
        >>> drawn.samples.shape, drawn.lengths.tolist()
        ((2, 20), [20, 20])
        >>> rows = rc.generate(model, [[4]], 20, top_k=5, temperature=0.8, seed=0, row_ids=[1])
        >>> bool((rows.samples[0] == drawn.samples[1]).all())
        True
    """
    graph, (inputs, outputs), owner = _graph_of(model)
    steps = checks.integer(_NAME, "steps", steps, 0)
    fed, x, valid = _inputs(inputs, outputs, prompt, lengths, given)
    rows = _rows(inputs, x)
    if isinstance(model, Stream):
        if state is not None:
            raise ValueError(f"{_NAME}: got state with a stream, expected none, as it has its own; use its load_state")
        if model.batch_size != rows:
            raise ValueError(
                f"{_NAME}: got a prompt of {rows} rows, expected {model.batch_size}, the stream's batch_size; give one "
                "for each"
            )
        state = model.state()
    layout = (
        model._layout
        if isinstance(model, Stream)
        else StateLayout(owner, graph.nodes, alone=not isinstance(model, GraphModel))
    )
    heads = _heads(outputs, loss, temperature, repetition_penalty, top_k, top_p, suppress, stop)
    part = StepPart(_NAME, graph, fed)
    with _speaking_of_prompts(inputs):
        prepared = part.prepare(x, valid, layout.arrays(_NAME, state))
        native = _core.Generation(
            part.program,
            pack(prepared.x),
            pack(prepared.lengths),
            prepared.feeds,
            prepared.state,
            heads,
            steps,
            seeds.resolve(_NAME, seed),
            _ids(row_ids, rows),
            checks.integer(_NAME, "first_step", first_step, 0, checks.LARGEST - steps),
        )
    if callback is None:
        native.run(steps)
    else:
        _run_with(native, steps, callback, outputs)
    samples, lengths, log_probs, weights = native.generated()
    final = layout.nest(native.state()) if part.keeps_state else None
    if isinstance(model, Stream):
        model.load_state(final)
    return Generated(outputs.join(samples), lengths, outputs.join(log_probs), weights, final)


@contextmanager
def _speaking_of_prompts(inputs: Structure) -> Iterator[None]:
    """Errors of the core about the model's only input call it what it is here."""
    try:
        yield
    except (TypeError, ValueError) as error:
        said, begin = str(error), f"{_NAME}: x "
        if inputs.count is not None or not said.startswith(begin):
            raise
        raise type(error)(f"{_NAME}: prompt {said[len(begin) :]}".replace("x[None]", "prompt[None]")) from None


def _run_with(native: _core.Generation, steps: int, callback: Callback, outputs: Structure) -> None:
    """Steps one by one."""
    if not callable(callback):
        raise TypeError(f"{_NAME}: got callback={callback!r}, expected a function; write callback=lambda *step: ...")
    native.run(0)  # the prompt
    for step in range(steps):
        drew = native.open_rows()
        if not drew.any():
            return
        native.run(1)
        drawn = native.generated(step)[0]
        answer = callback(step, outputs.join([one[:, 0] for one in drawn]), drew)
        if answer is None or answer is False:
            continue
        ends = np.asarray(answer)
        if ends.dtype != bool or ends.shape not in ((), drew.shape):
            raise TypeError(
                f"{_NAME}: got {answer!r} from the callback, expected None, a bool or an array of {len(drew)} bools; "
                "return whether to end"
            )
        for row in np.flatnonzero(np.broadcast_to(ends, drew.shape)):
            native.end(int(row))


def _graph_of(model: Any) -> tuple[Graph, tuple[Structure, Structure], str]:
    if isinstance(model, Stream):
        return model._graph, model._structures, model._owner
    if not isinstance(model, Layer):
        raise TypeError(
            f"{_NAME}: got {type(model).__name__} as model, expected a model, a layer or a stream; write "
            "rc.Sequential(embedding, ..., linear)"
        )
    structures = model.structures if isinstance(model, GraphModel) else (ALONE, ALONE)
    return model._graph(), structures, model.label


def _inputs(
    inputs: Structure, outputs: Structure, prompt: Any, lengths: Lengths, given: Any
) -> tuple[list[int | None], list[Array], list[Array | None]]:
    """For each input the output that feeds it, its array and its lengths."""
    count, heads = inputs.count or 1, outputs.count or 1
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(
            f"{_NAME}: got given of type {type(given).__name__}, expected a dict; write given={{name or index: array}}"
        )
    keys: Sequence[Any] = inputs.names if inputs.names is not None else range(count)
    for key in given or {}:
        if key not in keys:
            raise ValueError(
                f"{_NAME}: got given input {key!r}, expected some of {', '.join(map(repr, keys))}; name the model's "
                "inputs that are not generated"
            )
    free = [key for key in keys if key not in (given or {})]
    if len(free) != heads:
        raise ValueError(
            f"{_NAME}: got {len(free)} inputs that are not given, for {heads} output{'s' if heads > 1 else ''}, "
            "expected one to feed with each; give the other inputs in given="
        )
    prompts = _by_key(prompt, free)
    names = outputs.names if outputs.names is not None and set(outputs.names) == set(free) else None
    fed: list[int | None] = []
    arrays, valid = [], []
    for key in keys:
        known = key not in free
        array, own = _array(f"given[{key!r}]" if known else "prompt", (given or {})[key] if known else prompts[key])
        if not known and lengths is not None:
            if own is not None:
                raise ValueError(
                    f"{_NAME}: got lengths with a list of arrays, expected none, as each array has its own length; "
                    "leave lengths out"
                )
            own = checks.lengths_within(_NAME, lengths, *(array.shape[:2] if array.ndim > 1 else (len(array), 0)))
        fed.append(None if known else names.index(key) if names is not None else free.index(key))
        arrays.append(array)
        valid.append(own)
    return fed, arrays, valid


def _by_key(prompt: Any, free: Sequence[Any]) -> dict[Any, Any]:
    """The prompts of the inputs that are fed."""
    if isinstance(prompt, Mapping):
        if set(prompt) != set(free):
            raise ValueError(
                f"{_NAME}: got prompts for {', '.join(map(repr, prompt))}, expected them for "
                f"{', '.join(map(repr, free))}; give one for each input that is generated"
            )
        return dict(prompt)
    if len(free) == 1:
        return {free[0]: prompt}
    if not isinstance(prompt, tuple) or len(prompt) != len(free):
        got = f"{len(prompt)} parts" if isinstance(prompt, tuple) else type(prompt).__name__
        raise ValueError(
            f"{_NAME}: got prompt of {got}, expected a tuple of {len(free)}; write (prompt_0, prompt_1, ...)"
        )
    return dict(zip(free, prompt, strict=True))


def _array(name: str, value: Any) -> tuple[Array, Array | None]:
    """An array, or padded rows and their lengths."""
    is_ragged = isinstance(value, list) and (
        any(isinstance(row, np.ndarray) for row in value)
        or len({len(row) for row in value if isinstance(row, list | tuple)}) > 1
    )
    if not is_ragged:
        array = checks.array(_NAME, name, value)
        return (array if array.size or isinstance(value, np.ndarray) else array.astype(np.int64)), None
    rows = [checks.array(_NAME, f"{name}[{index}]", row) for index, row in enumerate(value)]
    return ragged(_NAME, rows).batch(slice(None))


def _rows(inputs: Structure, x: Sequence[Array]) -> int:
    for index, array in enumerate(x):
        if array.ndim < 2 or len(array) != len(x[0]):
            raise ValueError(
                f"{_NAME}: got {inputs.label('prompt', index)} of shape {array.shape}, expected "
                f"{f'({len(x[0])}, ...)' if array.ndim > 1 else '(N, P, ...)'}; give every row, a single one as "
                "prompt[None]"
            )
    return len(x[0])


def _ids(row_ids: Any, rows: int) -> list[int]:
    if row_ids is None:
        return list(range(rows))
    ids = checks.array(_NAME, "row_ids", row_ids)
    if ids.dtype.kind not in "iu" and ids.size:
        raise TypeError(f"{_NAME}: got row_ids of {ids.dtype}, expected integers; number the rows")
    if ids.shape != (rows,) or (ids.size and (ids.min() < 0 or ids.max() > np.iinfo(np.int64).max)):
        raise ValueError(
            f"{_NAME}: got row_ids of shape {ids.shape}, expected {rows} numbers, 0 or more; give one for each row"
        )
    return [int(one) for one in ids]


def _heads(
    outputs: Structure, loss: Any, temperature: Any, penalty: Any, top_k: Any, top_p: Any, suppress: Any, stop: Any
) -> list[dict[str, Any]]:
    """The options of each output, as the core takes them."""
    losses = [_kind(one) for one in _spread(outputs, "loss", loss)]
    heads: list[dict[str, Any]] = [{**_NO_MIXTURE, **one} for one in losses]
    for name, value, default, read, tokens_only in (
        ("temperature", temperature, 1.0, _number(0.0, 1e30), False),
        ("repetition_penalty", penalty, 1.0, _number(1e-30, 1e30), True),
        ("top_k", top_k, 0, _top_k, True),
        ("top_p", top_p, 1.0, _top_p, True),
        ("suppress", suppress, [], _tokens, True),
        ("stop", stop, [], _tokens, True),
    ):
        parts, each = _spread(outputs, name, value), outputs.count is None or _has_parts(value)
        for head, one in zip(heads, parts, strict=True):
            head[name] = read(name, one)
        able = [head["kind"] == "categorical" if tokens_only else head["kind"] != "value" for head in heads]
        for index, head in enumerate(heads):
            if able[index] or head[name] == default:
                continue
            if each or not any(able):
                raise ValueError(
                    f"{_NAME}: got {name}={parts[index]!r} for {outputs.label('output', index)}, whose loss makes it "
                    f"{_KINDS[head['kind']]}, expected it for {'tokens' if tokens_only else 'what is drawn'} alone; "
                    f"leave {name} out there"
                )
            head[name] = default
    return heads


_NO_MIXTURE: dict[str, Any] = {"eps": 1.0, "components": 1, "features": 1, "correlated": False, "end_of_stroke": False}
_KINDS = {
    "categorical": "tokens",
    "bernoulli": "bits",
    "gaussian": "numbers",
    "mixture": "numbers",
    "value": "the next input itself",
}


def _kind(loss: Any) -> dict[str, Any]:
    found = CrossEntropy() if loss is None else named(_NAME, loss)
    if isinstance(found, CrossEntropy):
        return {"kind": "categorical"}
    if isinstance(found, BinaryCrossEntropy):
        return {"kind": "bernoulli"}
    if isinstance(found, GaussianNLL):
        return {"kind": "gaussian", "eps": found.eps}
    if isinstance(found, MixtureDensity):
        names = ("components", "features", "correlated", "end_of_stroke", "eps")
        return {"kind": "mixture", **{name: getattr(found, name) for name in names}}
    if isinstance(found, MeanSquaredError | L1 | Huber):
        return {"kind": "value"}
    raise ValueError(
        f"{_NAME}: got loss={type(found).__name__}, expected CrossEntropy, BinaryCrossEntropy, GaussianNLL, "
        "MixtureDensity, MeanSquaredError, L1 or Huber; step model.stream() to draw from other outputs"
    )


def _has_parts(value: Any) -> bool:
    return isinstance(value, tuple | Mapping)


def _spread(outputs: Structure, name: str, value: Any) -> list[Any]:
    if outputs.count is None or not _has_parts(value):
        return [value] * (outputs.count or 1)
    return outputs.spread(_NAME, name, value)


def _number(low: float, high: float) -> Callable[[str, Any], float]:
    return lambda name, value: checks.number(_NAME, name, value, low, high)


def _top_k(name: str, value: Any) -> int:
    return 0 if value is None else checks.integer(_NAME, name, value)


def _top_p(name: str, value: Any) -> float:
    return 1.0 if value is None else checks.number(_NAME, name, value, 0.0, 1.0)


def _tokens(name: str, value: Any) -> list[int]:
    if value is None:
        return []
    several: Iterable[Any] = value if isinstance(value, Iterable) else [value]
    return [checks.integer(_NAME, name, one, 0) for one in several]


keywords.explain_all(globals(), __all__)
