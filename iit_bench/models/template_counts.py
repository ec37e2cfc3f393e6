"""Where counts go in the tree of a chat template; what is counted, and how, is in `template_meter.py`."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator
from jinja2.visitor import NodeTransformer

STEP, ENTERED, MADE, CALLED = "count nodes", "count rounds", "measure value", "watch call"  # names of filters that no template can write
# Filters and methods whose results are no longer than what they are given, and which take no longer than to read that once.
PLAIN_FILTERS = frozenset({"trim", "length", "count", "default", "d", "first", "last", "upper", "lower", "title", "capitalize"})
PLAIN_METHODS = frozenset(
    {
        "strip",
        "lstrip",
        "rstrip",
        "split",
        "rsplit",
        "splitlines",
        "partition",
        "rpartition",
        "startswith",
        "endswith",
        "removeprefix",
        "removesuffix",
        "lower",
        "upper",
        "title",
        "capitalize",
        "find",
        "rfind",
        "index",
        "rindex",
        "count",
        "get",
        "items",
        "keys",
        "values",
        "isdigit",
        "isalpha",
        "isspace",
        "isupper",
        "islower",
        "isalnum",
        "isnumeric",
    }
)
OPERATORS = frozenset({"*", "**", "%", "//"})
PLAIN_FUNCTIONS = frozenset({"raise_exception", "strftime_now"})


def _filter(node: nodes.Expr | None, name: str, line: int, *args: int) -> nodes.Filter:
    given = [nodes.Const(number) for number in args]
    made = nodes.Filter(node, name, given, [], None, None)
    made.set_lineno(line)
    return made


def _grows(node: nodes.Node | None) -> bool:
    """Whether the value of an expression may be longer than what it is made of, and nothing has measured it."""
    if isinstance(node, (nodes.Add, nodes.Sub)):
        sides = (node.left, node.right)
        return not any(isinstance(side, nodes.Const) and isinstance(side.value, (int, float)) for side in sides)
    if isinstance(node, (nodes.Compare, nodes.Test, nodes.Not)) or node is None:
        return False
    if isinstance(node, (nodes.Concat, nodes.Mul, nodes.Mod, nodes.Pow)):
        return True
    if isinstance(node, (nodes.List, nodes.Tuple, nodes.Dict)):
        return any(not isinstance(part, nodes.Const) for part in node.iter_child_nodes())
    if isinstance(node, nodes.Filter) and node.name not in PLAIN_FILTERS:
        return False  # its result is measured
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Filter) and node.node.name == CALLED:
        return False
    return any(map(_grows, node.iter_child_nodes()))


def _size(*trees: nodes.Node | None) -> int:
    return sum(1 + _size(*tree.iter_child_nodes()) for tree in trees if tree is not None)


class _Counting(NodeTransformer):
    """Puts counts into a template's tree."""

    def __init__(self) -> None:
        self.buffers = 0  # how many parts are around that keep what is written

    def _kept(self, node: Any) -> Any:
        return _filter(node, MADE, node.lineno) if _grows(node) else node

    def _buffered(self, node: Any) -> Any:
        self.buffers += 1
        self.generic_visit(node)
        self.buffers -= 1
        return node

    def _body(self, node: Any, size: int) -> Any:
        node.body.insert(0, nodes.ExprStmt(_filter(nodes.Const(size), STEP, node.lineno)).set_lineno(node.lineno))
        return node

    def visit_For(self, node: Any) -> Any:
        size = 1 + _size(*node.body, node.test)
        self.generic_visit(node)
        node.iter = _filter(self._kept(node.iter), ENTERED, node.lineno, size)
        return self._body(node, size) if node.recursive else node

    def visit_Macro(self, node: Any) -> Any:
        size = 1 + _size(*node.body)
        return self._body(self._buffered(node), size)

    visit_CallBlock = visit_Block = visit_Macro

    def visit_FilterBlock(self, node: Any) -> Any:
        return self._buffered(node)

    def visit_AssignBlock(self, node: Any) -> Any:
        self._buffered(node)
        node.filter = _filter(node.filter, MADE, node.lineno)
        return node

    def visit_Assign(self, node: Any) -> Any:
        self.generic_visit(node)
        node.node = self._kept(node.node)
        return node

    def visit_With(self, node: Any) -> Any:
        self.generic_visit(node)
        node.values = [self._kept(value) for value in node.values]
        return node

    def visit_Output(self, node: Any) -> Any:
        self.generic_visit(node)
        if self.buffers:
            node.nodes = [self._kept(part) for part in node.nodes]
        return node

    def visit_Call(self, node: Any) -> Any:
        self.generic_visit(node)
        function = node.node
        plain = isinstance(function, nodes.Getattr) and function.attr in PLAIN_METHODS
        plain = plain or (isinstance(function, nodes.Name) and function.name in PLAIN_FUNCTIONS)
        if not plain and not isinstance(function, nodes.ExtensionAttribute):
            node.node = _filter(function, CALLED, node.lineno)
        return node


class CountingCode(CodeGenerator):
    """The code of a template with counts in it."""

    def visit_Template(self, node: nodes.Template, frame: Any = None) -> None:
        """Write the code of the template's tree, with the counts in it."""
        super().visit_Template(_Counting().visit(node), frame)
