"""Composes chorales in four voices: an LSTM with an output for each voice, trained on Bach's.

    python examples/music.py                            # about two minutes
    python examples/music.py --quick                    # some seconds
    python examples/music.py --plot music.png           # piano rolls, and music.mid to listen to

Data: the chorales of music21's corpus (`pip install --no-deps music21`, whose MusicXML files are read here as they
are), moved to a key without sharps or flats, in steps of an eighth. A voice's token at a step is a rest, a note that
begins or "as before". Every tenth chorale is held out.

Model: an Embedding for each voice's last token, and one for the place in the bar of the step to come; an LSTM reads
all of them, and four Linear layers say what comes next. In training the chorales lie end to end, and the state is
reset where one begins (`rc.data.sessions`). `rc.generate` draws the four tokens of a step together and feeds them
back; the place in the bar is known beforehand.

Baseline: a Witten-Bell n-gram of each voice (`ngram.py`), of the best order. The score is bits per voice and step on
the held-out chorales.
"""

from __future__ import annotations

import importlib.util
import math
import xml.etree.ElementTree as ET
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import common
import recurra as rc
from ngram import WittenBell

VOICES = ("soprano", "alto", "tenor", "bass")
REST, HELD, LOWEST, TOKENS = 0, 1, 30, 60  # token 2 is the MIDI pitch LOWEST
BAR = 12  # places in a bar that are told apart, in eighths
LANES, STEPS = 16, 32  # of a batch
LEARNING_RATE = 4e-3

Integers = npt.NDArray[np.int64]
Scores = dict[str, npt.NDArray[np.float32]]


class Chorale(NamedTuple):
    """Tokens (T, 4) and the places of the steps in their bars (T,). The first step is a rest in all voices."""

    tokens: Integers
    places: Integers

    def inputs(self) -> dict[str, Integers]:
        """What the model reads before it says each step but the first."""
        return {**dict(zip(VOICES, self.tokens[:-1].T, strict=True)), "place": self.places[1:]}

    def targets(self) -> dict[str, Integers]:
        """These steps."""
        return dict(zip(VOICES, self.tokens[1:].T, strict=True))


