"""Tokens a second of rc.generate, beside the same loop over Stream.step with numpy, and beside Stream.step alone.

    python benchmarks/generation.py
    python benchmarks/generation.py --rows 1 8 --hidden 512

An Embedding, an LSTM and a Linear over 256 symbols draw from the whole distribution, and from what temperature, top_k
and top_p leave of it. The loop draws all rows at once by inversion, as fast as numpy goes. The sides take turns, and
the best of several rounds counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import recurra as rc

Floats = npt.NDArray[np.floating[Any]]

CHOICES: dict[str, dict[str, Any]] = {
    "all": {},
    "temperature 0.8, top_k 40": {"temperature": 0.8, "top_k": 40},
    "temperature 0.8, top_p 0.9": {"temperature": 0.8, "top_p": 0.9},
}


def drawn(
    logits: Floats, rng: np.random.Generator, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Any:
    """(N,) tokens of (N, V) logits."""
    logits = logits.astype(np.float64) / temperature
    if top_k:
        logits[logits < np.partition(logits, -top_k)[:, -top_k, None]] = -np.inf
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    if top_p < 1:
        order = np.argsort(-p, 1)
        ranked = np.take_along_axis(p, order, 1)
        ranked[np.cumsum(ranked, 1) - ranked >= top_p] = 0
        np.put_along_axis(p, order, ranked, 1)
    reached = np.cumsum(p, 1)
    return (reached > rng.random((len(p), 1)) * reached[:, -1:]).argmax(1)


def looped(model: rc.Sequential, prompt: npt.NDArray[np.int64], steps: int, **choice: Any) -> None:
    """The loop that rc.generate stands for."""
    stream, rng, tokens = model.stream(len(prompt)), np.random.default_rng(0), prompt[:, 0]
    samples = np.zeros((len(prompt), steps), np.int64)
    for step in range(steps):
        samples[:, step] = tokens = drawn(stream.step(tokens), rng, **choice)


def stepped(model: rc.Sequential, prompt: npt.NDArray[np.int64], steps: int) -> None:
    """The model's part of that."""
    stream, tokens = model.stream(len(prompt)), prompt[:, 0]
    for _ in range(steps):
        stream.step(tokens)


def best_of(rounds: int, sides: list[Callable[[], object]]) -> list[float]:
    """The least seconds of each side."""
    times = [float("inf")] * len(sides)
    for _ in range(rounds):
        for index, side in enumerate(sides):
            begin = time.perf_counter()
            side()
            times[index] = min(times[index], time.perf_counter() - begin)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--symbols", type=int, default=256)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, help="default: as many as recurra takes")
    options = parser.parse_args()
    if options.threads:
        rc.set_num_threads(options.threads)
    model = rc.Sequential(
        rc.Embedding(options.symbols, options.hidden),
        rc.LSTM(options.hidden, options.hidden),
        rc.Linear(options.hidden, options.symbols),
        seed=0,
    )
    print(f"LSTM {options.hidden}, {options.symbols} symbols, {rc.get_num_threads()} threads; tokens a second")
    print(f"{'rows':>5} {'drawn from':27} {'generate':>10} {'numpy loop':>11} {'ratio':>6} {'steps alone':>12}")
    for rows in options.rows:
        prompt = np.zeros((rows, 1), np.int64)
        for name, choice in CHOICES.items():
            arguments = model, prompt, options.steps
            sides: list[Callable[[], object]] = [
                lambda a=arguments, c=choice: rc.generate(*a, seed=0, **c),  # type: ignore[misc]
                lambda a=arguments, c=choice: looped(*a, **c),  # type: ignore[misc]
                lambda a=arguments: stepped(*a),  # type: ignore[misc]
            ]
            ours, loop, alone = (rows * options.steps / seconds for seconds in best_of(options.rounds, sides))
            print(f"{rows:5} {name:27} {ours:10,.0f} {loop:11,.0f} {ours / loop:6.1f} {alone:12,.0f}")


if __name__ == "__main__":
    main()
