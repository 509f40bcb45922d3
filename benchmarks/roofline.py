"""The least time a workload can take on this machine: by its multiply-adds and by the weights that must be read.

What is left out (activation functions, tapes, activations in memory) makes the true least time longer, so no engine
can reach all of this limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recurra import _core
from workloads import GATES, Workload


@dataclass(frozen=True)
class Machine:
    """What one core can do, measured, and the sizes of its caches."""

    fma_gflops: float
    l2_gbs: float
    l3_gbs: float
    dram_gbs: float
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int

    def read_seconds(self, size: float, times: int = 1) -> float:
        """To read `size` bytes `times` times, from the nearest memory that can hold them. Level 1 counts as free."""
        if size <= self.l1_bytes:
            return 0.0
        rate = self.l2_gbs if size <= self.l2_bytes else self.l3_gbs if size <= self.l3_bytes else self.dram_gbs
        return times * size / (rate * 1e9)


def measure_machine() -> Machine:
    rates = {name: float(rate) for name, rate in _core.measure_peak().items()}
    return Machine(**rates, l1_bytes=_cache_bytes(1), l2_bytes=_cache_bytes(2), l3_bytes=_cache_bytes(3))


def _cache_bytes(level: int) -> int:
    """Of CPU 0, as the kernel states it; 0 where there is none or it is not stated."""
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if int((folder / "level").read_text()) == level and (folder / "type").read_text().strip() != "Instruction":
            text = (folder / "size").read_text().strip()
            return int(text.rstrip("KMG")) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1], 1)
    return 0


def limit_seconds(workload: Workload, machine: Machine, threads: int, input_grad: bool) -> float:
    """Layers and directions run one after the other; in each, arithmetic and reading overlap perfectly.

    Rows are shared out among the threads, each of which reads all the weights; a single row's units are shared out
    instead, and the weights with them. A step reads the weights of the whole model. A sequence reads those of one
    layer's recurrence at every step, so they may stay in a nearer cache; the input's are read once, and not counted.
    """
    gates, hidden = GATES[workload.cell], workload.hidden_size
    readers = threads if workload.batch == 1 else 1
    passes = 2 if workload.trains else 1
    arithmetic = threads * machine.fma_gflops * 1e9
    recurrent = 4 * gates * hidden * hidden
    by_layer = workload.flops_by_layer(input_grad)
    if workload.kind == "step":
        weights = sum(recurrent + 4 * gates * hidden * features for features in workload.layer_input_sizes)
        return max(sum(by_layer) / arithmetic, machine.read_seconds(weights / readers))
    read = machine.read_seconds(recurrent / readers, passes * workload.steps)
    return workload.directions * sum(max(flops / arithmetic, read) for flops in by_layer)
