"""Memory: the peak of a call above what was there before it, for recurra and PyTorch, beside the formula's prediction.

    python benchmarks/memory.py                            # training and sequences, a minute or two
    python benchmarks/memory.py --only "training gru" --threads 2 --json memory.json
    python benchmarks/memory.py --growth 100000            # does memory grow over calls of many shapes?

Every engine and workload has a process of its own. docs/memory.md explains the formula, the functions `tape`,
`gradients`, `forward`, `backward`, `weights` and `stream` here. Linux only: /proc says what is resident.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

VECTOR_BYTES = {"baseline": 16, "neon": 16, "avx2": 32, "avx512": 64}
ENGINES = ("recurra", "torch")
CALLS = 3  # the largest of their peaks counts: a second one may find what the first has left
KINDS = ("training", "ragged training", "sequence")
TARGET = 0.5  # of PyTorch's peak in training


@dataclass(frozen=True)
class Cell:
    """What `CellInfo` in src/cells/ says."""

    gates: int
    groups: int  # columns of a unit
    saved: int  # values that a unit and step leave on the tape, the LSTM's c aside
    states: int = 1
    ones: int = 0  # 1: a second bias gradient, of the columns that the input does not feed
    stages: int = 1  # products with h; 0: the gates do not see it


RNN = Cell(1, 1, 1)
LSTM = Cell(4, 4, 4, states=2)
GRU = Cell(3, 4, 4, ones=1)
GRU_RESET_BEFORE = Cell(3, 3, 3, stages=2)
MIN_GRU = Cell(2, 2, 2, stages=0)
MIN_LSTM = Cell(3, 3, 4, stages=0)
SCAN_ROWS = 96  # that the loops of cells without stages take at once


def round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


@dataclass(frozen=True)
class Shape:
    """One recurrent stack and its batch, in the letters of docs/memory.md."""

    cell: Cell
    I: int
    H: int
    L: int
    D: int
    N: int
    T: int
    V: int  # valid steps: N T, or the sum of the lengths
    M: int  # steps of the longest row
    e: int = 4  # bytes of an element
    vector: int = 64  # bytes of a vector of the instruction set

    @property
    def lanes(self) -> int:
        return self.vector // self.e

    @property
    def units(self) -> int:
        """Of a panel."""
        tile = 4 if self.vector == 64 else 2  # vectors
        vectors, most = math.ceil(self.H / self.lanes), max(1, tile // self.cell.groups)
        half = {64: 0 < self.H % self.lanes <= self.lanes // 2, 32: self.H >= 256}
        if self.cell == LSTM and half.get(self.vector, False):
            return self.lanes // 2
        return self.lanes * math.ceil(vectors / math.ceil(vectors / most))

    @property
    def P(self) -> int:  # noqa: N802
        """H rounded up to whole panels."""
        return round_up(self.H, self.units)

    @property
    def inputs(self) -> list[int]:
        """I of every layer."""
        return [self.I] + [self.D * self.H] * (self.L - 1)

    @property
    def state(self) -> int:
        """Elements of a row's state."""
        return self.cell.states * self.L * self.D * self.H

    @property
    def order(self) -> int:
        """Bytes: the rows in order of their lengths, and how many run at each step."""
        return 8 * self.N + 12 * (self.M + 1)


def tape(s: Shape, state: bool = False, lengths: bool = False, reset: bool = False, dropout: bool = False) -> int:
    """Bytes of a recorded forward, `Tape.nbytes`. `state` and so on: whether the call was given one."""
    x = s.N * s.T * s.I
    y = s.N * s.D * s.H * (s.T + (s.L - 1) * s.M * (1 + dropout))
    saved = s.L * s.D * s.V * s.P * (s.cell.saved + s.cell.states - 1)
    states = s.N * s.state * (1 + state)
    return s.e * (x + y + saved + states) + s.order + 8 * s.N * lengths + s.N * s.T * reset


def packed_gradients(s: Shape) -> int:
    """Bytes: the weights' gradients as backward sums them up."""
    c = s.cell
    h = (s.H + c.ones) * (c.stages > 0)
    return s.e * s.D * sum(s.P * (c.groups + c.gates * (i + 1) + c.gates * h) for i in s.inputs)


