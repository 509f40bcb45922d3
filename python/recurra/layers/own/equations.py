"""From the text of a cell's equations to expressions: which names are parameters and states, which products it has."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from recurra.layers.own.expressions import Expressions

#: What a cell may have at most; the numbers are those of kernels/cells/scan_call.h.
MOST_COLUMNS, MOST_VECTORS = 4, 12
_MOST_CHARACTERS, _MOST_NODES = 10_000, 1_000


class Column(NamedTuple):
    """A sum that products of matrices make: W @ x + U @ h + b, of which parts may be missing."""

    input_matrix: str | None
    hidden_matrix: str | None
    bias: str | None


class _Product(NamedTuple):
    """A sum of products that has not been used yet; more may be added to it."""

    input_matrix: str | None
    hidden_matrix: str | None
    bias: str | None
    where: ast.expr


class Equations:
    """A cell's equations, read and checked.

    Attributes: text, one equation a line; tree, its syntax tree; graph, the expressions; columns, in the order of the
    core: those of x alone, of both, of h alone; vectors, the parameters of one number a unit, biases aside; state, the
    name of the second state, or None; h and c, the nodes of the new states; reads_input, whether x is used elementwise.
    """

    def __init__(self, operation: str, text: str) -> None:
        self._operation = operation
        self.text = "\n".join(line for line in (line.strip() for line in text.splitlines()) if line)
        self.graph = Expressions()
        self.columns: list[Column] = []
        self.vectors: list[str] = []
        self.reads_input = False
        self.state: str | None = None
        self._check_text()
        self.tree = self._parse()
        names = [node for node in ast.walk(self.tree) if isinstance(node, ast.Name)]
        self._names = Counter(node.id for node in names if isinstance(node.ctx, ast.Load))
        self._assigned = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        self._matrices: dict[str, str] = {}
        self._values: dict[str, int | _Product] = {}
        try:
            for line in self.tree.body:
                self._assign(line)
        except RecursionError:
            self._fail_whole("equations that are nested too deeply", "shorter ones", "use names for parts of them")
        self._finish()

    # Errors

    def _fail(self, node: ast.expr | ast.stmt, got: str, expected: str, mend: str) -> NoReturn:
        self._fail_at(node.lineno, node.col_offset, got, expected, mend)

    def _fail_at(self, line: int, column: int, got: str, expected: str, mend: str) -> NoReturn:
        lines = self.text.splitlines() or [""]
        shown = lines[min(line, len(lines)) - 1]
        raise ValueError(f"{self._operation}: got {got}, expected {expected}; {mend}\n    {shown}\n    {' ' * column}^")

    def _fail_whole(self, got: str, expected: str, mend: str) -> NoReturn:
        raise ValueError(f"{self._operation}: got {got}, expected {expected}; {mend}")

    # Text

    def _check_text(self) -> None:
        if not self.text:
            self._fail_whole("no equations", "those of a step", 'write them as "h = tanh(W @ x + U @ h + b)"')
        if len(self.text) > _MOST_CHARACTERS:
            self._fail_whole(
                f"equations of {len(self.text)} characters", f"at most {_MOST_CHARACTERS}", "write a shorter cell"
            )
        for number, line in enumerate(self.text.splitlines(), 1):
            for column, letter in enumerate(line):
                if not " " <= letter <= "~":
                    self._fail_at(number, column, f"the character {letter!r}", "ASCII", "spell it out, as in sigmoid")

    def _parse(self) -> ast.Module:
        try:
            tree = ast.parse(self.text)
        except SyntaxError as error:
            self._fail_at(
                error.lineno or 1, max((error.offset or 1) - 1, 0), error.msg, "equations", "write name = ..."
            )
        except (RecursionError, MemoryError, ValueError):
            self._fail_whole("equations that Python cannot read", "shorter ones", "use names for parts of them")
        if sum(1 for _node in ast.walk(tree)) > _MOST_NODES:
            self._fail_whole("too many operations", f"at most some {_MOST_NODES // 3}", "write a shorter cell")
        return tree

    # Equations

    def _assign(self, line: ast.stmt) -> None:
        if not isinstance(line, ast.Assign) or len(line.targets) != 1 or not isinstance(line.targets[0], ast.Name):
            self._fail(line, "a line that is no equation", "name = expression", "write h = ...")
        target = line.targets[0]
        if target.id == "x" or target.id in _CALLS:
            self._fail(target, f"an equation for {target.id}", "one for a name of yours", "choose another name")
        value = self._evaluate(line.value)
        if isinstance(value, _Product) and (self._names[target.id] != 1 or target.id in ("h", self.state)):
            value = self._column(value)
        self._values[target.id] = value

    def _finish(self) -> None:
        if "h" not in self._values:
            self._fail_whole("no equation for h, the output", "h = ...", "add it")
        self.h, self.c = self._node_of("h"), None if self.state is None else self._node_of(self.state)
        if not any(column.input_matrix for column in self.columns):
            self._fail_whole("no product with x", "at least one, as in W @ x", "add it")
        order = {old: new for new, old in enumerate(self._sorted_columns())}
        self.graph.number_columns(order)
        self.columns = [self.columns[i] for i in order]
        inputs = sum(1 for column in self.columns if column.input_matrix)
        hidden = sum(1 for column in self.columns if column.hidden_matrix)
        if inputs == MOST_COLUMNS and 0 < hidden < MOST_COLUMNS:
            self._fail_whole(
                f"four products with x and {hidden} with h",
                "four of both, or three sums with x at most where not each has a product with h",
                "add the products that are missing, or leave one out",
            )

    def _node_of(self, name: str) -> int:
        value = self._values[name]
        return self._column(value) if isinstance(value, _Product) else value

    def _sorted_columns(self) -> list[int]:
        def part(i: int) -> int:
            column = self.columns[i]
            return 0 if column.hidden_matrix is None else 1 if column.input_matrix is not None else 2

        return sorted(range(len(self.columns)), key=part)

    def _column(self, product: _Product) -> int:
        """The node of a sum of products: from here on nothing is added to it before it is used."""
        if len(self.columns) == MOST_COLUMNS:
            self._fail(
                product.where,
                f"more than {MOST_COLUMNS} sums of products",
                f"at most {MOST_COLUMNS}, where W @ x + U @ h + b is one",
                "add products before a function is applied, or split the cell",
            )
        self.columns.append(Column(product.input_matrix, product.hidden_matrix, product.bias))
        return self.graph.leaf("column", len(self.columns) - 1)

    # Expressions

    def _evaluate(self, node: ast.expr) -> int | _Product:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            return self._sum(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            return self._product(node)
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return self._constant(node, node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self._node(node.operand)
            return self.graph.neg(value) if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
            make = self.graph.mul if isinstance(node.op, ast.Mult) else self.graph.div
            return make(self._node(node.left), self._node(node.right))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            return self._power(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        return self._fail(
            node, "something else than arithmetic", "names, numbers, + - * / @ ** and functions", "write it with these"
        )

    def _node(self, node: ast.expr) -> int:
        value = self._evaluate(node)
        return self._column(value) if isinstance(value, _Product) else value

    def _constant(self, node: ast.expr, value: float) -> int:
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if abs(number) > 1e30:
            self._fail(node, "a number beyond 1e30", "one that float32 holds", "make it smaller")
        return self.graph.const(number)

    def _terms(self, node: ast.expr, sign: int) -> list[tuple[int, ast.expr]]:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            right = sign if isinstance(node.op, ast.Add) else -sign
            return self._terms(node.left, sign) + self._terms(node.right, right)
        return [(sign, node)]

    def _is_parameter(self, name: str) -> bool:
        return name not in self._assigned and name not in ("x", "h") and name not in _CALLS

    def _sum(self, node: ast.expr) -> int | _Product:
        """The products of a sum make one column, with the sum's bias: a parameter that stands nowhere else."""
        product: _Product | None = None
        others: list[tuple[int, int]] = []
        biases: list[ast.Name] = []
        for sign, term in self._terms(node, 1):
            if sign > 0 and isinstance(term, ast.Name) and self._is_parameter(term.id) and self._names[term.id] == 1:
                biases.append(term)
                continue
            value = self._evaluate(term)
            if isinstance(value, _Product):
                joined = _joined(product, value) if sign > 0 else None
                if joined is not None:
                    product = joined
                    continue
                value = self._column(value)
            others.append((sign, value))
        for name in biases:
            self._vector(name, name.id, check_only=True)
            if product is not None and product.input_matrix is not None and product.bias is None:
                product = product._replace(bias=name.id)
                self._matrices[name.id] = "vector"
            else:
                others.append((1, self._vector(name, name.id)))
        if product is not None and not others:
            return product
        if product is not None:
            others.insert(0, (1, self._column(product)))
        positive = [value for sign, value in others if sign > 0]
        total = positive[0] if positive else self.graph.const(0.0)
        for value in positive[1:]:
            total = self.graph.add(total, value)
        for sign, value in others:
            if sign < 0:
                total = self.graph.sub(total, value)
        return total

    def _product(self, node: ast.BinOp) -> _Product:
        left, right = node.left, node.right
        if not isinstance(left, ast.Name) or not self._is_parameter(left.id):
            self._fail(left, "this before @", "the name of a matrix, a parameter", "write W @ x or U @ h")
        if not isinstance(right, ast.Name) or right.id not in ("x", "h"):
            self._fail(
                right,
                "this after @",
                "x or h, as a matrix multiplies the input or the output of the step before",
                "multiply elementwise afterwards, as in r * (U @ h); rc.GRU(reset_after=False) has U @ (r * h)",
            )
        if right.id == "h" and "h" in self._values:
            self._fail(right, "the new h after @", "that of the step before", "move the line above the one for h")
        if self._matrices.get(left.id) is not None:
            self._fail(left, f"the parameter {left.id} again", "a matrix in one product", "give the product a name")
        self._matrices[left.id] = "matrix"
        if right.id == "x":
            return _Product(left.id, None, None, node)
        return _Product(None, left.id, None, node)

    def _name(self, node: ast.Name) -> int | _Product:
        name = node.id
        if name in self._values:
            return self._values[name]
        if name == "x":
            self.reads_input = True
            return self.graph.leaf("x")
        if name == "h":
            return self.graph.leaf("h")
        if name in self._assigned:  # read before it has a new value: that of the step before
            if self.state not in (None, name):
                self._fail(
                    node,
                    f"{name} before its equation, a third state beside h and {self.state}",
                    "one state beside h at most",
                    f"move the line below the one for {name}, or do without it",
                )
            self.state = name
            return self.graph.leaf("c")
        if name in _CALLS:
            self._fail(node, f"the function {name} without an argument", f"{name}(...)", "write the argument")
        return self._vector(node, name)

    def _vector(self, node: ast.expr, name: str, check_only: bool = False) -> int:
        if self._matrices.get(name) == "matrix":
            self._fail(node, f"the matrix {name} without @", "W @ x or U @ h", "use another name for the vector")
        if check_only:
            return -1
        if name not in self.vectors:
            if len(self.vectors) == MOST_VECTORS:
                self._fail(node, f"more than {MOST_VECTORS} vectors", "fewer", "leave some out")
            self.vectors.append(name)
            self._matrices[name] = "vector"
        return self.graph.leaf("vector", self.vectors.index(name))

    def _power(self, node: ast.BinOp) -> int:
        power = node.right
        if not isinstance(power, ast.Constant) or power.value not in (2, 3, 4) or type(power.value) is not int:
            self._fail(power, "this power", "2, 3 or 4", "write it as products, or by exp and sqrt")
        base = self._node(node.left)
        result = square = self.graph.mul(base, base)
        if power.value == 3:
            result = self.graph.mul(square, base)
        return self.graph.mul(square, square) if power.value == 4 else result

    def _call(self, node: ast.Call) -> int:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in _CALLS or node.keywords:
            self._fail(
                node, f"a call of {ast.unparse(node.func)}", "one of " + ", ".join(_CALLS), "write it with these"
            )
        count, make = _CALLS[name]
        if len(node.args) != count:
            self._fail(node, f"{len(node.args)} arguments for {name}", f"{count}", "give as many")
        if name == "where":
            return self._where(node)
        return make(self.graph, *[self._node(argument) for argument in node.args])

    def _where(self, node: ast.Call) -> int:
        test = node.args[0]
        if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Lt | ast.Gt):
            self._fail(test, "this condition", "a < b or a > b", "write one of them")
        a, b = self._node(test.left), self._node(test.comparators[0])
        if isinstance(test.ops[0], ast.Gt):
            a, b = b, a
        return self.graph.select(a, b, self._node(node.args[1]), self._node(node.args[2]))


