"""Where will people walk? Many futures of pedestrians who avoid each other, from a mixture density and attention.

    python examples/trajectories.py                         # about a minute
    python examples/trajectories.py --quick                 # a few seconds
    python examples/trajectories.py --plot people.png       # what was drawn for some of them, and what happened

Data: made here. People cross a square from one of eight entrances to another, round the fountain in its middle; they
are pushed apart by the social force of Helbing and Molnar (1995), and step aside where they would soon meet. Places
are known every 0.4 s; of 8 of them (3.2 s) the next 12 (4.8 s) are wanted, as is usual with recordings of crowds.

Model: a GRU reads where a person was and how fast; its last state begins a decoder that gives a mixture of Gaussians
for each next velocity, and attends to the people near: to what a Linear made of the tracks of each, a ragged memory.
`rc.generate` draws futures; their mean is the forecast.

Baselines: constant velocity, which Schoeller et al. (2020) found hard to beat, and the same model that sees nobody
else. The score is the average displacement error: the mean distance to where the person is at the 12 times.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

DT, SUBSTEPS = 0.4, 4  # seconds between the places that are known, and the simulation's steps between them
SIZE, FOUNTAIN = 8.0, 2.0  # half of the square's side and the fountain's radius, in metres
PEOPLE = 22  # at a time
SEEN, WANTED = 8, 12  # steps
NEAR = 5.0  # metres within which others are seen
HIDDEN = 64
LEARNING_RATE = 5e-3
BATCH_SIZE = 64

Floats = npt.NDArray[np.floating]
LOSS = rc.losses.MixtureDensity(5, correlated=True)


class Windows(NamedTuple):
    """N stretches of a person's way; all places and velocities are in metres and metres a second."""

    place: Floats  # (N, 2) at the last step that is seen
    past: Floats  # (N, SEEN, 4): places and velocities
    others: list[Floats]  # N of (people near, SEEN * 4): their ways, places and velocities less one's own
    future: Floats  # (N, WANTED, 2): velocities

    def some(self, rows: npt.NDArray[np.int64]) -> Windows:
        return Windows(self.place[rows], self.past[rows], [self.others[row] for row in rows], self.future[rows])

    def turned(self, turn: Floats) -> Windows:
        """On the square turned or mirrored by an orthogonal (2, 2), which looks the same."""
        others = [(way.reshape(-1, 2) @ turn).reshape(way.shape) for way in self.others]
        past = (self.past.reshape(-1, 2) @ turn).reshape(self.past.shape)
        return Windows(self.place @ turn, past, others, self.future @ turn)

    def repeated(self, count: int) -> Windows:
        return self.some(np.repeat(np.arange(len(self.place)), count))

    def places(self) -> Floats:
        """(N, WANTED, 2), what shall be forecast."""
        return walked(self.place, self.future)


def walked(place: Floats, velocities: Floats) -> Floats:
    """Places (N, T, 2) of those who are at a place (N, 2) and go on with velocities (N, T, 2)."""
    return place[:, None] + DT * velocities.cumsum(1)