def factors(s: Shape) -> int:
    """Bytes: what these gradients are the products of."""
    hidden = s.cell.stages * round_up(s.H, s.lanes)
    return s.e * s.D * (s.V | 1) * sum(s.cell.groups * s.P + round_up(i, s.lanes) + hidden for i in s.inputs)


def leaves_factors(s: Shape) -> bool:
    """Whether a backward keeps the factors of the weights' gradients, rather than the gradients themselves."""
    return s.V <= 64 and s.cell.stages > 0 and factors(s) <= packed_gradients(s)


def gradients(s: Shape) -> int:
    """Bytes: what a backward adds to the tape."""
    return factors(s) if leaves_factors(s) else packed_gradients(s)


def weights(s: Shape, backward: bool) -> int:
    """Bytes: packed weights, kept by the layer until its parameters change; those for backward come on top."""
    c = s.cell
    forward = s.e * s.D * sum(s.P * (c.groups + c.gates * (i + s.H * (c.stages > 0))) for i in s.inputs)
    lanes = [(round_up(i, s.lanes), round_up(s.P, s.lanes) * (c.stages > 0)) for i in s.inputs]
    return forward + backward * s.e * s.D * sum(s.P * c.gates * (i + h) for i, h in lanes)


def rows_scratch(s: Shape) -> int:
    """Elements: what the forward loops of all directions keep of the step at hand."""
    c, line, widest = s.cell, 64 // s.e, max(s.inputs)
    h, x, columns = round_up(s.P, line) + line, round_up(widest, line) + line, c.groups * s.P
    if not c.stages:
        return s.D * min(s.N * s.M, max(s.N, SCAN_ROWS)) * (x + c.groups * s.units)
    steps = 1
    far = columns * (widest + s.P) * s.e > 8 << 20
    ahead = s.M > 1 and widest >= 8 and 0 < s.N <= (16 if far else 3)  # the input's product, made for several steps
    if ahead:
        steps = min(s.M, 64, max(8, (1 << 15) // (s.N * columns)))
    row = 2 * h + (c.states - 1) * s.P + steps * x + ahead * steps * columns + 8 // s.e
    return s.D * (s.N * (row + (c.stages > 1) * (h + 3 * s.P)) + columns)


def forward(s: Shape, recorded: bool = False) -> int:
    """Bytes of scratch of a forward; a recorded one has the rest on its tape."""
    between = 0 if recorded else s.e * min(s.L - 1, 2) * s.N * s.M * s.D * s.H + s.order
    return s.e * rows_scratch(s) + between


def backward(s: Shape) -> int:
    """Bytes of scratch of a backward: the ring with its operands, what is carried from step to step, dx of layers."""
    c, longest = s.cell, max(s.inputs)
    block = min(max((512 << 10) // (c.groups * s.P * s.e), 256), 512)
    ring = 0 if leaves_factors(s) else min(max(block, s.N) + 2 * s.N, s.V)
    operands = longest + 1 + (s.H + 1) * (c.stages > 0) + (c.stages > 1) * s.H
    carried = s.N * s.P * c.states
    between = min(s.L - 1, 2) * s.N * s.M * s.D * s.H
    rows = s.L * s.D * s.N * (26 * (c.stages > 0) + s.e * (s.P + 2 * s.lanes) * (c.stages > 1))
    return s.e * (ring * (c.groups * s.P + operands) + carried + between) + rows


def stream(s: Shape) -> int:
    """Bytes of a stream that goes step by step: two states, the step's buffers, outputs between layers."""
    one = replace(s, T=1, V=s.N, M=1)
    return s.e * (2 * s.N * s.state + rows_scratch(one) + 2 * (s.L > 1) * s.N * s.H) + one.order


def pages(size: int) -> int:
    """What is resident of an arena: from 2 MiB on it consists of huge pages, where the system has them."""
    return round_up(size, 2 << 20) if size >= 2 << 20 else size


def predict(s: Shape, kind: str, input_grad: bool) -> int:
    """Bytes that calls of this kind add to a process that has the layer and the arrays they are given."""
    ours = 2 * s.e * s.N * s.state  # final or initial states, row by row and as arrays
    if kind == "sequence":
        return pages(weights(s, backward=False)) + pages(forward(s)) + s.e * s.N * s.T * s.D * s.H + ours
    made = pages(tape(s, lengths=kind.startswith("ragged")) + gradients(s)) + input_grad * s.e * s.N * s.T * s.I
    return pages(weights(s, backward=True)) + made + pages(max(forward(s, recorded=True), backward(s))) + ours


def status(name: str) -> int:
    """Bytes: a line of /proc/self/status, such as VmRSS."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) << 10
    raise SystemExit(f"memory.py: /proc/self/status has no {name}; this needs Linux")


def peak_of(run: Callable[[], object]) -> int:
    """Bytes by which `run`, called CALLS times, takes the process above where it is now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else freed memory that is still resident would count for nothing
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = status("VmRSS")
    for _ in range(CALLS):
        run()
    return status("VmHWM") - before


def measure_here(engine_name: str, workload_name: str, threads: int, input_grad: bool) -> dict[str, Any]:
    """In a process of its own. Of several ways of an engine to do the work the one that takes least counts."""
    from engines import ENGINES as KNOWN
    from engines import make_problem
    from workloads import WORKLOADS

    workload = next(w for w in WORKLOADS if w.name == workload_name)
    module, kind, _packages = KNOWN[engine_name]
    engine = getattr(__import__(module, fromlist=[kind]), kind)()
    engine.set_num_threads(threads)
    tiny = replace(workload, input_size=4, hidden_size=8, batch=2, steps=3)
    for runner in engine.runners(make_problem(tiny, input_grad)):  # what an engine loads when it is first used
        with runner.context():
            runner.run()
    problem = make_problem(workload, input_grad)
    peaks = {}
    for runner in engine.runners(problem):
        if runner.variant in ("dense", "1 thread"):
            continue
        with runner.context():
            peaks[runner.label] = peak_of(runner.run)
    label = min(peaks, key=lambda name: peaks[name])
    result: dict[str, Any] = {"peak": peaks[label], "label": label}
    if engine_name == "recurra":
        result["formula"] = predict(shape_of(workload, int(problem.lengths.sum())), workload.kind, input_grad)
    return result


def shape_of(workload: Any, valid: int) -> Shape:
    import recurra as rc

    cell = {"rnn": RNN, "lstm": LSTM, "gru": GRU}[workload.cell]
    sizes = (workload.input_size, workload.hidden_size, workload.num_layers, workload.directions)
    return Shape(cell, *sizes, workload.batch, workload.steps, valid, workload.steps, vector=VECTOR_BYTES[rc.isa()])


def resident() -> int:
    """Bytes, exact; /proc/self/status may lag behind."""
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) << 10
    raise SystemExit("memory.py: /proc/self/smaps_rollup has no Rss; this needs Linux")


def measure_growth(calls: int, rows: int = 48, steps: int = 40, warm_up: int = 300) -> dict[str, int]:
    """Bytes by which the process grows over so many calls of drawn shapes: plain, recorded, streamed, all cells.

    The largest shapes come first, so that the arenas that are kept have their final sizes.
    """
    import recurra as rc

    rng = np.random.default_rng(0)
    layers = [rc.LSTM(8, 24, num_layers=2, bidirectional=True), rc.LSTM(8, 40), rc.GRU(8, 40, reset_after=False)]
    layers += [rc.GRU(8, 33), rc.RNN(8, 33), rc.MinGRU(8, 33), rc.MinLSTM(8, 33)]
    streams = [layer.stream(batch_size=4) for layer in layers[1:]]
    x = np.ones((rows, steps, 8), np.float32)
    dy = [np.ones((rows, steps, n), np.float32) for n in (48, 40, 40, 33, 33, 33, 33)]

    def call(k: int, n: int, t: int, lengths: Any) -> None:
        which, layer = k % len(layers), layers[k % len(layers)]
        part = x[:n, :t]
        if k // len(layers) % 3 == 0:
            layer(part, lengths=lengths)
        elif k // len(layers) % 3 == 1:
            layer.record(part, lengths=lengths).backward(dy[which][:n, :t])
        else:
            streams[k % len(streams)].process(x[:4, :t])
            streams[k % len(streams)].step(x[:4, 0])

    def draw(k: int) -> None:
        n, t = int(rng.integers(1, rows + 1)), int(rng.integers(1, steps + 1))
        call(k, n, t, rng.integers(1, t + 1, n) if k % 2 else None)

    for k in range(6 * len(layers)):
        call(k, rows, steps, None)
    for k in range(warm_up):
        draw(k)
    gc.collect()
    before = resident()
    for k in range(calls):
        draw(k)
    gc.collect()
    return {"before": before, "growth": resident() - before}


def measure_stream_growth(calls: int) -> dict[str, int]:
    """The same of one stream, step by step and in chunks."""
    import recurra as rc

    stream = rc.Sequential(rc.LSTM(8, 24, num_layers=2), rc.GRU(24, 17), rc.Linear(17, 3)).stream(batch_size=2)
    x, out = np.ones((2, 16, 8), np.float32), np.empty((2, 3), np.float32)

    def run(k: int) -> None:
        stream.step(x[:, k % 16], out=out)
        if k % 64 == 0:
            stream.process(x[:, : 1 + k // 64 % 16])

    for k in range(2000):
        run(k)
    gc.collect()
    before = resident()
    for k in range(calls):
        run(k)
    return {"before": before, "growth": resident() - before}


def in_process(*arguments: str) -> dict[str, Any]:
    """What this script's `--child` prints in a new process."""
    command = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"memory.py: {' '.join(arguments)} failed\n{done.stdout}{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(workload: Any, threads: int, input_grad: bool) -> dict[str, Any]:
    arguments = [workload.name, str(threads), str(int(input_grad))]
    ours, torch = (in_process(engine, *arguments) for engine in ENGINES)
    ratio = ours["peak"] / torch["peak"]
    return {"workload": asdict(workload), "name": workload.name, "recurra": ours, "torch": torch, "ratio": ratio}


def print_row(result: dict[str, Any]) -> None:
    ours, torch = result["recurra"], result["torch"]
    peaks = f"{ours['peak'] / 1e6:.1f} | {ours['formula'] / 1e6:.1f} | {torch['peak'] / 1e6:.1f} ({torch['label']})"
    mark = "" if result["workload"]["kind"] == "sequence" else "ok" if result["ratio"] <= TARGET else "**FAIL**"
    print(f"| {result['name']} | {peaks} | {result['ratio']:.2f} | {mark} |", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        engine, name, threads, input_grad = sys.argv[2:]
        print(json.dumps(measure_here(engine, name, int(threads), input_grad == "1")))
        return
    parser = argparse.ArgumentParser(description="Measure the peak memory of training and of forward calls.")
    parser.add_argument("--only", default="", help='workloads whose name contains this, such as "training gru"')
    parser.add_argument("--threads", type=int, default=1, help="CPUs (default: 1)")
    parser.add_argument("--input-grad", action="store_true", help="training computes the gradient of the input too")
    parser.add_argument("--growth", type=int, metavar="CALLS", help="instead: growth over CALLS calls of many shapes")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()

    from measure import pin
    from workloads import WORKLOADS

    pin(arguments.threads)
    results: Any
    if arguments.growth is not None:
        results = measure_growth(arguments.growth)
        print(f"{results['growth'] / 1e3:.0f} kB more after {arguments.growth} calls, {results['before'] / 1e6:.1f} MB")
    else:
        chosen = [w for w in WORKLOADS if w.kind in KINDS and arguments.only in w.name]
        if not chosen:
            raise SystemExit(f"memory.py: no workload's name contains {arguments.only!r}")
        print(f"| workload | recurra, MB | formula | torch, MB | ratio | at most {TARGET} |")
        print("|---|---:|---:|---:|---:|---|")
        results = []
        for workload in chosen:
            results.append(measure(workload, arguments.threads, arguments.input_grad))
            print_row(results[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
