"""A cell's C++ file: the two functions of its equations and of their derivative, over the kernels' own vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from recurra.layers.own.equations import Equations
from recurra.layers.own.expressions import LEAVES, Expressions

MOST_SAVED = 12
#: What costs more to compute again than to keep for backward.
_KEPT = frozenset(["column", "div", "tanh", "sigmoid", "exp", "sqrt", "softsign"])

_FILE = """\
#include "kernels/cells/scan_cell.h"

namespace recurra::RECURRA_ISA {{
namespace {{

struct Info {{
  int groups, saved, vectors;
  bool has_cell, reads_input;
}};
struct Cell {{
  static constexpr Info kInfo = {{{groups}, {saved}, {vectors}, {has_cell}, {reads_input}}};

  template <class V>
  RECURRA_INLINE static void forward(ScanUnit<V>& u) {{
{forward}
  }}

  template <class V>
  RECURRA_INLINE static void backward(ScanGradient<V>& d) {{
{backward}
  }}
}};

}}  // namespace
}}  // namespace recurra::RECURRA_ISA

extern "C" {{
using namespace recurra;
__attribute__((visibility("default"))) extern const ScanCell<float> cell_f32;
__attribute__((visibility("default"))) extern const ScanCell<double> cell_f64;
const ScanCell<float> cell_f32 = RECURRA_ISA::kScanCell<RECURRA_ISA::Cell, float>;
const ScanCell<double> cell_f64 = RECURRA_ISA::kScanCell<RECURRA_ISA::Cell, double>;
}}
"""


class Source(NamedTuple):
    """A cell's file, and how many values a unit and step saves for backward."""

    text: str
    saved: int


def source_of(operation: str, equations: Equations) -> Source:
    """The file of a cell."""
    graph = equations.graph
    count = len(graph.nodes)  # nodes from here on are those of the derivative
    new_states = [equations.h] + ([] if equations.c is None else [equations.c])
    seeds = [(equations.h, graph.leaf("dh"))]
    if equations.c is not None:
        seeds.append((equations.c, graph.leaf("dc")))
    found = graph.gradients(seeds)
    zero = graph.const(0.0)

    def gradient_of(kind: str, *what: int) -> int:
        return found.get(graph.leaf(kind, *what), zero)

    results = {f"d.pre[{i}]": gradient_of("column", i) for i in range(len(equations.columns))}
    results |= {f"d.dvector[{i}]": gradient_of("vector", i) for i in range(len(equations.vectors))}
    results["d.carry"] = gradient_of("h")
    if equations.reads_input:
        results["d.dx"] = gradient_of("x")
    if equations.c is not None:
        results["d.dc"] = gradient_of("c")

    saved = _saved(graph, results.values(), count, equations.c)
    if len(saved) > MOST_SAVED:
        raise ValueError(
            f"{operation}: got equations whose derivative reads {len(saved)} values of each step, expected at most "
            f"{MOST_SAVED}; use fewer functions and divisions"
        )
    before = _leaves(graph, "u", {"h": "u.h", "c": "u.c"})
    forward = _statements(graph, [*new_states, *saved], before)
    at = _places(graph, forward.names)
    names = [f"u.saved[{k}]" for k in range(len(saved))] + ["u.h", "u.c"]
    ends = _ends(names, [at[node] for node in [*saved, *new_states]])

    after = _leaves(graph, "d", {"h": "d.h_previous", "c": "d.c_previous", "dh": "d.dh", "dc": "d.dc"})
    if equations.c is not None and graph.nodes[equations.c].kind not in LEAVES:
        after[equations.c] = "d.c"
    after |= {node: f"d.saved[{k}]" for k, node in enumerate(saved)}
    backward = _statements(graph, results.values(), after)
    of = _places(graph, backward.names)
    back = _ends(list(results), [of[node] for node in results.values()])

    text = _FILE.format(
        groups=len(equations.columns),
        saved=len(saved),
        vectors=len(equations.vectors),
        has_cell=_word(equations.c is not None),
        reads_input=_word(equations.reads_input),
        forward="\n".join("    " + line for line in [*forward.lines, *ends]),
        backward="\n".join("    " + line for line in [*backward.lines, *back]),
    )
    return Source(text, len(saved))