def _joined(one: _Product | None, other: _Product) -> _Product | None:
    """The sum of both, if no part of it is there twice."""
    if one is None:
        return other
    pairs = list(zip(one[:3], other[:3], strict=True))
    if any(a is not None and b is not None for a, b in pairs):
        return None
    matrix, hidden, bias = (a if a is not None else b for a, b in pairs)
    return _Product(matrix, hidden, bias, one.where)


def _function(name: str) -> Callable[..., int]:
    return lambda graph, a: graph.call(name, a)


def _clip(graph: Expressions, a: int, low: int, high: int) -> int:
    return graph.call("min", graph.call("max", a, low), high)


def _hard_sigmoid(graph: Expressions, a: int) -> int:
    line = graph.add(graph.mul(a, graph.const(1.0 / 6.0)), graph.const(0.5))
    return _clip(graph, line, graph.const(0.0), graph.const(1.0))


#: Functions by name: how many arguments they take, and the node that they make.
_CALLS: dict[str, tuple[int, Callable[..., int]]] = {
    "tanh": (1, _function("tanh")),
    "sigmoid": (1, _function("sigmoid")),
    "relu": (1, _function("relu")),
    "exp": (1, _function("exp")),
    "sqrt": (1, _function("sqrt")),
    "softsign": (1, _function("softsign")),
    "hard_sigmoid": (1, _hard_sigmoid),
    "silu": (1, lambda graph, a: graph.mul(a, graph.call("sigmoid", a))),
    "abs": (1, lambda graph, a: graph.call("max", graph.neg(a), a)),
    "minimum": (2, lambda graph, a, b: graph.call("min", a, b)),
    "maximum": (2, lambda graph, a, b: graph.call("max", a, b)),
    "clip": (3, _clip),
    "where": (3, lambda graph, a, b, c: -1),
}
