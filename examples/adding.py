"""The adding problem: where the gradient of a plain RNN vanishes, it learns nothing; where an LSTM's arrives, it adds.

    python examples/adding.py                           # about half a minute
    python examples/adding.py --quick                   # some ten seconds
    python examples/adding.py --plot adding.png         # the gradients on their way back, and what is learnt

Data: made here with numpy, new rows for each batch. A row has 200 steps, each a random number from 0 to 1 and a
marker that is 1 at two steps, one in each half. The target is the sum of the two marked numbers (Hochreiter and
Schmidhuber 1997), so the error at the end must travel back over 100 to 200 steps to change how the first of them is
read.

Models: a plain RNN, and two LSTMs of as many units, trained alike. An LSTM as it is usually initialised halves its
memory with every step, so its gradient vanishes like that of the RNN. The other one's gates begin with times between
1 and 200 steps for which a unit keeps what it holds (chrono initialisation, Tallec and Ollivier 2018).
`rc.diagnose.gradient_flow` says before any training which of them can learn this; the one with exploding gradients is
the RNN with its recurrent weights times four.

Baselines: the constant 1, the mean of all targets, whose mean squared error is 1/6; and the RNN. The better one
counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

STEPS = 200  # of a row
HIDDEN = 32
LEARNING_RATE = 2e-2
BATCH_SIZE = 16
BATCHES = 200  # in an epoch
LOSS = rc.losses.MeanSquaredError()

Floats = npt.NDArray[np.floating]


def rows(count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Inputs (count, STEPS, 2), numbers and markers, and targets (count, 1)."""
    x = np.zeros((count, STEPS, 2), np.float32)
    x[:, :, 0] = rng.random((count, STEPS))
    row = np.arange(count)
    first, second = rng.integers(0, STEPS // 2, count), rng.integers(STEPS // 2, STEPS, count)
    x[row, first, 1] = x[row, second, 1] = 1
    return x, (x[row, first, 0] + x[row, second, 0])[:, None]


def adder(layer: rc.RNN | rc.LSTM, seed: int) -> rc.Sequential:
    """Many to one: the sum from the last state."""
    return rc.Sequential(layer, rc.Linear(HIDDEN, 1), seed=seed)


def keep(model: rc.Sequential, rng: np.random.Generator) -> None:
    """Chrono initialisation: a forget gate of 1 / (1 + 1/t) keeps for about t steps, the input gate is its opposite."""
    times = np.log(rng.uniform(1, STEPS - 1, HIDDEN))
    with model.layers[0].edit() as parameters:
        parameters["bias_hh_l0"][: 2 * HIDDEN] = 0
        parameters["bias_ih_l0"][: 2 * HIDDEN] = np.concatenate([-times, times])  # input gates, forget gates


def train(model: rc.Sequential, epochs: int, held_out: tuple[Floats, Floats], seed: int) -> list[float]:
    """The mean squared error on the held-out rows after each epoch."""

    def batches(epoch: int) -> Iterator[tuple[Floats, Floats]]:
        rng = np.random.default_rng((seed, epoch))
        for _ in range(BATCHES):
            yield rows(BATCH_SIZE, rng)

    history = model.fit(
        batches,
        loss=LOSS,
        optimizer=rc.optim.Adam(rc.optim.schedules.OneCycle(LEARNING_RATE, epochs * BATCHES)),
        epochs=epochs,
        clip_norm=1.0,
        validation_data=held_out,
        seed=seed,
    )
    return history.history["val_loss"]


def draw(flows: dict[str, rc.diagnose.GradientFlow], errors: dict[str, list[float]], path: Path) -> None:
    figure = common.new_figure(11, 4.2)
    left, right = figure.subplots(1, 2)
    for index, (name, flow) in enumerate(flows.items()):
        flow.plot(left)
        left.lines[-1].set(label=f"{name}: {flow.verdict}", color=f"C{index}", lw=2)
        if name in errors:
            updates = BATCHES * np.arange(1, len(errors[name]) + 1)
            right.semilogy(updates, errors[name], label=name, color=f"C{index}", lw=2)
    left.set(title="Before training: gradient of the loss through time", ylim=(1e-20, 1e6))
    left.legend(frameon=False, loc="lower left", fontsize="small")
    right.axhline(1 / 6, color="0.6", ls="--", lw=1, label="always 1")
    right.set(title="On held-out rows", xlabel="batches trained on", ylabel="mean squared error")
    right.legend(frameon=False, fontsize="small")
    common.save_plot(figure, path)


def main() -> int:
    options = common.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    epochs = 9 if options.quick else 20
    held_out = rows(1000, rng)
    print(f"rows of {STEPS} steps; {epochs * BATCHES * BATCH_SIZE} to train on, {len(held_out[0])} held out")

    seed = options.seed
    models = {
        "RNN": adder(rc.RNN(2, HIDDEN, return_sequences=False), seed),
        "LSTM": adder(rc.LSTM(2, HIDDEN, return_sequences=False), seed),
        "LSTM, chrono": adder(rc.LSTM(2, HIDDEN, return_sequences=False), seed),
        "RNN, weights times 4": adder(rc.RNN(2, HIDDEN, return_sequences=False), seed),
    }
    keep(models["LSTM, chrono"], rng)
    scaled = models["RNN, weights times 4"]
    scaled.params["0.weight_hh_l0"] = 4 * scaled.params["0.weight_hh_l0"]

    flows = {}
    for name, model in models.items():
        flows[name] = rc.diagnose.gradient_flow(model, held_out[0][:64], held_out[1][:64], loss=LOSS)
        print(f"\n{name}: {flows[name]}")

    errors = {}
    for name in ("RNN", "LSTM", "LSTM, chrono"):
        print(f"\n{name}:")
        errors[name] = train(models[name], epochs, held_out, seed)
    constant = float(np.square(held_out[1] - 1).mean())
    print(f"\nmean squared error: always 1 {constant:.4f}, " + ", ".join(f"{k} {v[-1]:.4f}" for k, v in errors.items()))
    if options.plot:
        draw(flows, errors, options.plot)
    baseline, against = min((constant, "always answering 1"), (errors["RNN"][-1], "the RNN"))
    score = errors["LSTM, chrono"][-1]
    return common.report("adding.py", score, baseline, measure="MSE", against=against, better="lower")


if __name__ == "__main__":
    raise SystemExit(main())
