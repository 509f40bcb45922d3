"""Foresees kidney failure from laboratory values that are mostly missing, at irregular times.

    python examples/health.py                         # about a minute
    python examples/health.py --quick                 # some ten seconds
    python examples/health.py --plot health.png       # a patient's values and risk, and how soon values grow old

Data: made here by a simulator; no patient has lived. The kidneys fail along a logistic curve, at a speed of the
patient's own, and faster while an inflammation lasts, which comes at random. Doctors see him every few months, often
when he is worse, and order what they think is needed: the cheap values mostly, the expensive ones seldom. Every value
has an offset of the patient's own and an error of measurement. Half of all values and more are missing, and which are
says something, too. At every visit the question is whether the kidneys fail within the next twelve months.

Model: a GRU in the manner of Che et al. 2018 (GRU-D): it reads the values last seen, masks that say which are new, and
how long ago the others were (`rc.data.carry_forward`). On its way in, an old value decays to the mean of all, each at
a speed that is learnt: a layer of the example's own, `Decay`, equation 4 there.

Baselines: the last values carried forward, as one does, in a logistic regression and in gradient boosted trees, both
with the months since the first visit; and the same GRU on values carried forward alone. The best one counts; the
score is the area under the ROC curve.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

NAMES = ("creatinine", "blood pressure", "haemoglobin", "protein in urine", "phosphate", "C-reactive protein")
SLOPE = np.array([2.0, 1.0, -1.5, 2.0, 1.5, 0.0])  # how a value changes until failure
INFLAMED = np.array([0.3, 0.0, -0.3, 0.5, 0.0, 3.0])  # and by an inflammation
OFFSET = np.array([0.6, 1.0, 0.8, 0.7, 0.8, 0.3])  # deviations of patients
ERROR = np.array([0.15, 0.6, 0.25, 0.3, 0.3, 0.3])  # of a measurement
KNOWN = np.array([0.5, 0.85, 0.5, 0.15, 0.12, 0.3])  # how often it is measured

MONTHS, AHEAD = 72, 12  # that a patient is watched at most, and that count as soon
FAILED = 0.85
HALF_LIFE = 2.0  # of an inflammation, in months
HIDDEN = 48
BATCH_SIZE = 64
LEARNING_RATE = 4e-3

Floats = npt.NDArray[np.floating]


class Patient(NamedTuple):
    """The visits of one patient, and what nobody sees."""

    times: Floats  # (T,), in months
    values: Floats  # (T, 6), NaN where not measured
    soon: Floats  # (T, 1): whether the kidneys fail within AHEAD months, NaN where nobody knows
    damage: Floats  # (weeks,): 0 healthy, FAILED or more failed


def patient(rng: np.random.Generator) -> Patient:
    """Four steps a month, until failure or the end of the study."""
    steps, dt = MONTHS * 4, 0.25
    speed, flares = rng.lognormal(math.log(0.05), 0.5), rng.gamma(1.5, 0.06)  # a month
    damage, inflamed = np.empty(steps), np.zeros(steps)
    now, flare = rng.uniform(0.1, 0.4), 0.0
    for step in range(steps):
        flare *= 0.5 ** (dt / HALF_LIFE)
        flare += rng.uniform(0.5, 1.5) * (rng.random() < flares * dt)
        now += dt * speed * (1 + 4 * flare) * now * (1 - now)
        damage[step], inflamed[step] = now, flare
    failure = int(np.argmax(damage >= FAILED)) if damage[-1] >= FAILED else steps
    visits, at = [], rng.uniform(0, 4)
    while at < MONTHS and int(at / dt) < failure:
        step = int(at / dt)
        visits.append(step)
        worry = min(1.0, damage[step] + 0.5 * inflamed[step])
        at += 0.5 + rng.exponential(5 - 3 * worry)
    if len(visits) < 3:
        return patient(rng)
    seen, offset = np.array(visits), OFFSET * rng.standard_normal(6)
    full = damage[seen, None] * SLOPE + inflamed[seen, None] * INFLAMED + offset
    full += ERROR * rng.standard_normal(full.shape)
    worry = damage[seen, None] + inflamed[seen, None]
    known = rng.random(full.shape) < np.minimum(1, KNOWN * (0.6 + 0.8 * worry))
    times = seen * dt
    soon = np.where(failure * dt - times <= AHEAD, 1.0, 0.0)
    if failure == steps:
        soon[times > MONTHS - AHEAD] = np.nan
    return Patient(times, np.where(known, full, np.nan), soon[:, None], damage)


class Decay(rc.PythonLayer):
    """x (N, T, 3 F), values, masks and gaps, to y (N, T, 3 F): what is not new decays to 0, the mean of all.

    y = m v + (1 - m) exp(-max(0, w d + b)) v for values v, masks m and gaps d (Che et al. 2018, equations 4 and 5, with
    the mean at 0); masks and the logarithms of gaps follow as they are.
    """

    stateless = True

    def __init__(self, features: int) -> None:
        self.features = features
        self.input_size = self.output_size = 3 * features
        self.add_parameter("weight", np.full(features, 0.05, np.float32))
        self.add_parameter("bias", np.zeros(features, np.float32))

    def rate(self, gaps: Floats) -> tuple[Floats, Floats]:
        """What is left of a value, and the exponent."""
        exponent = np.maximum(0, self.params["weight"] * gaps + self.params["bias"])
        return np.exp(-exponent), exponent

    def forward(self, x, *, lengths, training, rng):  # type: ignore[no-untyped-def]
        values, mask, gaps = np.split(x, 3, -1)
        left, exponent = self.rate(gaps)
        old = (1 - mask) * left * values
        return np.concatenate([mask * values + old, mask, np.log1p(gaps)], -1), (old, exponent, gaps)

    def backward(self, dy, saved):  # type: ignore[no-untyped-def]
        old, exponent, gaps = saved
        gradient = -dy[..., : self.features] * old * (exponent > 0)
        self.grads["weight"] += (gradient * gaps).sum((0, 1))
        self.grads["bias"] += gradient.sum((0, 1))
        return np.zeros_like(dy)  # x is data


def inputs(patients: list[Patient], mean: Floats, deviation: Floats) -> rc.data.Carried:
    """Scaled values carried forward, masks and gaps: lists of arrays (T, 6)."""
    values = [((one.values - mean) / deviation).astype(np.float32) for one in patients]
    return rc.data.carry_forward(values, [one.times for one in patients])


def beside(*parts: list[Floats]) -> list[Floats]:
    """The features of several lists of rows side by side."""
    return [np.concatenate(row, -1, dtype=np.float32) for row in zip(*parts, strict=True)]


def fit(x: list[Floats], patients: list[Patient], first: list[Decay], epochs: int, seed: int) -> rc.Sequential:
    """A GRU on these features, behind the layers `first`, trained where the answer is known."""
    size = x[0].shape[1]
    model = rc.Sequential(*first, rc.GRU(size, HIDDEN), rc.Dropout(0.2), rc.Linear(HIDDEN, 1), seed=seed)
    steps = epochs * math.ceil(len(x) / BATCH_SIZE)
    model.fit(
        x,
        [one.soon for one in patients],
        sample_weight=[np.isfinite(one.soon[:, 0]) for one in patients],
        loss=rc.losses.BinaryCrossEntropy(),
        optimizer=rc.optim.Adam(rc.optim.schedules.CosineDecay(LEARNING_RATE, steps)),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        clip_norm=1.0,
        seed=seed,
        verbose=0,
    )
    return model


def without_sequence(train: list[Floats], soon: Floats, test: list[Floats]) -> dict[str, Floats]:
    """Scores at every visit, from its row alone, by scikit-learn's models."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    known = np.isfinite(soon)
    x, y = np.concatenate(train)[known], soon[known]
    models = {
        "carried forward, logistic regression": LogisticRegression(max_iter=500),
        "carried forward, boosted trees": HistGradientBoostingClassifier(random_state=0),
    }
    return {name: model.fit(x, y).decision_function(np.concatenate(test)) for name, model in models.items()}


