"""Decoders with attention, forward and backward, against the same in PyTorch with a Python loop over the steps.

    python benchmarks/seq2seq.py                       # a minute
    python benchmarks/seq2seq.py --threads 2 --json seq2seq.json

PyTorch's side is written as well as its operations allow: the memory is projected once for all steps, the cell is
GRUCell or LSTMCell, contexts are one bmm a step, and W_c is applied to all steps at once where nothing is fed back.
Both sides compute the gradients of all parameters, of the decoder's input, of the memory and of the initial state, as
the training of a whole model needs them; outputs and gradients are compared first. "Model" is all of it: embeddings, a
GRU encoder, the decoder, a linear layer and cross-entropy. The ratio is the median over the rounds of PyTorch's time to
ours. The goal is for the first row.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines import Array, Runner
from measure import Effort, interleave, pin
from report import format_seconds

EFFORT = Effort(sample_seconds=5e-3, seconds=10.0, min_rounds=11, max_rounds=101)
SHORT = Effort(sample_seconds=2e-3, seconds=0.3, min_rounds=3, max_rounds=5)
GOAL = 3.0
PAUSE = 0.01  # with several threads, for those of the other engine to go to sleep
CLOSE = 1e-3  # of the largest number of an array


@dataclass(frozen=True)
class Size:
    """A decoder of `hidden` units over features and a memory of as many; `words`: of a whole model, 0 for none."""

    cell: str
    attention: str
    feeding: bool = True
    hidden: int = 256
    rows: int = 32
    source: int = 30
    target: int = 30
    words: int = 0

    @property
    def name(self) -> str:
        fed = "" if self.feeding else " unfed"
        whole = f", model of {self.words} words" if self.words else ""
        return f"{self.cell} {self.hidden} {self.attention}{fed}, {self.rows} x {self.source} x {self.target}{whole}"


SIZES = [
    Size("gru", "additive"),
    Size("gru", "additive", words=1000),
    Size("gru", "general"),
    Size("gru", "general", feeding=False),
    Size("lstm", "additive"),
    Size("lstm", "general"),
    Size("gru", "additive", hidden=64),
    Size("gru", "additive", rows=4),
]


@dataclass(frozen=True)
class Problem:
    size: Size
    params: dict[str, Array]  # the decoder's
    x: Array
    memory: Array
    state: list[Array]
    dy: Array
    tokens: tuple[Array, Array, Array]  # source, target, what follows each of the target


def draw(size: Size) -> Problem:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    layer = decoder(size)
    n = size.hidden
    return Problem(
        size,
        {name: value.copy() for name, value in layer.params.items()},
        normal(size.rows, size.target, n),
        normal(size.rows, size.source, n),
        [normal(1, size.rows, n) for name in layer.state_names if name != "a"],
        normal(size.rows, size.target, n),
        tuple(rng.integers(0, max(size.words, 1), (size.rows, k)) for k in (size.source, size.target, size.target)),
    )


def decoder(size: Size) -> Any:
    import recurra as rc

    n = size.hidden
    return rc.AttentionDecoder(n, n, n, cell=size.cell, attention=size.attention, input_feeding=size.feeding, seed=0)


def ours(p: Problem) -> Runner:
    layer = decoder(p.size)
    if p.size.words:
        return our_model(p, layer)
    state = [*p.state, None] if "a" in layer.state_names else p.state
    begin = state[0] if len(state) == 1 else tuple(state)

    def run() -> Any:
        layer.zero_grad()
        tape = layer.record((p.x, p.memory), state=begin)
        (dx, dmemory), _ = tape.backward(p.dy)
        return tape.y, dx, dmemory

    def result() -> Array:
        arrays = run()
        return flat([*arrays, *(layer.grads[name] for name in p.params)])

    return Runner("recurra", run, result)


def our_model(p: Problem, layer: Any) -> Runner:
    import recurra as rc

    n, words = p.size.hidden, p.size.words
    source, target = rc.Input(tokens=words), rc.Input(tokens=words)
    h = rc.GRU(n, n, seed=1)(rc.Embedding(words, n, seed=2)(source))
    y = layer((rc.Embedding(words, n, seed=3)(target), h), state=h.state)
    model = rc.Model((source, target), rc.Linear(n, words, seed=4)(y))
    loss = rc.losses.CrossEntropy()

    def run() -> Any:
        model.zero_grad()
        tape = model.record(p.tokens[:2], input_grad=False)
        tape.backward(loss(tape.y, p.tokens[2]).gradient)
        return tape.y

    def result() -> Array:
        y = run()
        return flat([y, *(layer.grads[name] for name in p.params)])

    return Runner("recurra", run, result)


def theirs(p: Problem) -> Runner:
    import torch

    params = {name: torch.tensor(value, requires_grad=True) for name, value in p.params.items()}
    n = p.size.hidden
    cell = (torch.nn.GRUCell if p.size.cell == "gru" else torch.nn.LSTMCell)(params["weight_ih_l0"].shape[1], n)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        setattr(cell, name, torch.nn.Parameter(torch.tensor(p.params[f"{name}_l0"])))
        params[f"{name}_l0"] = getattr(cell, name)
    step = their_step(p.size, params, cell)
    leaves = [*params.values()]
    if p.size.words:
        return their_model(p, params, step)
    x, memory, dy = (
        torch.tensor(p.x, requires_grad=True),
        torch.tensor(p.memory, requires_grad=True),
        torch.tensor(p.dy),
    )
    state = [torch.tensor(one[0], requires_grad=True) for one in p.state]

    def run() -> Any:
        for leaf in [x, memory, *state, *leaves]:
            leaf.grad = None
        y = step(x, memory, state)
        y.backward(dy)
        return y

    def result() -> Array:
        y = run()
        return flat(
            [one.detach().numpy() for one in (y, x.grad, memory.grad, *(params[name].grad for name in p.params))]
        )

    return Runner("torch", run, result)


def their_step(size: Size, params: dict[str, Any], cell: Any) -> Callable[[Any, Any, Any], Any]:
    """The decoder: x (N, T, H), memory (N, Tm, H) and the state to y (N, T, H)."""
    import torch

    def attend(queries: Any, keys: Any, memory: Any) -> Any:
        return torch.bmm(torch.softmax(torch.bmm(queries, keys.transpose(1, 2)), 2), memory)

    def additive(x: Any, memory: Any, state: Any) -> Any:
        keys = memory @ params["weight_memory"].T
        h, *c = state
        outputs = []
        for x_t in x.unbind(1):
            q = torch.addmm(params["bias_query"], h, params["weight_query"].T)
            w = torch.softmax(torch.tanh(q[:, None] + keys) @ params["weight_score"], 1)
            context = torch.bmm(w[:, None], memory)[:, 0]
            fed = torch.cat([x_t, context], 1)
            h, *c = cell(fed, (h, *c)) if c else [cell(fed, h)]
            outputs.append(h)
        return torch.stack(outputs, 1)

    def multiplicative(x: Any, memory: Any, state: Any) -> Any:
        keys = memory @ params["weight_memory"].T
        h, *c = state
        a = torch.zeros_like(h)
        outputs = []
        for x_t in x.unbind(1):
            fed = torch.cat([x_t, a], 1) if size.feeding else x_t
            h, *c = cell(fed, (h, *c)) if c else [cell(fed, h)]
            if size.feeding:
                context = attend(h[:, None], keys, memory)[:, 0]
                a = torch.tanh(torch.cat([context, h], 1) @ params["weight_combine"].T)
            outputs.append(a if size.feeding else h)
        y = torch.stack(outputs, 1)
        if size.feeding:
            return y
        return torch.tanh(torch.cat([attend(y, keys, memory), y], 2) @ params["weight_combine"].T)

    return additive if size.attention == "additive" else multiplicative


def their_model(p: Problem, params: dict[str, Any], step: Any) -> Runner:
    import torch

    import recurra as rc

    n, words = p.size.hidden, p.size.words
    encoder, read, said, scores = (
        rc.GRU(n, n, seed=1),
        rc.Embedding(words, n, seed=2),
        rc.Embedding(words, n, seed=3),
        rc.Linear(n, words, seed=4),
    )
    modules = (
        torch.nn.GRU(n, n, batch_first=True),
        torch.nn.Embedding(words, n),
        torch.nn.Embedding(words, n),
        torch.nn.Linear(n, words),
    )
    for layer, module in zip((encoder, read, said, scores), modules, strict=True):
        module.load_state_dict({name: torch.tensor(value) for name, value in layer.params.items()})
    gru, reading, saying, linear = modules
    source, target, following = (torch.tensor(one) for one in p.tokens)
    leaves = [*params.values(), *(one for module in modules for one in module.parameters())]

    def run() -> Any:
        for leaf in leaves:
            leaf.grad = None
        memory, h = gru(reading(source))
        y = linear(step(saying(target), memory, [h[0]]))
        torch.nn.functional.cross_entropy(y.flatten(0, 1), following.flatten(), reduction="sum").backward()
        return y

    def result() -> Array:
        y = run()
        return flat([one.detach().numpy() for one in (y, *(params[name].grad for name in p.params))])

    return Runner("torch", run, result)


def flat(arrays: list[Array]) -> Array:
    """Side by side, each of the same size."""
    return np.concatenate([one.ravel() / max(np.abs(one).max(), 1e-30) for one in arrays])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="sizes whose names contain this")
    parser.add_argument("--short", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    pin(args.threads)
    import torch

    import recurra as rc

    torch.set_num_threads(args.threads)
    rc.set_num_threads(args.threads)
    print(f"recurra {rc.__version__} ({rc.isa()}), torch {torch.__version__}, {args.threads} thread(s)")
    print(f"{'':60}{'recurra':>12}{'torch':>12}{'ratio':>8}")
    results = []
    for size in SIZES:
        if args.only not in size.name:
            continue
        problem = draw(size)
        runners = [ours(problem), theirs(problem)]
        mine, its = (runner.result() for runner in runners)
        if np.abs(mine - its).max() > CLOSE:
            raise SystemExit(f"{size.name}: results differ by {np.abs(mine - its).max():.1e} of the largest number")
        times = interleave(runners, SHORT if args.short else EFFORT, PAUSE if args.threads > 1 else 0.0)
        seconds, ratio = np.median(times, 0), float(np.median(times[:, 1] / times[:, 0]))
        goal = f"  goal {GOAL:g}" if size == SIZES[0] else ""
        print(
            f"{size.name:60}{format_seconds(seconds[0]):>12}{format_seconds(seconds[1]):>12}{ratio:8.2f}{goal}",
            flush=True,
        )
        results.append({**asdict(size), "recurra": seconds[0], "torch": seconds[1], "ratio": ratio})
    if args.json:
        args.json.write_text(
            json.dumps({"threads": args.threads, "isa": rc.isa(), "results": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
