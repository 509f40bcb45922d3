"""The progress bar: how far an epoch is, below whatever else is printed."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tqdm

import recurra as rc

BAR = re.compile(r"epoch \d/\d:.*batch.*")


class Terminal(io.StringIO):
    """stdout and stderr of a terminal, which has shown `screen()`."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        lines: list[str] = []
        for written in self.getvalue().split("\n"):
            line = ""
            for part in written.split("\r"):
                line = part + line[len(part) :]  # over what was there
            lines.append(line.rstrip())
        return lines


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Every step of a bar is drawn."""
    eager = functools.partial(tqdm.std.tqdm, mininterval=0, miniters=1)
    monkeypatch.setattr("tqdm.auto.tqdm", eager)
    return Terminal()


@contextlib.contextmanager
def attached(terminal: Terminal) -> Iterator[None]:
    """What is written goes there; the streams are left as they were found."""
    with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal):
        try:
            yield
        finally:
            assert sys.stdout is terminal
            assert sys.stderr is terminal


def batches(epoch: int) -> Iterator[tuple[Any, Any]]:
    """Of an epoch whose number of batches nobody knows before."""
    rng = np.random.default_rng(epoch)
    for _ in range(5):
        yield rng.standard_normal((2, 3, 1), np.float32), rng.standard_normal((2, 3, 1), np.float32)


def fit(terminal: Terminal, data: Any, *args: Any, epochs: int = 3, **options: Any) -> None:
    model = rc.Sequential(rc.GRU(1, 2), rc.Linear(2, 1), seed=0)
    with attached(terminal):
        model.fit(data, *args, loss="mse", optimizer="adam", epochs=epochs, seed=0, verbose=1, **options)


def test_total_and_rest_from_the_second_epoch_on(terminal: Terminal) -> None:
    fit(terminal, batches)
    drawn = re.split(r"[\r\n]", terminal.getvalue())
    for epoch in (2, 3):
        steps = [line for line in drawn if line.startswith(f"epoch {epoch}/3:")]
        assert any(re.search(r" 3/5 \[\d\d:\d\d<\d\d:\d\d, ", line) for line in steps), steps
    assert all("%" in line for line in terminal.screen() if BAR.match(line))  # the first, too, once it is over


class Talker(rc.callbacks.Callback):
    """Says something in every way there is, at random, and keeps what it said."""

    def __init__(self, seed: int, log: logging.Logger) -> None:
        self.rng, self.log, self.said = np.random.default_rng(seed), log, list[str]()

    def say(self) -> None:
        for _ in range(self.rng.integers(0, 3)):
            text = f"words {len(self.said)}"
            self.said.append(text)
            way = self.rng.integers(0, 6)
            if way == 0:
                print(text)
            elif way == 1:
                print(text, file=sys.stderr)
            elif way == 2:
                self.log.warning(text)
            elif way == 3:
                print("words", end=" ")
                print(text.removeprefix("words "))
            elif way == 4:
                print("words", end=" ", flush=True)
                print(text.removeprefix("words "))
            else:
                sys.stdout.write(text + "\n")

    def on_epoch_begin(self, epoch: int) -> None:
        self.say()

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        self.say()

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self.say()


@pytest.mark.parametrize(("seed", "logger"), [(seed, ["", "recurra"][seed % 2]) for seed in range(8)])
def test_lines_never_print_into_the_bar(terminal: Terminal, seed: int, logger: str) -> None:
    log = logging.getLogger(logger)
    handler = logging.StreamHandler(terminal)  # holds the stream itself, not its name
    log.addHandler(handler)
    try:
        talker = Talker(seed, log)
        fit(terminal, batches, callbacks=talker)
    finally:
        log.removeHandler(handler)
    assert handler.stream is terminal
    screen = [line for line in terminal.screen() if line]
    assert [line for line in screen if not BAR.fullmatch(line)] == talker.said
    assert sum(1 for line in screen if BAR.fullmatch(line)) == 3


def test_text_without_an_end_is_waited_for(terminal: Terminal) -> None:
    def dot(_batch: int, _logs: Any) -> None:
        print(".", end="", flush=True)

    fit(terminal, batches, callbacks=rc.callbacks.LambdaCallback(on_train_batch_end=dot), epochs=2)
    screen = [line for line in terminal.screen() if line]
    assert [line for line in screen if not BAR.fullmatch(line)] == [".....", "....."]
    assert [line.count("5/5 ") for line in screen if BAR.fullmatch(line)] == [1, 1]


def test_a_line_at_the_end_of_an_epoch_is_below_its_bar(terminal: Terminal) -> None:
    fit(
        terminal,
        batches,
        callbacks=rc.callbacks.LambdaCallback(on_epoch_end=lambda epoch, _: print(f"after {epoch + 1}")),
    )
    kinds = [line.split(":")[0] for line in terminal.screen() if line]
    assert kinds == ["epoch 1/3", "after 1", "epoch 2/3", "after 2", "epoch 3/3", "after 3"]


def test_the_streams_are_back_after_ctrl_c(terminal: Terminal) -> None:
    def fail(batch: int, _logs: Any) -> None:
        print("no end", end="")
        if batch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(terminal, batches, callbacks=rc.callbacks.LambdaCallback(on_train_batch_end=fail))
    lines = [line for line in terminal.screen() if line]
    assert lines[0] == "no endno endno end"
    assert len(lines) == 2


def test_an_epoch_that_is_cut_short_is_not_complete(terminal: Terminal) -> None:
    def stop(batch: int, _logs: Any) -> None:
        callback.training.stop_training = batch == 1

    callback = rc.callbacks.LambdaCallback(on_train_batch_end=stop)
    x = np.zeros((8, 3, 1), np.float32)
    fit(terminal, x, x, callbacks=callback, batch_size=2)
    bar = next(line for line in terminal.screen() if line)
    assert "2/4 [" in bar