def _ends(names: list[str], values: list[str]) -> list[str]:
    """Writes the results once all are known, as some take the places of what is read."""
    lines = [f"const V end{k} = {value};" for k, value in enumerate(values)]
    return lines + [f"{name} = end{k};" for k, name in enumerate(names[: len(values)])]


def _word(flag: bool) -> str:
    return "true" if flag else "false"


def _leaves(graph: Expressions, struct: str, states: dict[str, str]) -> dict[int, str]:
    names = dict(states)
    places = {}
    for i, node in enumerate(graph.nodes):
        if node.kind == "column" and struct == "u":
            places[i] = f"u.pre[{node.args[0]}]"
        elif node.kind == "vector":
            places[i] = f"{struct}.vector[{node.args[0]}]"
        elif node.kind == "x":
            places[i] = f"{struct}.x"
        elif node.kind in names:
            places[i] = names[node.kind]
    return places


def _saved(graph: Expressions, wanted: Iterable[int], count: int, new_c: int | None) -> list[int]:
    """The nodes of the forward (those below `count`) that backward reads and does not compute again."""
    saved: dict[int, None] = {}
    seen: set[int] = set()
    open_nodes = list(wanted)
    while open_nodes:
        i = open_nodes.pop()
        node = graph.nodes[i]
        if i in seen or (i == new_c and node.kind not in LEAVES):
            continue
        seen.add(i)
        if i < count and node.kind in _KEPT:
            saved[i] = None
        elif node.kind not in LEAVES:
            open_nodes += node.args
    return sorted(saved)


class _Statements(NamedTuple):
    lines: list[str]
    names: dict[int, str]


def _places(graph: Expressions, names: dict[int, str]) -> dict[int, str]:
    constants = {i: _constant(n.args[0]) for i, n in enumerate(graph.nodes) if n.kind == "const"}
    return {**constants, **names}


def _constant(value: float) -> str:
    return f"constant<V>({value!r})"


def _statements(graph: Expressions, wanted: Iterable[int], known: dict[int, str]) -> _Statements:
    """Lines that compute the wanted nodes from the known ones, and the names of all."""
    needed: set[int] = set()
    open_nodes = list(wanted)
    uses: Counter[int] = Counter(open_nodes)
    while open_nodes:
        i = open_nodes.pop()
        if i in needed or i in known or graph.nodes[i].kind in LEAVES:
            continue
        needed.add(i)
        uses.update(graph.nodes[i].args)
        open_nodes += graph.nodes[i].args
    # A product that is used once, by a sum, is part of its fma.
    fused: dict[int, int] = {}
    for i in needed:
        kind, args = graph.nodes[i]
        if kind in ("add", "sub"):
            for one in args:
                if one in needed and graph.nodes[one].kind == "mul" and uses[one] == 1 and i not in fused:
                    fused[i] = one
    inside = set(fused.values())
    names = _places(graph, known)
    lines = []
    for i in sorted(needed - inside):
        lines.append(f"const V t{i} = {_expression(graph, i, fused.get(i), names)};")
        names[i] = f"t{i}"
    return _Statements(lines, names)


def _expression(graph: Expressions, i: int, product: int | None, names: dict[int, str]) -> str:
    kind, args = graph.nodes[i]
    if product is not None:
        a, b = (names[one] for one in graph.nodes[product].args)
        if kind == "add":
            return f"fma({a}, {b}, {names[args[0] if args[1] == product else args[1]]})"
        return f"fma({a}, {b}, -{names[args[1]]})" if args[0] == product else f"fma(-{a}, {b}, {names[args[0]]})"
    values = [names[one] for one in args]
    if kind in _OPERATORS:
        return f"{values[0]} {_OPERATORS[kind]} {values[1]}"
    if kind == "neg":
        return f"-{values[0]}"
    if kind == "select":
        return f"{values[0]} < {values[1]} ? {values[2]} : {values[3]}"
    if kind in ("relu", "softsign"):
        return f"{kind.capitalize()}::value({values[0]})"
    return f"{kind}({', '.join(values)})"


_OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
