"""Networks in checkpoints of PyTorch that packages contain: Resemblyzer's speaker encoder, and the segmentation network
in whisperx. Where a package is not installed, its file has the same form with random weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import recurra as rc
from packages import packaged


class Encoder(nn.Module):
    """Resemblyzer's VoiceEncoder."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Any) -> Any:
        y, state = self.lstm(mels)
        raw = torch.relu(self.linear(y))  # of every step; theirs is the last one's
        return raw / torch.linalg.vector_norm(raw, dim=-1, keepdim=True), *state


class Segmentation(nn.Module):
    """PyanNet of pyannote.audio, with the filters of its first convolution as weights."""

    def __init__(self) -> None:
        super().__init__()
        self.sincnet = nn.ModuleDict(
            {
                "wav_norm1d": nn.InstanceNorm1d(1, affine=True),
                "conv1d": nn.ModuleList(
                    [nn.Conv1d(1, 80, 251, 10, bias=False), nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)]
                ),
                "norm1d": nn.ModuleList([nn.InstanceNorm1d(size, affine=True) for size in (80, 60, 60)]),
            }
        )
        self.lstm = nn.LSTM(60, 128, 4, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, 3)

    def forward(self, waves: Any) -> Any:
        y = self.sincnet["wav_norm1d"](waves)
        for conv, norm in zip(self.sincnet["conv1d"], self.sincnet["norm1d"], strict=True):
            y = conv(y).abs() if conv.in_channels == 1 else conv(y)
            y = nn.functional.leaky_relu(norm(nn.functional.max_pool1d(y, 3)))
        y, state = self.lstm(y.transpose(1, 2))
        for linear in self.linear:
            y = nn.functional.leaky_relu(linear(y))
        return torch.sigmoid(self.classifier(y)), *state


class Foreign:
    """Stands for a class of another package that a checkpoint contains."""


def sinc_filters(bank: dict[str, Any]) -> Any:
    """(80, 1, 251), the band-pass filters of asteroid-filterbanks' ParamSincFB (Ravanelli and Bengio 2018)."""
    low_hz, band_hz, n, window = (
        np.asarray(bank[name], np.float64) for name in ("low_hz_", "band_hz_", "n_", "window_")
    )
    low = 50 + abs(low_hz)
    high = np.clip(low + 50 + abs(band_hz), 50, 8000)
    band = 2 * (high - low)
    even = (np.sin(high * n) - np.sin(low * n)) / (n / 2) * window
    odd = (np.cos(low * n) - np.cos(high * n)) / (n / 2) * window
    halves = [np.hstack([even, band, even[:, ::-1]]), np.hstack([odd, 0 * band, -odd[:, ::-1]])]
    return (np.concatenate(halves) / np.tile(band, (2, 1)))[:, None].astype(np.float32)


def data_only(path: Path) -> Any:
    """A checkpoint whose foreign classes are replaced by an empty one, as docs/interop.md has it."""

    class Left:
        def __init__(self, *_: Any) -> None: ...
        def __setstate__(self, _: Any) -> None: ...

    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with torch.serialization.safe_globals([(Left, name) for name in names]):
        return torch.load(path, map_location="cpu", weights_only=True)


def encoder_file(folder: Path) -> Path:
    if found := packaged("resemblyzer", "pretrained.pt"):
        return found
    torch.manual_seed(0)
    own = {"similarity_weight": torch.ones(1), **Encoder().state_dict()}
    torch.save({"step": 1, "model_state": own, "optimizer_state": {"state": {}}}, folder / "pretrained.pt")
    return folder / "pretrained.pt"


def segmentation_file(folder: Path) -> Path:
    if found := packaged("whisperx", "assets/pytorch_model.bin"):
        return found
    torch.manual_seed(0)
    own = Segmentation().state_dict()
    place = "sincnet.conv1d.0.filterbank."
    del own["sincnet.conv1d.0.weight"]
    own[place + "low_hz_"] = torch.linspace(30, 7000, 40)[:, None]
    own[place + "band_hz_"] = torch.linspace(40, 300, 40)[:, None]
    own[place + "n_"] = 2 * torch.pi * torch.arange(-125.0, 0)[None] / 16000
    own[place + "window_"] = torch.hamming_window(251, periodic=False)[:125]
    torch.save({"epoch": 1, "state_dict": own, "hyper_parameters": Foreign()}, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def close(got: Any, wanted: Any) -> None:
    """To 1e-5 of the largest value: trained cells have c of 100."""
    wanted = wanted.detach().numpy()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * max(1.0, np.abs(wanted).max()))


