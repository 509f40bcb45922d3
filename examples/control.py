"""Balances a pole without seeing how fast it falls: a policy with memory learns to, the same one without does not.

    python examples/control.py                          # a minute or two
    python examples/control.py --quick                  # some fifteen seconds
    python examples/control.py --plot control.png       # what was learnt, and the velocity that the memory holds

World: CartPole-v1 of Gymnasium (pip install gymnasium), in which a cart is pushed to the left or right so that the
pole on it does not fall, for at most 500 steps. Both velocities are hidden: the policy sees the cart's place and the
pole's angle alone, and which way the pole is moving is to be told only from what was seen before.

Policy: two Linear layers with a GRU between them, one output for the two actions and one for the value of the state.
It is trained by proximal policy optimisation (`rc.losses.PPO`, Schulman et al. 2017) with advantages from
`rc.losses.gae`. Sixteen carts go on side by side, 128 steps between two updates. Episodes end anywhere within these
rows, where `reset` clears the memory; the others go on from the state that the `Stream` was in.

Baseline: the same policy and training with a Linear and a tanh in place of the GRU. The score is the mean length of
200 new episodes, in which the more probable action is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import common
import recurra as rc

SEEN, VELOCITY = (0, 2), 3  # of the numbers that describe a cart: its place and the pole's angle; how fast that turns
SCALE = np.array([2.4, 0.2095], np.float32)  # where an episode ends
UNITS = 32
CARTS, STEPS = 16, 128  # between two updates
GROUPS, PASSES = 4, 6  # of carts, that share a step of the optimiser; over what has been seen
DISCOUNT = 0.99
LEARNING_RATE = 4e-3
PPO = rc.losses.PPO(clip=0.2, entropy=0.005)
VALUE = rc.losses.ValueFunction()

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]


class Run(NamedTuple):
    """A trained policy, and how long its episodes were while it learnt."""

    agent: rc.Model
    lengths: list[float]  # of the episodes that ended before each update, in the mean


def make_carts(count: int) -> Any:
    """So many carts in one environment, which gives the first view of a new episode with the end of the old one."""
    try:
        import gymnasium
    except ImportError as error:
        raise SystemExit("control.py: Gymnasium is not installed; run pip install gymnasium") from error
    same_step = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    return gymnasium.make_vec("CartPole-v1", count, vectorization_mode="sync", vector_kwargs=same_step)


def view(state: Floats) -> Floats:
    """What the policy sees of the state, (N, 4): place and angle, (N, 2)."""
    return np.asarray(state[:, SEEN] / SCALE, np.float32)


def policy(memory: bool, seed: int) -> rc.Model:
    """From views to logits of the two actions and a value."""
    x = rc.Input(features=len(SEEN))
    first = rc.Activation("tanh")(rc.Linear(len(SEEN), UNITS)(x))
    second = rc.GRU(UNITS, UNITS)(first) if memory else rc.Activation("tanh")(rc.Linear(UNITS, UNITS)(first))
    return rc.Model(x, (rc.Linear(UNITS, 2)(second), rc.Linear(UNITS, 1)(second)), seed=seed)


def train(memory: bool, updates: int, seed: int) -> Run:
    """Proximal policy optimisation: act, estimate advantages, improve, and so on."""
    rng = np.random.default_rng(seed)
    agent, carts = policy(memory, seed), make_carts(CARTS)
    optimizer = rc.optim.Adam(rc.optim.schedules.CosineDecay(LEARNING_RATE, updates * GROUPS * PASSES))
    stream = agent.stream(batch_size=CARTS)
    seen, begun = view(carts.reset(seed=seed)[0]), np.ones(CARTS, bool)
    ages = np.zeros(CARTS)
    lengths: list[float] = []
    for _ in range(updates):
        groups = np.split(rng.permutation(CARTS), GROUPS)
        states = [stream.state(group) for group in groups]
        views, reset = np.zeros((CARTS, STEPS, len(SEEN)), np.float32), np.zeros((CARTS, STEPS), bool)
        logits, actions = np.zeros((CARTS, STEPS, 2)), np.zeros((CARTS, STEPS), np.int64)
        values, rewards = np.zeros((CARTS, STEPS)), np.zeros((CARTS, STEPS))
        ended: list[float] = []
        for step in range(STEPS):
            views[:, step], reset[:, step] = seen, begun
            logits[:, step], value = stream.step(seen, reset=begun)
            values[:, step] = value[:, 0]
            actions[:, step] = PPO.sample(logits[:, step], rng)
            state, rewards[:, step], fell, late, info = carts.step(actions[:, step])
            seen, begun = view(state), fell | late
            ages += 1
            ended += list(ages[begun])
            ages[begun] = 0
            if late.any():  # cut off, not fallen: what would have come is worth what the value of that state says
                last = view(np.stack(list(info["final_obs"][late])))
                _, left = stream.fork(1, rows=np.flatnonzero(late)).step(last)
                rewards[late, step] += DISCOUNT * left[:, 0]
        _, following = stream.fork(1).step(seen, reset=begun)
        advantages, returns = rc.losses.gae(
            rewards, values, np.where(begun, 0, following[:, 0]), reset=reset, discount=DISCOUNT
        )
        targets = (
            PPO.targets(actions, (advantages - advantages.mean()) / advantages.std(), PPO.log_probs(logits, actions)),
            VALUE.targets(returns[..., None]),
        )
        for _ in range(PASSES):
            for index in rng.permutation(GROUPS):
                rows = groups[index]
                agent.zero_grad()
                tape = agent.record(views[rows], state=states[index], reset=reset[rows])
                of_actions, of_values = tape.y
                found = PPO(of_actions, targets[0][rows]), VALUE(of_values, targets[1][rows])
                weights = 1, 0.01  # returns reach 100, and share layers with the policy
                tape.backward(
                    tuple(one.gradient * np.float32(w / one.count) for one, w in zip(found, weights, strict=True))
                )
                optimizer.step(agent, clip_norm=0.5)
        lengths.append(float(np.mean(ended)) if ended else float(STEPS))
    return Run(agent, lengths)


def play(agent: rc.Model, episodes: int, seed: int) -> tuple[Integers, Floats]:
    """New episodes with the more probable actions: how long each was, (N,), and the states of all, (N, T, 4)."""
    carts, stream = make_carts(episodes), agent.stream(batch_size=episodes)
    state = carts.reset(seed=seed)[0]
    lengths, going = np.zeros(episodes, np.int64), np.ones(episodes, bool)
    track = []
    while going.any():
        track.append(state)
        logits, _ = stream.step(view(state))
        state, _, fell, late, _ = carts.step(logits.argmax(-1))
        lengths += going
        going &= ~(fell | late)
    return lengths, np.stack(track, 1)


def remembered(agent: rc.Model, track: Floats) -> Floats:
    """What the GRU's units hold after each step of some episodes, and a 1: (N, T, UNITS + 1)."""
    stream = agent.stream(batch_size=len(track))
    held = []
    for step in range(track.shape[1]):
        stream.step(view(track[:, step]))
        held.append(next(state for state in stream.state() if state is not None)[0])
    return np.pad(np.stack(held, 1), ((0, 0), (0, 0), (0, 1)), constant_values=1)


