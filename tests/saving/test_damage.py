"""Damaged files: each gives one clear error, or the checkpoint before it is taken; nothing is ever restored by half."""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from recurra.saving import container
from user_layers import Scale

X = np.random.default_rng(0).standard_normal((4, 3, 2)).astype(np.float32)
NAME = "checkpoint-00002-000000000-000000.safetensors"


def small_file(tmp_path: Path) -> Path:
    rc.Sequential(rc.Linear(2, 2), rc.BatchNorm(2), seed=0).save(tmp_path / "model")
    return tmp_path / "model"


def run(directory: Path, *, epochs: int = 2, keep: int = 1) -> tuple[Any, Any]:
    """A fit that goes on from what is in the directory; the model and the optimiser, or what they are when it fails."""
    model = rc.Sequential(rc.GRU(2, 2), rc.BatchNorm(2), seed=1)
    optimizer = rc.optim.Adam(0.1)
    callbacks = [
        rc.callbacks.EarlyStopping("loss", patience=9),
        rc.callbacks.ModelCheckpoint(directory / "best", monitor="loss", save_best_only=True),
        rc.callbacks.BackupAndRestore(directory / "backup", keep=keep, delete_checkpoint=False),
    ]
    before = model.state_dict()
    try:
        model.fit(
            *(X, X),
            loss=rc.losses.MeanSquaredError(),
            optimizer=optimizer,
            metrics=["mae"],
            epochs=epochs,
            batch_size=2,
            seed=0,
            callbacks=callbacks,
            verbose=0,
        )
    except BaseException:
        for name, array in model.state_dict().items():
            assert_same_bits(array, before[name], f"{name} was restored by half")
        assert optimizer.state_dict() == {"steps": 0, "lr": 0.1}
        assert callbacks[0].best_epoch is None
        assert callbacks[1].state_dict() == {"best": np.inf, "written": []}
        raise
    return model, optimizer


def failure(function: Callable[[], Any]) -> Exception | None:
    """What it raises."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - the caller looks at it
        return error
    return None


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    run(tmp_path)
    (path,) = (tmp_path / "backup").iterdir()
    assert path.name == NAME
    return path


def test_every_byte_of_a_model_file(tmp_path: Path) -> None:
    """Four bits of each."""
    path = small_file(tmp_path)
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in {0, 4, 5, place % 8}:
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            error = failure(lambda: rc.load(path))
            assert isinstance(error, rc.ModelFormatError), (bit, place, content[place - 20 : place + 20])
            assert str(error).startswith("load: ")


def test_bits_of_a_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    """One bit of every fifth byte."""
    content = checkpoint.read_bytes()
    for place in range(0, len(content), 5):
        changed = bytearray(content)
        changed[place] ^= 1 << random.Random(place).randrange(8)
        checkpoint.write_bytes(changed)
        error = failure(lambda: run(tmp_path))
        assert isinstance(error, rc.ModelFormatError), (place, content[place - 20 : place + 20])
        assert str(error).startswith("fit: ")


def test_a_checkpoint_cut_off_anywhere(checkpoint: Path, tmp_path: Path) -> None:
    content = checkpoint.read_bytes()
    for size in [*range(0, len(content), 7), len(content) - 1]:
        checkpoint.write_bytes(content[:size])
        with pytest.raises(rc.ModelFormatError, match=r"^fit: .*damaged or foreign file .*expected a safetensors file"):
            run(tmp_path)


def test_the_one_before_is_taken(tmp_path: Path) -> None:
    whole, _optimizer = run(tmp_path / "whole", epochs=4)
    run(tmp_path, epochs=3, keep=3)
    newest = sorted((tmp_path / "backup").iterdir())
    content = newest[-1].read_bytes()
    cut, flipped = content[: len(content) // 2], bytearray(content)
    flipped[-5] ^= 4
    for damaged in (cut, bytes(flipped), b""):
        copied = tmp_path / "copied"
        shutil.copytree(tmp_path / "backup", copied / "backup")
        (copied / "backup" / newest[-1].name).write_bytes(damaged)
        (copied / "backup" / newest[-2].name).write_bytes(damaged)
        with pytest.warns(rc.ResumeWarning) as warned:
            model, _optimizer = run(copied, epochs=4)
        for index in (-1, -2):
            text = str(warned[-1 - index].message)
            assert newest[index].name in text
            assert f"resuming from {copied / 'backup' / newest[index - 1].name}" in text
        for name, array in whole.state_dict().items():
            assert_same_bits(model.state_dict()[name], array, name)
        shutil.rmtree(copied)


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in a JSON value."""
    if before:
        yield before
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths(value[key], (*before, key))


