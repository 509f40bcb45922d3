"""What people see of models, layers and histories: in a console, in a notebook, as a list of layers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import recurra as rc


class Cells(HTMLParser):
    """The cells of a table; tags that are not closed are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def trained() -> tuple[rc.Sequential, rc.History]:
    model = rc.Sequential([rc.LSTM(3, 4), rc.Linear(4, 2)], seed=0)
    return model, model.fit(
        np.zeros((2, 5, 3)), np.zeros((2, 5, 2)), loss="mse", optimizer="adam", epochs=3, verbose=0, seed=7
    )


def test_a_sequential_is_a_list_of_layers() -> None:
    model, _history = trained()
    assert len(model) == 2
    assert list(model) == [model[0], model[-1]] == list(model.layers)
    with pytest.raises(IndexError):
        model[2]
    x = np.ones((1, 2, 3), np.float32)
    first = model[:1]
    assert isinstance(first, rc.Sequential)
    np.testing.assert_array_equal(model[1:](first(x)[0])[0], model(x)[0])
    with model[0].edit() as params:
        params["weight_ih_l0"][:] = 0
    assert not first.params["0.weight_ih_l0"].any()  # a part shares the parameters
    with pytest.raises(ValueError, match="got no layers"):
        model[2:]
    for wrong in ([], [[rc.Linear(1, 1)], rc.Linear(1, 1)], ["LSTM"], ["L"], [b"x"], [{}]):
        with pytest.raises((TypeError, ValueError), match=r"^Sequential: got"):
            rc.Sequential(*wrong)  # type: ignore[arg-type]


def test_representations_say_what_is_not_the_default() -> None:
    model, history = trained()
    assert repr(model[0]) == "LSTM(input_size=3, hidden_size=4)"
    assert repr(rc.GRU(3, 4, 2, bidirectional=True, dtype="float64")) == (
        "GRU(input_size=3, hidden_size=4, num_layers=2, bidirectional=True, dtype='float64')"
    )
    assert re.fullmatch(r"History\(3 epochs, loss=[\d.e-]+, .*seed=7\)", repr(history))


def test_tables_for_notebooks() -> None:
    model, history = trained()
    shown = Cells(model._repr_html_()).cells
    assert "0: LSTM" in shown
    assert "(N, T, 2)" in shown
    epochs = Cells(history._repr_html_()).cells
    assert len(epochs) == 4 * (1 + len(history.history))
    flow = rc.diagnose.gradient_flow(model, np.ones((2, 9, 3)), np.ones((2, 9, 2)), loss="mse")
    assert "0.LSTM" in Cells(flow._repr_html_()).cells
    assert len(repr(flow)) < 80
    named = rc.Input(features=3, name="<b>&")
    assert "<b>&" in Cells(rc.Model(named, rc.Linear(3, 1)(named))._repr_html_()).cells


def test_what_a_bug_report_needs() -> None:
    run = subprocess.run([sys.executable, "-m", "recurra"], capture_output=True, text=True, check=True)
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in run.stdout.splitlines())
    assert lines["recurra"].startswith(rc.__version__)
    assert rc.isa() in lines["instruction set"]
    assert {"python", "system", "processor", "threads", "cuda"} <= set(lines)


def test_nobody_reads_a_bug_report_to_its_end() -> None:
    """As behind `| head -1`: no traceback."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "recurra"]
    run = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (run.returncode, run.stderr) == (1, "")