def test_the_speaker_encoder_whole_and_streamed(tmp_path: Path) -> None:
    checkpoint = torch.load(encoder_file(tmp_path), map_location="cpu", weights_only=True)
    layers = rc.interop.torch_layers(checkpoint["model_state"])
    model = rc.Sequential(layers["lstm"], layers["linear"], rc.Activation("relu"))
    mels = np.random.default_rng(0).gamma(0.3, 0.01, (2, 160, 40)).astype(np.float32)
    module = Encoder()
    module.load_state_dict(checkpoint["model_state"], strict=False)
    wanted, *states = module(torch.from_numpy(mels))
    stream = model.stream(2)
    streamed = np.stack([stream.step(mels[:, t]) for t in range(160)], 1)
    for raw, state in (model(mels), (streamed, stream.state())):
        close(raw / np.linalg.norm(raw, axis=-1, keepdims=True), wanted)
        for ours, theirs in zip(state[0], states, strict=True):
            close(ours, theirs)


def test_the_segmentation_network(tmp_path: Path) -> None:
    state_dict = dict(data_only(segmentation_file(tmp_path))["state_dict"])
    place = "sincnet.conv1d.0."
    bank = {name: state_dict.pop(f"{place}filterbank.{name}") for name in ("low_hz_", "band_hz_", "n_", "window_")}
    state_dict[f"{place}weight"] = torch.from_numpy(sinc_filters(bank))
    norm, valid = {"type": "InstanceNorm1d", "affine": True}, {"padding": "valid"}
    options: dict[str, Any] = {f"sincnet.norm1d.{i}": norm for i in range(3)} | {"sincnet.wav_norm1d": norm}
    options |= {f"sincnet.conv1d.{i}": valid for i in (1, 2)} | {"sincnet.conv1d.0": {**valid, "stride": 10}}
    layers = rc.interop.torch_layers(state_dict, options=options)
    parts: list[rc.Layer] = [layers["sincnet.wav_norm1d"]]
    for i in range(3):
        parts += [layers[f"sincnet.conv1d.{i}"], *([rc.Activation("abs")] if i == 0 else [])]
        parts += [rc.MaxPool1d(3, padding="valid"), layers[f"sincnet.norm1d.{i}"], rc.Activation("leaky_relu")]
    parts += [layers["lstm"]]
    for i in range(2):
        parts += [layers[f"linear.{i}"], rc.Activation("leaky_relu")]
    model = rc.Sequential(*parts, layers["classifier"], rc.Activation("sigmoid"))
    waves = np.random.default_rng(0).standard_normal((2, 16000)).astype(np.float32) * np.hanning(16000).astype("f")
    module = Segmentation()
    module.load_state_dict(state_dict)
    wanted, *states = module(torch.from_numpy(waves[:, None]))
    y, state = model(waves[..., None])
    close(y, wanted)
    (recurrent,) = (one for one in state if one is not None)
    for ours, theirs in zip(recurrent, states, strict=True):
        close(ours, theirs)


def test_a_checkpoint_says_where_its_parameters_are() -> None:
    own = nn.Linear(2, 3).state_dict()
    for read in (rc.from_torch, rc.interop.torch_layers):
        for name in ("model_state", "state_dict", "net"):
            with pytest.raises(TypeError, match=rf"int as 'step', .*within: source\['{name}'\]$"):
                read({"step": 1, name: own, "optimizer": {"state": {}}})
        with pytest.raises(TypeError, match=r"source\['a'\] or source\['b'\]$"):
            read({"a": own, "b": own})
        with pytest.raises(TypeError, match="leave 'extra' out"):
            read({**own, "extra": None})
        with pytest.raises(TypeError, match="names are strings"):
            read({0: own["weight"]})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_parameters_of_other_dtypes_are_told_what_to_do(dtype: Any) -> None:
    own = {"weight": torch.zeros(2, 3, dtype=dtype)}
    says = rf": got {str(dtype).removeprefix('torch.')}, expected float32 or float64; .*value\.float\(\)"
    with pytest.raises(ValueError, match="^from_torch: .*" + says):
        rc.from_torch(own)
    with pytest.raises((KeyError, ValueError), match="torch_layers: .*" + says):
        rc.interop.torch_layers(own)[""]
    rc.from_torch({name: value.float() for name, value in own.items()})


def test_parameters_of_no_layer_say_why() -> None:
    for own, why in (
        ({}, "empty state_dict"),
        ({"w": np.ones((2, 3), "f")}, r"w \(2, 3\), expected a weight"),
        ({"a.w": np.ones((2, 3), "f"), "b.v": np.ones(3, "f")}, r"w \(2, 3\), expected a weight"),
        ({"weight": np.ones((1, 1, 1, 1, 1), "f")}, "which no layer here has"),
    ):
        with pytest.raises(ValueError, match=f"^from_torch: .*{why}"):
            rc.from_torch(own)