def draw(runs: dict[str, Run], tests: dict[str, tuple[Integers, Floats]], path: Path) -> None:
    """Lengths of episodes while learning; an episode of each policy; and the velocity read from the memory."""
    figure = common.new_figure(11, 3.6)
    learning, angle, hidden = figure.subplots(1, 3)
    for colour, (name, run) in zip(("C0", "C1"), runs.items(), strict=True):
        thousands = np.arange(1, len(run.lengths) + 1) * CARTS * STEPS / 1000
        learning.plot(thousands, run.lengths, color=colour, lw=0.6, alpha=0.5)
        smooth = np.convolve(np.pad(run.lengths, 4, mode="edge"), np.full(9, 1 / 9), "valid")
        learning.plot(thousands, smooth, color=colour, lw=1.8, label=name)
        lengths, track = tests[name]
        episode = int(np.argsort(lengths)[len(lengths) // 2])
        degrees = np.rad2deg(track[episode, : lengths[episode], 2])
        angle.plot(degrees, color=colour, lw=1)
        if abs(degrees[-1]) > 6:
            angle.plot(lengths[episode] - 1, degrees[-1], "x", color=colour, ms=8, mew=2)
    learning.set(xlabel="thousand steps of carts", title="Length of episodes in training", ylim=(0, 520))
    learning.legend(loc="upper left", fontsize=9)
    angle.set(xlabel="step", title="Angle of the pole, degrees (x: it falls)", ylim=(-14, 14), xlim=(0, 250))

    (agent, _), (lengths, track) = runs["with memory"], tests["with memory"]
    shown = track[np.argsort(lengths)[-41:], : min(250, lengths.max())]
    held, velocity = remembered(agent, shown), shown[..., VELOCITY]
    others = held[:-1].reshape(-1, held.shape[-1])
    weights = np.linalg.lstsq(others, velocity[:-1].ravel(), rcond=None)[0]
    hidden.plot(velocity[-1], color="0.6", lw=2.5, label="hidden")
    read = held[-1] @ weights
    like = np.corrcoef(velocity[-1], read)[0, 1]
    hidden.plot(read, color="C1", lw=1.2, label=f"read from the memory (correlation {like:.2f})")
    hidden.set(xlabel="step", title="Angular velocity of the pole, rad/s", xlim=(0, 120), ylim=(-1.6, 2.2))
    hidden.legend(loc="upper left", fontsize=9)
    for axis in (learning, angle, hidden):
        axis.spines[["top", "right"]].set_visible(False)
    common.save_plot(figure, path)


def main() -> int:
    options = common.arguments(__doc__)
    updates = 120 if options.quick else 400
    runs, tests = {}, {}
    for name, memory in (("without memory", False), ("with memory", True)):
        runs[name] = train(memory, updates, options.seed)
        tests[name] = play(runs[name].agent, 200, options.seed + 1000)
        lengths, learnt = tests[name][0], runs[name].lengths
        print(
            f"{name}: episodes of {np.mean(learnt[:10]):.0f} steps at the beginning of training, "
            f"{np.mean(learnt[-10:]):.0f} at its end; in 200 new ones {lengths.mean():.1f}, "
            f"{(lengths >= 500).mean():.0%} until the end"
        )
    if options.plot:
        draw(runs, tests, options.plot)
    score, baseline = (tests[name][0].mean() for name in ("with memory", "without memory"))
    return common.report("control.py", score, baseline, measure="steps", against="the policy without memory")


if __name__ == "__main__":
    raise SystemExit(main())