def parse(path: Path) -> Chorale | None:
    """A compressed MusicXML file; None unless it has four voices."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("xml") and "META-INF" not in name)
        score = ET.fromstring(archive.read(name))
    parts = score.findall("part")
    if len(parts) != 4:
        return None
    fifths = int(score.findtext(".//key/fifths") or 0)
    columns, places = [], np.zeros(0, np.int64)
    for part in parts:
        column, places = parse_part(part)
        columns.append(column)
    steps = min(map(len, columns))
    tokens = np.stack([column[:steps] for column in columns], 1)
    tokens[tokens > HELD] += (6 - 7 * fifths) % 12 - 6  # to C major or A minor
    if steps < 16 or tokens[tokens > HELD].min(initial=TOKENS) <= HELD or tokens.max() >= TOKENS:
        return None
    return Chorale(np.concatenate([np.full((1, 4), REST), tokens]), np.concatenate([[0], places[:steps]]))


def parse_part(part: ET.Element) -> tuple[Integers, Integers]:
    """The tokens of a voice, and the places in the bar."""
    divisions, length = 1, Fraction(8)
    notes: list[tuple[Fraction, Fraction, int, bool]] = []  # begin and end in eighths, token, whether a tie goes on
    bars: list[tuple[Fraction, Fraction]] = []  # begin, and what the first step of a pickup lacks
    now = Fraction(0)
    for measure in part.findall("measure"):
        begin = now
        for element in measure:
            if element.tag == "attributes":
                divisions = int(element.findtext("divisions") or divisions)
                if (time := element.find("time")) is not None:
                    length = Fraction(8 * int(time.findtext("beats") or 4), int(time.findtext("beat-type") or 4))
            duration = Fraction(2 * int(element.findtext("duration") or 0), divisions)
            if element.tag == "backup":
                now -= duration
            elif element.tag == "forward" or (element.tag == "note" and element.find("chord") is None):
                if element.tag == "note" and element.find("grace") is None:
                    tied = any(tie.get("type") == "stop" for tie in element.findall("tie"))
                    notes.append((now, now + duration, token_of(element), tied))
                now += duration
        bars.append((begin, length - (now - begin) if now - begin < length and begin == 0 else Fraction(0)))
    tokens = np.full(math.ceil(now), REST, np.int64)
    for begin, end, token, tied in notes:
        first, last = math.ceil(begin), min(math.ceil(end), len(tokens))
        tokens[first:last] = HELD if token != REST else REST
        if first < last and token != REST and not tied:
            tokens[first] = token
    places = np.zeros(len(tokens), np.int64)
    for begin, missing in bars:
        first = math.ceil(begin)
        places[first:] = np.arange(len(tokens) - first) + int(missing)
    return tokens, places % BAR


def token_of(note: ET.Element) -> int:
    if (pitch := note.find("pitch")) is None:
        return REST
    step = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[pitch.findtext("step") or "C"]
    midi = 12 * (int(pitch.findtext("octave") or 4) + 1) + step + round(float(pitch.findtext("alter") or 0))
    return midi - LOWEST + 2


def chorales() -> list[Chorale]:
    """All of the corpus that have four voices."""
    found = importlib.util.find_spec("music21")
    if found is None or not found.submodule_search_locations:
        raise SystemExit(
            "music.py: music21 is not installed, whose chorales are read; write pip install --no-deps music21"
        )
    folder = Path(found.submodule_search_locations[0], "corpus", "bach")
    return [one for path in sorted(folder.glob("*.mxl")) if (one := parse(path)) is not None]


def composer(hidden: int, seed: int) -> rc.Model[Scores]:
    """From the last token of each voice and the place of the next step to the logits of the next tokens."""
    inputs = {name: rc.Input(tokens=TOKENS) for name in VOICES}
    place = rc.Input(tokens=BAR)
    read = [rc.Embedding(TOKENS, 32)(one) for one in inputs.values()]
    h = rc.Dropout(0.3)(rc.LSTM(4 * 32 + 8, hidden)(rc.Concatenate()((*read, rc.Embedding(BAR, 8)(place)))))
    outputs = {name: rc.Linear(hidden, TOKENS)(h) for name in VOICES}
    return rc.Model({**inputs, "place": place}, outputs, seed=seed)


def bits(model: rc.Model[Scores], pieces: list[Chorale]) -> float:
    """Per voice and step."""
    loss = rc.losses.CrossEntropy()
    total = count = 0.0
    for piece in pieces:
        logits, _ = model({name: tokens[None] for name, tokens in piece.inputs().items()})
        for name, tokens in piece.targets().items():
            total += loss(logits[name], tokens[None]).sum
            count += len(tokens)
    return total / count / math.log(2)


def compose(model: rc.Model[Scores], opening: Chorale, steps: int, seed: int) -> Chorale:
    """The opening and what the model makes of it."""
    known = len(opening.tokens)
    places = (opening.places[1] + np.arange(known + steps - 1)) % 8  # bars of four quarters
    drawn = rc.generate(
        model,
        {name: column[None] for name, column in zip(VOICES, opening.tokens.T, strict=True)},
        steps,
        given={"place": places[None]},
        temperature=0.8,
        top_p=0.95,
        seed=seed,
    )
    made = np.stack([drawn.samples[name][0] for name in VOICES], 1)
    return Chorale(np.concatenate([opening.tokens, made]), np.concatenate([[0], places]))


def notes(column: Integers) -> list[tuple[int, int, int]]:
    """Begin and end in eighths and MIDI pitch of each note of a voice."""
    found: list[tuple[int, int, int]] = []
    sounding = False
    for step, token in enumerate(column.tolist()):
        if token > HELD:
            found.append((step, step + 1, token - 2 + LOWEST))
        elif token == HELD and sounding:
            begin, _end, pitch = found[-1]
            found[-1] = (begin, step + 1, pitch)
        sounding = token > HELD or (token == HELD and sounding)
    return found


def write_midi(path: Path, piece: Chorale) -> None:
    """A standard MIDI file of format 1, an eighth being 240 ticks, at 84 quarters a minute."""

    def number(value: int) -> bytes:
        digits = [value & 127]
        while value := value >> 7:
            digits.insert(0, value & 127 | 128)
        return bytes(digits)

    def track(events: list[tuple[int, bytes]]) -> bytes:
        data, before = b"", 0
        for tick, event in sorted(events):
            data += number(tick - before) + event
            before = tick
        data += b"\x00\xff\x2f\x00"
        return b"MTrk" + len(data).to_bytes(4, "big") + data

    tracks = [track([(0, b"\xff\x51\x03" + (60_000_000 // 84).to_bytes(3, "big"))])]
    for channel, column in enumerate(piece.tokens.T):
        events = [(0, bytes([0xC0 | channel, 19]))]  # a church organ
        for begin, end, pitch in notes(column):
            events.append((240 * begin, bytes([0x90 | channel, pitch, 80])))
            events.append((240 * end, bytes([0x80 | channel, pitch, 0])))
        tracks.append(track(events))
    header = b"MThd" + (6).to_bytes(4, "big") + b"".join(one.to_bytes(2, "big") for one in (1, len(tracks), 480))
    path.write_bytes(header + b"".join(tracks))


def draw(pieces: dict[str, Chorale], known: int, path: Path) -> None:
    """A piano roll of each piece; up to `known` steps the opening is given."""
    figure = common.new_figure(11, 3.2 * len(pieces))
    for axes, (title, piece) in zip(figure.subplots(len(pieces), 1, squeeze=False)[:, 0], pieces.items(), strict=True):
        for name, column, colour in zip(VOICES, piece.tokens.T, ("C3", "C1", "C2", "C0"), strict=True):
            for index, (begin, end, pitch) in enumerate(notes(column)):
                axes.barh(
                    pitch, end - begin - 0.15, left=begin, height=0.9, color=colour, label=name if not index else None
                )
        axes.axvspan(0, known, color="0.92", zorder=0)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xticks(np.arange(0, len(piece.tokens), 16), np.arange(0, len(piece.tokens), 16) // 8)
        axes.set(ylabel="MIDI pitch", xlim=(0, len(piece.tokens)))
    axes.set_xlabel("bars; grey: the opening that was given")
    figure.legend(*axes.get_legend_handles_labels(), ncols=4, fontsize=9, loc="outside upper right")
    common.save_plot(figure, path)


def main() -> int:
    options = common.arguments(__doc__)
    pieces = chorales()
    train = [piece for index, piece in enumerate(pieces) if index % 10 != 5]
    test = pieces[5::10]
    print(f"{len(train)} chorales to learn from, {len(test)} held out")

    ngrams = []
    for order in (3, 5, 9):
        scores = [
            WittenBell([one.tokens[:, voice] for one in train], order=order, vocabulary=TOKENS).bits_per_symbol(
                [one.tokens[:, voice] for one in test]
            )
            for voice in range(4)
        ]
        ngrams.append(float(np.mean(scores)))
        print(f"{order}-gram of each voice: {ngrams[-1]:.3f} bits per voice and step")

    epochs, hidden = (10, 96) if options.quick else (25, 224)
    model = composer(hidden, options.seed)
    steps = epochs * sum(len(one.tokens) - 1 for one in train) // (LANES * STEPS)
    model.fit(
        rc.data.sessions(
            {name: [one.inputs()[name] for one in train] for name in (*VOICES, "place")},
            {name: [one.targets()[name] for one in train] for name in VOICES},
            batch_size=LANES,
            steps=STEPS,
            seed=options.seed,
        ),
        loss=rc.losses.CrossEntropy(),
        optimizer=rc.optim.Adam(rc.optim.schedules.CosineDecay(LEARNING_RATE, steps)),
        epochs=epochs,
        clip_norm=1.0,
        seed=options.seed,
        verbose=2,
    )

    if options.plot:
        known = 17
        openings = [Chorale(one.tokens[:known], one.places[:known]) for one in test[:2]]
        composed = {
            f"an opening of two bars that was held out, and how the model goes on ({index + 1})": compose(
                model, opening, 111, options.seed + index
            )
            for index, opening in enumerate(openings)
        }
        draw(composed, known, options.plot)
        write_midi(options.plot.with_suffix(".mid"), next(iter(composed.values())))
    return common.report(
        "music.py",
        bits(model, test),
        min(ngrams),
        measure="bits per voice and step",
        against="an n-gram of each voice",
        better="lower",
    )


if __name__ == "__main__":
    raise SystemExit(main())