MISSING = object()


def with_changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    changed = copy.deepcopy(value)
    owner = changed
    for key in path[:-1]:
        owner = owner[key]
    if new is MISSING:
        del owner[path[-1]]
    else:
        owner[path[-1]] = new
    return changed


def test_a_state_with_parts_missing_or_of_another_kind(checkpoint: Path, tmp_path: Path) -> None:
    """With checksums that are right: an error that begins with the operation, or a run that goes on; never half of
    it."""
    content = container.read("fit", checkpoint)
    state = json.loads(content.metadata["training"])
    metadata = {name: text for name, text in content.metadata.items() if "checksum" not in name}
    refused = total = 0
    for path in paths(state):
        for new in (MISSING, None, [], {}, "text", -1, 1e300):
            changed = with_changed(state, path, new)
            metadata["training"] = json.dumps(changed)
            checkpoint.write_bytes(b"".join(container.serialise("fit", content.arrays, metadata)))
            total += 1
            error = failure(lambda: run(tmp_path))
            if error is not None:
                refused += 1
                assert isinstance(error, ValueError | rc.ResumeWarning), (path, new, error)
                assert str(error).startswith("fit: "), (path, new, error)
    assert refused > total / 2


@pytest.mark.parametrize("name", ["settings", "optimizer", "callbacks", "metrics", "data", "mean", "position", "step"])
def test_a_missing_key_is_named(name: str, checkpoint: Path, tmp_path: Path) -> None:
    content = container.read("fit", checkpoint)
    state = json.loads(content.metadata["training"])
    del state[name]
    metadata = {**content.metadata, "training": json.dumps(state)}
    checkpoint.write_bytes(b"".join(container.serialise("fit", content.arrays, metadata)))
    with pytest.raises(rc.ModelFormatError, match=f"fit: .*{NAME}: got a state without {name}"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("betas", [0.9, 10**400]), ("betas", [0.9, 7.0]), ("betas", [0.9]), ("eps", -1.0), ("weight_decay", float("nan"))],
)
def test_options_that_are_none_are_refused(name: str, value: Any, checkpoint: Path, tmp_path: Path) -> None:
    """Those of an optimiser, which a file may restore: by the same checks as the constructor's."""
    content = container.read("fit", checkpoint)
    state = json.loads(content.metadata["training"])
    state["setup"]["optimizer"][name] = value
    metadata = {key: text for key, text in content.metadata.items() if "checksum" not in key}
    metadata["training"] = json.dumps(state)
    checkpoint.write_bytes(b"".join(container.serialise("fit", content.arrays, metadata)))
    with pytest.raises(ValueError, match="fit: "):
        run(tmp_path)


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    """One that lies in a run's directory, under the name of the next checkpoint."""
    run(tmp_path, epochs=1)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (first,) = (tmp_path / "backup").glob("checkpoint-*")
    link = first.with_name(first.name.replace("00001", "00002", 1))
    link.symlink_to(precious)
    with pytest.warns(rc.ResumeWarning):
        run(tmp_path, epochs=2)
    assert precious.read_text() == "mine"
    assert not link.is_symlink()
    assert link.exists()


def test_arrays_missing_from_a_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    content = container.read("fit", checkpoint)
    for name in content.arrays:
        left = {other: array for other, array in content.arrays.items() if other != name}
        checkpoint.write_bytes(b"".join(container.serialise("fit", left, content.metadata)))
        with pytest.raises(rc.ModelFormatError, match=r"^fit: "):
            run(tmp_path)


class Picky(rc.callbacks.Callback):
    """Takes no state."""

    def load_state_dict(self, state: Any) -> None:
        raise RuntimeError("not this one")


