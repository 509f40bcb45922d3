"""Event files for TensorBoard hold the history. The package that writes them is optional, here too."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc

X = np.random.default_rng(0).standard_normal((8, 5, 3)).astype(np.float32)
needs_writer = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason="tensorboardX is not installed"
)


def events(directory: Path) -> tuple[dict[str, dict[int, float]], set[str]]:
    """The points of each curve, those written later in place of those before, and the names of the histograms."""
    from tensorboardX.event_file_writer import EventsWriter  # noqa: F401 - brings the protocol with it
    from tensorboardX.proto.event_pb2 import Event

    curves: dict[str, dict[int, float]] = defaultdict(dict)
    histograms = set()
    for path in sorted(directory.glob("events.*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            if event.session_log.status == 1:  # START: what follows this step is discarded
                for curve in curves.values():
                    for step in [step for step in curve if step >= event.step]:
                        del curve[step]
            for value in event.summary.value:
                if value.HasField("histo"):
                    histograms.add(value.tag)
                else:
                    curves[value.tag][event.step] = value.simple_value
    return dict(curves), histograms


def fit(*callbacks: Any, epochs: int = 3, **options: Any) -> rc.History:
    model = rc.Sequential(rc.GRU(3, 4), rc.Linear(4, 1), seed=0)
    return model.fit(X, X[..., :1], loss="mse", optimizer="adam", epochs=epochs, batch_size=4, seed=0, verbose=0,
                     callbacks=list(callbacks), **options)  # fmt: skip


@needs_writer
def test_the_curves_are_the_history(tmp_path: Path) -> None:
    history = fit(rc.callbacks.TensorBoard(tmp_path / "logs"), validation_split=0.5, metrics="mae").history
    curves, histograms = events(tmp_path / "logs" / "train")
    held_out, _ = events(tmp_path / "logs" / "validation")
    for name, values in history.items():
        found = held_out[f"epoch_{name[4:]}"] if name.startswith("val_") else curves[f"epoch_{name}"]
        assert list(found) == [0, 1, 2]
        np.testing.assert_allclose(list(found.values()), values, rtol=1e-6)
    assert not histograms
    assert not (tmp_path / "logs" / "steps").exists()


@needs_writer
def test_steps_and_histograms(tmp_path: Path) -> None:
    fit(rc.callbacks.TensorBoard(tmp_path, histogram_freq=2, update_freq=2))
    steps, _ = events(tmp_path / "steps")
    assert list(steps["batch_loss"]) == [2, 4, 6]
    _, histograms = events(tmp_path / "train")
    assert histograms == set(rc.Sequential(rc.GRU(3, 4), rc.Linear(4, 1)).params)
    fit(rc.callbacks.TensorBoard(tmp_path / "every", update_freq="batch"))
    assert list(events(tmp_path / "every" / "steps")[0]["batch_loss"]) == [1, 2, 3, 4, 5, 6]


@needs_writer
def test_a_resumed_run_continues_the_curves(tmp_path: Path) -> None:
    whole = fit(epochs=4).history["loss"]
    for epochs in (2, 4):
        backup = rc.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        fit(backup, rc.callbacks.TensorBoard(tmp_path / "logs"), epochs=epochs)
    curves, _ = events(tmp_path / "logs" / "train")
    assert list(curves["epoch_loss"]) == [0, 1, 2, 3]
    np.testing.assert_allclose(list(curves["epoch_loss"].values()), whole, rtol=1e-6)


@needs_writer
def test_it_can_be_copied_and_says_what_is_wrong(tmp_path: Path) -> None:
    callback = rc.callbacks.TensorBoard(tmp_path)
    fit(callback, epochs=1)
    assert copy.deepcopy(callback).log_dir == str(tmp_path)
    with pytest.raises(ValueError, match=r"TensorBoard: got update_freq='step', expected one of 'epoch', 'batch'"):
        rc.callbacks.TensorBoard(update_freq="step")
    with pytest.raises(ValueError, match=r"TensorBoard: got histogram_freq=-1"):
        rc.callbacks.TensorBoard(histogram_freq=-1)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ImportError, match=r"TensorBoard: tensorboardX is not installed; run pip install 'recurra\[tensor"
    ):
        fit(rc.callbacks.TensorBoard())
