"""Prints a digest of every bit that random models give, so that two versions of the library can be compared with diff.

python tests/fuzz/bits.py --models 500 > before.txt      # RECURRA_ISA=avx2 for another instruction set
"""

from __future__ import annotations

import argparse
import hashlib
from contextlib import suppress
from typing import Any

import numpy as np

import models
import recurra as rc


def digest(*values: Any) -> str:
    """Of shapes and bits."""
    found = hashlib.blake2b(digest_size=12)
    for array in map(np.asarray, models.flat(values)):
        found.update(f"{array.shape}{array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def of_model(number: int) -> str:
    """A call, a recorded one with its gradients, and a stream of a random model."""
    rng = np.random.default_rng(number)
    model, batch = models.draw(rng)
    call = model(batch.x, batch.state, batch.lengths, batch.reset)
    try:
        tape = model.record(batch.x, batch.state, batch.lengths, batch.reset, training=batch.training, seed=number)
    except ValueError:  # batch norm of a single step
        return f"{digest(call)} alone"
    y = tape.y.copy()
    dy = np.where(np.isfinite(y), rng.standard_normal(y.shape), 0).astype(y.dtype)
    gradients = tape.backward(dy)
    found = [call, y, gradients, [model.grads[name] for name in model.grads]]
    with suppress(ValueError, TypeError):  # what cannot be streamed
        found.append(model.stream(batch_size=batch.rows).process(batch.x))
    return digest(*found)


def of_decoder(number: int) -> str:
    """A decoder with attention, its gradients, and a beam search."""
    rng = np.random.default_rng(number)
    cell = str(rng.choice(["rnn_tanh", "lstm", "gru", "gru_reset_before"]))
    hidden = int(rng.choice(models.SIZES))
    dtype = str(rng.choice(["float32", "float64"]))
    decoder = rc.AttentionDecoder(3, hidden, 4, cell=cell, attention="additive", dtype=dtype, seed=number)
    x, memory = rng.standard_normal((4, 6, 3)).astype(dtype), rng.standard_normal((4, 5, 4)).astype(dtype)
    lengths = (np.array([6, 0, 3, 5]), np.array([2, 5, 1, 4]))
    call = decoder((x, memory), lengths=lengths)
    tape = decoder.record((x, memory), lengths=lengths, training=False)
    gradients = tape.backward(np.ones_like(tape.y))
    layers = [
        rc.Embedding(7, 3, dtype=dtype, seed=number),
        decoder,
        rc.Linear(decoder.output_size, 7, dtype=dtype, seed=number),
    ]
    found = rc.search.beam_search(layers, start=0, end=1, max_steps=8, beam_size=3, memory=memory)
    return digest(call, gradients, [decoder.grads[name] for name in decoder.grads], found.tokens, found.scores)


def of_losses(number: int) -> str:
    """CTC, a CRF and cross-entropy, with their gradients."""
    rng = np.random.default_rng(number)
    scores = rng.standard_normal((5, 9, 6)).astype(str(rng.choice(["float32", "float64"])))
    lengths, labels = np.array([9, 3, 0, 8, 5]), rng.integers(1, 6, (5, 9))
    crf = rc.CRF(6, dtype=scores.dtype.name, seed=number)
    found: list[Any] = []
    for loss, targets in (
        (rc.losses.CTC(blank=0), [row[: length // 2] for row, length in zip(labels, lengths, strict=True)]),
        (rc.losses.CRF(crf), labels),
        (rc.losses.CrossEntropy(), labels),
    ):
        value = loss(scores, targets, lengths)
        found += [np.float64(value.sum), np.float64(value.count), np.asarray(value.gradient)]
    return digest(*found)


def main() -> None:
    """One line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=500)
    wanted = parser.parse_args().models
    for name, make, count in (("model", of_model, wanted), ("decoder", of_decoder, 40), ("losses", of_losses, 20)):
        for number in range(count):
            print(name, number, make(number), flush=True)


if __name__ == "__main__":
    main()