def test_a_callback_that_fails_undoes_all(tmp_path: Path) -> None:
    """Whatever it raises."""
    y = X.copy()
    options: dict[str, Any] = {"loss": rc.losses.MeanSquaredError(), "verbose": 0, "seed": 0}

    def fit(model: Any, optimizer: Any, epochs: int) -> Any:
        told = [
            rc.callbacks.EarlyStopping("loss"),
            Picky(),
            rc.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False),
        ]
        return model.fit(X, y, optimizer=optimizer, epochs=epochs, callbacks=told, **options)

    model, optimizer = rc.GRU(2, 2, seed=0), rc.optim.Adam(0.1)
    model = rc.Sequential(model)
    fit(model, optimizer, 1)
    state, memory = model.state_dict(), optimizer.state_dict()
    model.params["0.bias_ih_l0"] = np.ones(6, np.float32)
    optimizer.step(model)
    state, memory = model.state_dict(), optimizer.state_dict()
    with pytest.raises(RuntimeError, match="not this one"):
        fit(model, optimizer, 2)
    for name, array in model.state_dict().items():
        assert_same_bits(array, state[name], name)
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, memory[name])


def test_names_that_are_there_twice(tmp_path: Path) -> None:
    path = small_file(tmp_path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + length].strip()
    for name in ("__metadata__", "0.bias"):
        entry = json.dumps({name: json.loads(text)[name]}).encode()
        doubled = text[:-1] + b"," + entry[1:]
        path.write_bytes(len(doubled).to_bytes(8, "little") + doubled + content[8 + length :])
        with pytest.raises(rc.ModelFormatError, match=r"^load: "):
            rc.load(path)


def test_a_header_written_by_another_program(tmp_path: Path) -> None:
    """It may add to the metadata; the arrays' checksum still holds."""
    path = small_file(tmp_path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["author"] = "somebody"
    text = json.dumps(header).encode()
    rewritten = len(text).to_bytes(8, "little") + text + content[8 + length :]
    path.write_bytes(rewritten)
    rc.load(path)
    path.write_bytes(rewritten[:-1] + bytes([rewritten[-1] ^ 1]))
    with pytest.raises(rc.ModelFormatError, match="damaged"):
        rc.load(path)


def test_no_memory_is_asked_for_that_the_file_does_not_back() -> None:
    """Every option of every layer with sizes of all kinds, where 512 MiB are all that there is."""
    script = Path(__file__).parents[1] / "helpers" / "hostile_files.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_a_layer_of_ones_own_that_asks_for_too_much(tmp_path: Path) -> None:
    path = tmp_path / "model"
    Scale(3).save(path)
    content = container.read("load", path)
    description = json.loads(content.metadata["config"])
    description["config"]["size"] = 1 << 55
    metadata = {**content.metadata, "config": json.dumps(description)}
    path.write_bytes(b"".join(container.serialise("load", content.arrays, metadata)))
    with pytest.raises(rc.ModelFormatError, match=r"load: .*needs more memory than there is"):
        rc.load(path, custom={"Scale": Scale})


def test_work_grows_as_the_layers_do(tmp_path: Path) -> None:
    """Counted in calls, of Python functions and others."""

    def calls(function: Any) -> int:
        count = 0

        def look(*_: Any) -> None:
            nonlocal count
            count += 1

        sys.setprofile(look)
        try:
            function()
        finally:
            sys.setprofile(None)
        return count

    found = []
    for layers in (100, 200):
        model = rc.Sequential(*[rc.Linear(2, 2) for _layer in range(layers)])
        model.save(tmp_path / "model")
        rc.load(tmp_path / "model")
        found.append([calls(lambda: rc.load(tmp_path / "model")), calls(lambda m=model: copy.deepcopy(m))])
    for few, many in zip(*found, strict=True):
        assert many < 2.2 * few


@pytest.mark.parametrize("make", [lambda: rc.GRU(3, 5, recurrent_init="orthogonal"), lambda: rc.Embedding(5, 3)])
def test_nothing_is_drawn_to_be_overwritten(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    from recurra.common import seeds

    model = rc.Sequential(make(), seed=0)
    model.save(tmp_path / "model")
    pickled = pickle.dumps(model)
    monkeypatch.setattr(seeds, "generator", None)
    for twin in (rc.load(tmp_path / "model"), copy.deepcopy(model), pickle.loads(pickled), copy.copy(model)):
        for name, array in model.params.items():
            assert_same_bits(twin.params[name], array, name)
    monkeypatch.undo()
    model.layers[0].reset_parameters(1)
    assert make().params is not None  # draws again