def gates(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Places at the border, (*shape, 2): near one of two entrances of each side."""
    side, along = rng.integers(4, size=shape), rng.choice([-4.0, 4.0], shape) + rng.uniform(-1, 1, shape)
    turn = np.array([[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]])[side]
    return np.einsum("...ij,...j->...i", turn, np.stack([np.full(shape, SIZE), along], -1))


def simulate(scenes: int, people: int, steps: int, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Places (scenes, steps, people, 2), and whether this is the first step of a new person (scenes, steps, people)."""
    shape = (scenes, people)
    x, goal = rng.uniform(-SIZE, SIZE, (*shape, 2)), gates(rng, shape)
    speed = rng.normal(1.3, 0.2, shape).clip(0.7)
    v = np.zeros((*shape, 2))
    places, new = np.empty((scenes, steps, people, 2)), np.zeros((scenes, steps, people), np.bool_)
    dt = DT / SUBSTEPS
    for step in range(steps * SUBSTEPS):
        arrived = np.linalg.norm(goal - x, axis=-1) < 0.8
        if arrived.any():
            x[arrived], goal[arrived] = gates(rng, (arrived.sum(),)), gates(rng, (arrived.sum(),))
            toward = goal[arrived] - x[arrived]
            v[arrived] = speed[arrived, None] * toward / np.maximum(np.linalg.norm(toward, axis=-1, keepdims=True), 1)
        ahead = goal - x
        wanted = speed[..., None] * ahead / np.maximum(np.linalg.norm(ahead, axis=-1, keepdims=True), 0.1)
        v = v + dt * ((wanted - v) / 0.5 + social_force(x, v) + fountain_force(x, v))
        fast = np.linalg.norm(v, axis=-1, keepdims=True)
        v = v * np.minimum(1, 1.3 * speed[..., None] / np.maximum(fast, 1e-6))
        x = x + dt * v
        new[:, step // SUBSTEPS] |= arrived
        if step % SUBSTEPS == SUBSTEPS - 1:
            places[:, step // SUBSTEPS] = x
    return places + 0.01 * rng.standard_normal(places.shape), new  # measured to a centimetre


def social_force(x: Floats, v: Floats) -> Floats:
    """(S, P, 2): away from where the others will be closest within three seconds, mostly from those in front."""
    apart = x[:, :, None] - x[:, None]  # (S, P, P, 2), from the other to oneself
    against = v[:, :, None] - v[:, None]
    time = np.clip(-(apart * against).sum(-1) / np.maximum((against**2).sum(-1), 1e-6), 0, 3)
    meeting = apart + time[..., None] * against
    distance = np.linalg.norm(meeting, axis=-1) + 1e-3
    heading = v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-6)
    front = -(heading[:, :, None] * apart).sum(-1) / (np.linalg.norm(apart, axis=-1) + 1e-6)
    strength = 10.0 * np.exp((0.6 - distance) / 0.4) / (1 + time) * (0.3 + 0.7 * (1 + front) / 2)
    strength *= np.linalg.norm(apart, axis=-1) < NEAR
    strength[:, np.arange(x.shape[1]), np.arange(x.shape[1])] = 0
    return (np.minimum(strength, 12)[..., None] * meeting / distance[..., None]).sum(2)


def fountain_force(x: Floats, v: Floats) -> Floats:
    """(S, P, 2): away from the fountain, and round it on the side where one is."""
    distance = np.linalg.norm(x, axis=-1, keepdims=True)
    out = x / np.maximum(distance, 1e-3)
    around = np.stack([-out[..., 1], out[..., 0]], -1)
    around *= np.where((around * v).sum(-1, keepdims=True) < 0, -1, 1)
    toward = np.maximum(-(out * v).sum(-1, keepdims=True), 0)
    return 4 * np.exp((FOUNTAIN - distance) / 0.4) * (out + toward * around)


def cut(places: Floats, new: npt.NDArray[np.bool_]) -> Windows:
    """Windows of all people who do not leave meanwhile."""
    velocity = np.diff(places, axis=1, prepend=places[:, :1]) / DT
    same = ~new
    same[:, 0] = False
    parts: list[Windows] = []
    for begin in range(1, places.shape[1] - SEEN - WANTED, 4):
        middle, end = begin + SEEN, begin + SEEN + WANTED
        seen = same[:, begin:middle].all(1)  # (S, P)
        scene, person = np.nonzero(same[:, begin:end].all(1))
        place = places[scene, middle - 1, person]
        others: list[Floats] = []
        moving = velocity[:, begin:middle]
        for s, p, here in zip(scene, person, place, strict=True):
            near = seen[s] & (np.linalg.norm(places[s, middle - 1] - here, axis=-1) < NEAR)
            near[p] = False
            way = [places[s, begin:middle, near] - here, moving[s, :, near] - moving[s, :, p]]
            others.append(np.concatenate(way, -1).reshape(near.sum(), SEEN * 4).astype(np.float32))
        past = np.concatenate([places[scene, begin:middle, person] / SIZE, velocity[scene, begin:middle, person]], -1)
        future = velocity[scene, middle:end, person]
        parts.append(Windows(place, past.astype(np.float32), others, future.astype(np.float32)))
    return joined(parts)


def joined(parts: list[Windows]) -> Windows:
    return Windows(
        np.concatenate([part.place for part in parts]),
        np.concatenate([part.past for part in parts]),
        [way for part in parts for way in part.others],
        np.concatenate([part.future for part in parts]),
    )


def augmented(windows: Windows) -> Windows:
    """All of them on the square as it is, and on the square turned and mirrored: eight times as many."""
    signs = [np.diag(each) for each in product((1.0, -1.0), repeat=2)]
    return joined([windows.turned(turn[:, order]) for turn in signs for order in ([0, 1], [1, 0])])


class Forecaster:
    """Reads a way, looks at the others, draws what comes."""

    def __init__(self, seed: int, *, sociable: bool) -> None:
        self.sociable = sociable
        past, velocity, others = rc.Input(features=4), rc.Input(features=2), rc.Input(features=SEEN * 4)
        read = rc.GRU(4, HIDDEN)(past)
        look = (rc.Linear(SEEN * 4, HIDDEN), rc.Activation("relu"), rc.Linear(HIDDEN, HIDDEN), rc.Activation("relu"))
        near = rc.Sequential(*look)(others)
        h = rc.AttentionDecoder(2, HIDDEN, HIDDEN)((velocity, near), state=read.state)
        inputs = {"past": past, "velocity": velocity, "others": others}
        mixture = rc.Linear(HIDDEN + 2, LOSS.prediction_size)(rc.Concatenate()((h, velocity)))
        self.model = rc.Model(inputs, mixture, seed=seed)

    def given(self, windows: Windows) -> dict[str, Floats | list[Floats]]:
        nobody = np.zeros((0, SEEN * 4), np.float32)
        return {"past": windows.past, "others": windows.others if self.sociable else [nobody] * len(windows.past)}

    def fit(self, windows: Windows, epochs: int, seed: int) -> None:
        before = np.concatenate([windows.past[:, -1:, 2:], windows.future[:, :-1]], 1)
        self.model.fit(
            {**self.given(windows), "velocity": before},
            windows.future,
            loss=LOSS,
            optimizer=rc.optim.Adam(rc.optim.schedules.CosineDecay(LEARNING_RATE, epochs * len(before) // BATCH_SIZE)),
            epochs=epochs,
            batch_size=BATCH_SIZE,
            clip_norm=10.0,
            seed=seed,
            verbose=2,
        )

    def draw(self, windows: Windows, count: int, seed: int) -> tuple[Floats, Floats]:
        """Places (N, count, WANTED, 2), and how much those near are attended to at first, (N, people)."""
        many = windows.repeated(count)
        drawn = rc.generate(
            self.model, many.past[:, -1:, 2:], WANTED, given=self.given(many), loss=LOSS, temperature=0.5, seed=seed
        )
        places = walked(many.place, drawn.samples).reshape(len(windows.place), count, WANTED, 2)
        nobody = np.zeros((len(places), 0))
        return places, nobody if drawn.weights is None else drawn.weights[::count, 0]


def constant_velocity(windows: Windows) -> Floats:
    """Places (N, WANTED, 2) of people who all go on as in the last 0.4 seconds."""
    return walked(windows.place, np.repeat(windows.past[:, -1:, 2:], WANTED, 1))


def best_of(drawn: Floats, true: Floats) -> float:
    """The mean distance over all steps of the drawn future that is closest to what happened."""
    return float(np.linalg.norm(drawn - true[:, None], axis=-1).mean(-1).min(1).mean())


def displacement(forecast: Floats, true: Floats) -> tuple[float, float]:
    """The mean distance over all steps, and that at the last one."""
    distance = np.linalg.norm(forecast - true, axis=-1)
    return float(distance.mean()), float(distance[:, -1].mean())


def draw(test: Windows, drawn: Floats, weights: Floats, path: Path) -> None:
    """Some people whose way bends while others are near: what was seen, drawn futures, and what happened."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle

    figure = common.new_figure(9, 6.2)
    true, constant = test.places(), constant_velocity(test)
    for row, axes in enumerate(figure.subplots(2, 3).flat):
        axes.add_patch(Circle((0, 0), FOUNTAIN, color="0.85"))
        for way, weight in zip(test.others[row], weights[row], strict=False):
            there = test.place[row] + way.reshape(SEEN, 4)[:, :2]
            axes.plot(*there.T, color="C1", lw=0.7 + 6 * weight, solid_capstyle="round")
            axes.plot(*there[-1], "o", color="C1", ms=4)
        for future in drawn[row]:
            axes.plot(*np.vstack([test.place[row], future]).T, color="C0", lw=0.6, alpha=0.5)
        axes.plot(*test.past[row, :, :2].T * SIZE, color="k", lw=2)
        axes.plot(*constant[row].T, color="C3", ls=":", lw=1.8)
        axes.plot(*np.vstack([test.place[row], true[row]]).T, color="C2", lw=2)
        axes.plot(*test.place[row], "o", color="k", ms=5)
        axes.set(xlim=(-SIZE - 1, SIZE + 1), ylim=(-SIZE - 1, SIZE + 1), aspect="equal", xticks=[], yticks=[])
    names = {"seen": "k", "what happened": "C2", "drawn": "C0", "constant velocity": "C3"}
    lines = [Line2D([], [], color=colour, ls=":" if colour == "C3" else "-") for colour in names.values()]
    lines.append(Line2D([], [], color="C1", marker="o", ms=4))
    figure.legend(lines, [*names, "others, the wider the more attended to"], loc="outside lower center", ncols=5)
    common.save_plot(figure, path)


def main() -> int:
    options = common.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    scenes, epochs, count = (40, 1, 10) if options.quick else (140, 3, 20)
    train, test = augmented(cut(*simulate(scenes, PEOPLE, 110, rng))), cut(*simulate(15, PEOPLE, 110, rng))
    print(f"{len(train.place)} stretches of ways to learn from, an eighth as simulated; {len(test.place)} held out")

    constant, drawings = constant_velocity(test), {}
    for name, sociable in (("GRU that sees nobody else", False), ("GRU that sees the others", True)):
        if sociable or not options.quick:
            forecaster = Forecaster(options.seed, sociable=sociable)
            forecaster.fit(train, epochs, options.seed)
            drawings[name] = forecaster.draw(test, count, options.seed)[0]
    print(f"{'':28}{'mean error':>12}{'after 4.8 s':>13}{f'best of {count}':>13}")
    forecasts = {"constant velocity": constant, **{name: drawn.mean(1) for name, drawn in drawings.items()}}
    for name, forecast in forecasts.items():
        average, final = displacement(forecast, test.places())
        best = f"{best_of(drawings[name], test.places()):11.3f} m" if name in drawings else ""
        print(f"{name:28}{average:10.3f} m{final:11.3f} m{best}")

    if options.plot:
        bends = np.linalg.norm((constant - test.places())[:, -1], axis=-1) > 1.2
        crowded = np.array([len(way) > 2 for way in test.others])
        shown = test.some(rng.permutation(np.flatnonzero(bends & crowded))[:6])
        draw(shown, *forecaster.draw(shown, 30, options.seed), options.plot)
    average, baseline = (displacement(forecasts[name], test.places())[0] for name in (name, "constant velocity"))
    return common.report(
        "trajectories.py",
        average,
        baseline,
        measure="mean displacement error",
        against="constant velocity",
        better="lower",
        unit=" m",
    )


if __name__ == "__main__":
    raise SystemExit(main())
