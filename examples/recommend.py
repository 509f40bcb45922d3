"""Recommends the next item of a session: a GRU over what was looked at so far, trained on session-parallel batches.

    python examples/recommend.py                        # about half a minute
    python examples/recommend.py --quick                # a few seconds
    python examples/recommend.py --plot recommend.png   # which place the item that comes next has on the lists

Data: made here with numpy. A visitor of a shop with 300 items comes with one of 30 hidden interests, sometimes
changes to another, and looks at items of that interest: at one that follows well on the item before, or at a popular
one, and never twice at the same. Items belong to several interests, so that a single item does not tell which one it
is.

Model: an Embedding, a GRU and a Linear, as in GRU4Rec (Hidasi et al. 2016). `rc.data.sessions` lays the sessions end
to end in the rows of a batch, and tells the GRU by `reset` where a new one begins. Nothing is padded.

Baselines, from the same training sessions: popularity; what was looked at next after the last item (a Markov chain);
what was looked at in sessions with the items so far. Each recommends 10 items after every step of the held-out
sessions; the score is how often the next item is among them (recall@10), and the mean of 1 / its place, 0 if it is
not (MRR@10).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

ITEMS, INTERESTS, SIZE = 300, 30, 40  # SIZE: items of an interest
TOP = 10
LEARNING_RATE = 8e-3
BATCH_SIZE, STEPS = 32, 10  # sessions side by side, steps of each between two moves of the weights

Floats = npt.NDArray[np.floating]
Session = npt.NDArray[np.int64]


def visits(count: int, rng: np.random.Generator) -> list[Session]:
    """Sessions of 3 to 30 items, of visitors with hidden interests."""
    members = np.stack([rng.choice(ITEMS, SIZE, replace=False) for _ in range(INTERESTS)])
    popularity = 1 / np.arange(2, SIZE + 2)
    popularity /= popularity.sum()
    follows = rng.integers(SIZE, size=(INTERESTS, SIZE, 3))  # places in `members`, of what goes well with an item
    sessions = []
    for length in np.minimum(3 + rng.geometric(1 / 7, count), 30):
        interest, place = int(rng.integers(INTERESTS)), int(rng.choice(SIZE, p=popularity))
        seen: dict[int, bool] = {}  # keeps the order, and no item twice
        while len(seen) < length:
            seen[int(members[interest, place])] = True
            if rng.random() < 0.03:
                interest = int(rng.integers(INTERESTS))
            if rng.random() < 0.5:
                place = int(follows[interest, place, rng.integers(3)])
            else:
                place = int(rng.choice(SIZE, p=popularity))
        sessions.append(np.array(list(seen)))
    return sessions


def popular(train: list[Session]) -> Callable[[Session], Floats]:
    """Scores of the items, (T, ITEMS), after each item of a session: the same everywhere."""
    counts = np.bincount(np.concatenate(train), minlength=ITEMS).astype(float)
    return lambda session: np.tile(counts, (len(session), 1))


def following(train: list[Session]) -> Callable[[Session], Floats]:
    """How often each item came next after the last one; where that says nothing, popularity."""
    counts = np.zeros((ITEMS, ITEMS))
    for session in train:
        np.add.at(counts, (session[:-1], session[1:]), 1)
    scores = counts + 1e-6 * counts.sum(0)
    return lambda session: scores[session]


def together(train: list[Session]) -> Callable[[Session], Floats]:
    """How much each item is found in sessions with all items so far: the sum of their cosines."""
    shown = np.zeros((len(train), ITEMS), np.float32)
    for row, session in enumerate(train):
        shown[row, session] = 1
    counts = shown.T @ shown
    norms = np.sqrt(counts.diagonal()) + 1
    cosine = counts / norms / norms[:, None]
    return lambda session: np.cumsum(cosine[session], 0)


def ranks(score: Callable[[Session], Floats], sessions: list[Session]) -> npt.NDArray[np.int64]:
    """The place of each next item in the order of the scores, from 1. Items looked at before are not recommended."""
    places = []
    for session in sessions:
        scores = np.array(score(session[:-1]))
        for step in range(len(scores)):
            scores[step:, session[step]] = -np.inf
        right = np.take_along_axis(scores, session[1:, None], 1)
        places.append(1 + (scores > right).sum(1))
    return np.concatenate(places)


def draw(found: dict[str, npt.NDArray[np.int64]], path: Path) -> None:
    """For each list length how often the next item is on the list."""
    figure = common.new_figure(7, 4)
    axes = figure.subplots()
    for name, places in found.items():
        recall = [(places <= length).mean() for length in range(1, 51)]
        axes.plot(range(1, 51), recall, lw=2.5 if name == "recurra" else 1.5, label=name)
    axes.axvline(TOP, color="0.8", zorder=0)
    axes.set(xlabel="items recommended", ylabel="next item is among them", xlim=(1, 50), ylim=(0, None))
    axes.legend(frameon=False)
    common.save_plot(figure, path)


def main() -> int:
    options = common.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    count, held_out, epochs, hidden = (8000, 400, 6, 96) if options.quick else (20000, 1000, 8, 128)
    sessions = visits(count + held_out, rng)
    train, test = sessions[:count], sessions[count:]
    clicks = sum(map(len, train))
    print(f"{count} sessions with {clicks} clicks to train on, {held_out} held out; {ITEMS} items")

    model = rc.Sequential(
        rc.Embedding(ITEMS, 64),
        rc.GRU(64, hidden),
        rc.Dropout(0.2),
        rc.Linear(hidden, ITEMS),
        seed=options.seed,
    )
    batches = rc.data.sessions(
        [session[:-1] for session in train],
        [session[1:] for session in train],
        batch_size=BATCH_SIZE,
        steps=STEPS,
        seed=options.seed,
    )
    model.fit(
        batches,
        loss=rc.losses.CrossEntropy(),
        optimizer=rc.optim.Adam(rc.optim.schedules.CosineDecay(LEARNING_RATE, epochs * clicks // (BATCH_SIZE * STEPS))),
        epochs=epochs,
        clip_norm=1.0,
        seed=options.seed,
    )

    methods = {
        "popularity": popular(train),
        "next after the last item": following(train),
        "together with the items so far": together(train),
        "recurra": lambda session: model(session[None])[0][0],
    }
    found = {name: ranks(score, test) for name, score in methods.items()}
    print(f"{'':32}{f'recall@{TOP}':>12}{f'MRR@{TOP}':>12}")
    recall = {}
    for name, places in found.items():
        recall[name] = float((places <= TOP).mean())
        print(f"{name:32}{recall[name]:12.3f}{np.where(places <= TOP, 1 / places, 0).mean():12.3f}")
    if options.plot:
        draw(found, options.plot)
    score = recall.pop("recurra")
    best = max(recall, key=lambda name: recall[name])
    return common.report("recommend.py", score, recall[best], measure=f"recall@{TOP}", against=f'"{best}"')


if __name__ == "__main__":
    raise SystemExit(main())