def area(scores: Floats, soon: Floats) -> float:
    """Under the ROC curve, where the answer is known."""
    metric = rc.metrics.AUC()
    known = np.isfinite(soon)
    metric.update(scores[known, None], soon[known, None])
    return metric.result()


def draw(patients: list[Patient], risks: list[Floats], decay: Decay, path: Path) -> None:
    """A patient's values, and his risk as it was seen; and what is left of a value as it grows old."""
    figure = common.new_figure(11, 4.2)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.8, 1), height_ratios=(1.25, 1))
    measured, seen, old = (figure.add_subplot(part) for part in (grid[0, 0], grid[1, 0], grid[:, 1]))
    ill = [n for n, one in enumerate(patients) if one.times[-1] > 35 and np.nanmax(one.soon) == 1 and one.soon[0] == 0]
    chosen = ill[int(np.argmax([len(patients[n].times) for n in ill]))]
    one, risk = patients[chosen], risks[chosen]
    for index, name in enumerate(NAMES):
        known = np.isfinite(one.values[:, index])
        measured.plot(one.times[known], one.values[known, index], "o-", color=f"C{index}", ms=4, lw=1, label=name)
    measured.set(ylabel="measured", title="A patient of the test: what was measured")
    end = min(MONTHS, 2 * (int(one.times[-1]) // 2) + 6)
    weeks = np.arange(end * 4)
    seen.plot(weeks / 4, one.damage[: len(weeks)], color="0.6", lw=1.5, label="damage (hidden)")
    seen.axhline(FAILED, color="0.6", lw=0.8, ls=":")
    soon = one.soon[:, 0] == 1
    seen.step(one.times, risk, where="post", color="C3", lw=1.5)
    seen.plot(one.times[soon], risk[soon], "o", color="C3", ms=5, label="fails within 12 months")
    seen.plot(one.times[~soon], risk[~soon], "o", color="C3", mfc="white", ms=5, label="does not")
    seen.set(xlabel="months", ylabel="risk", ylim=(0, 1.05), title="Risk of failure within 12 months")
    for axis in (measured, seen):
        axis.set_xlim(0, end)
    seen.legend(fontsize=8, loc="lower right")
    months = np.linspace(0, 24, 100)[:, None]
    left, _ = decay.rate(np.broadcast_to(months, (100, len(NAMES))))
    order = np.argsort(-left[-1], kind="stable")
    for index in order:
        old.plot(months[:, 0], left[:, index], color=f"C{index}", lw=1.8, label=NAMES[index])
    old.set(xlabel="months since the value was measured", ylim=(0, 1.35), title="What is left of an old value")
    old.legend(fontsize=8, loc="upper right", ncols=2)
    for axis in (measured, seen, old):
        axis.spines[["top", "right"]].set_visible(False)
    common.save_plot(figure, path)


def main() -> int:
    options = common.arguments(__doc__)
    rng = np.random.default_rng(options.seed)
    count, epochs = (1000, 12) if options.quick else (10000, 16)
    train, test = [patient(rng) for _ in range(count)], [patient(rng) for _ in range(1000 if options.quick else 3000)]
    all_values, soon = np.concatenate([one.values for one in train]), np.concatenate([one.soon for one in test])[:, 0]
    print(
        f"{len(train)} patients to learn from, {len(all_values)} visits, {np.isnan(all_values).mean():.0%} of their "
        f"values missing; {len(test)} to test with, at {np.nanmean(soon):.0%} of whose visits failure is near"
    )
    scale = np.nanmean(all_values, 0), np.nanstd(all_values, 0)
    (train_x, test_x) = (inputs(patients, *scale) for patients in (train, test))

    # years since the first visit, where there are no gaps to add up
    carried, carried_test = (
        beside(found.values, [(one.times - one.times[0])[:, None] / 12 for one in patients])
        for found, patients in ((train_x, train), (test_x, test))
    )
    scores = without_sequence(carried, np.concatenate([one.soon for one in train])[:, 0], carried_test)
    plain = fit(carried, train, [], epochs, options.seed)
    scores["carried forward, GRU"] = np.concatenate(plain.predict(carried_test))[:, 0]
    decay = Decay(len(NAMES))
    model = fit(beside(*train_x), train, [decay], epochs, options.seed)
    logits = model.predict(beside(*test_x))
    scores["masks, gaps and decay, GRU"] = np.concatenate(logits)[:, 0]

    areas = {name: area(found, soon) for name, found in scores.items()}
    for name, value in areas.items():
        print(f"{name:40}{value:.3f}")
    weights = zip(NAMES, decay.params["weight"], strict=True)
    halves = [f"{name} {math.log(2) / w:.0f}" if w > 0.01 else f"{name} kept" for name, w in weights]
    print(f"months until half of a value is left: {', '.join(halves)}")
    if options.plot:
        draw(test, [1 / (1 + np.exp(-row[:, 0])) for row in logits], decay, options.plot)
    *others, own = areas
    best = max(others, key=lambda name: areas[name])
    return common.report("health.py", areas[own], areas[best], measure="AUC", against=f"the values {best}")


if __name__ == "__main__":
    raise SystemExit(main())
