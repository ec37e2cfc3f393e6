"""The project's Python files, read and parsed, and the rules that each file keeps by itself; `architecture.py` has those between files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

PACKAGES = ("iit_bench", "builders", "evaluators", "reports")
MAX_LINES = 400
READ = (*PACKAGES, "tests", "docs", "benchmarks", "findings")  # top-level folders whose Python files are read
SKIPPED = {"__pycache__", ".venv", "build", "demo"}
MIRRORED = ("builders", "evaluators", "reports")  # tests/X mirrors X; any other tests/X mirrors iit_bench/X
ACROSS = ("reliability",)  # folders of tests of several rooms together
FIXTURES = "data"  # tests/data holds fixtures, and may hold the tests of iit_bench/data
BROAD = {"Exception", "BaseException"}
QUOTING = ("one_line", "described", "shown", "split")  # `" ".join(str(error).split())` is what a script by itself has of one_line
LOOKING = ("search", "match", "startswith", "isinstance", "type")
OURS = ("UserError", "ItemError", "MachineError")
_REORDERING = frozenset({"update", "crop", "reorder_cache", "batch_select_indices", "batch_repeat_interleave"})
DOCUMENTED_ELSEWHERE: dict[str, frozenset[str]] = {  # methods that bases of other libraries document, by the base's name
    "LM": frozenset({"loglikelihood", "loglikelihood_rolling", "generate_until", "apply_chat_template", "chat_template"}),
    "ConfigurableTask": frozenset({"fewshot_context"}),
    "DynamicLayer": _REORDERING,
    "DynamicCache": _REORDERING,
    "ProcessorMixin": frozenset({"decode", "batch_decode"}),
    "GenerationMixin": frozenset({"prepare_inputs_for_generation"}),
    "Module": frozenset({"train", "extra_repr"}),  # not forward: its shapes are ours
}


# ---------------------------------------------------------------- reading


class Tree:
    """Python files under `root`, each read and parsed once."""

    def __init__(self, root: Path):
        self.root = root
        self._texts: dict[str, str] = {}
        self._parsed: dict[str, ast.Module] = {}

    @cached_property
    def files(self) -> list[str]:
        """Paths of all Python files, relative to the root, sorted."""
        paths = (path.relative_to(self.root) for top in READ for path in (self.root / top).rglob("*.py"))
        return sorted(path.as_posix() for path in paths if not SKIPPED & set(path.parts))

    def text(self, path: str) -> str:
        """The file's text."""
        if path not in self._texts:
            self._texts[path] = (self.root / path).read_text(encoding="utf-8")
        return self._texts[path]

    def syntax(self, path: str) -> ast.Module:
        """The parsed file."""
        if path not in self._parsed:
            self._parsed[path] = ast.parse(self.text(path), path)
        return self._parsed[path]

    @cached_property
    def modules(self) -> dict[str, str]:
        """Name of each module of the four packages → its path."""
        return {module_name(path): path for path in self.files if path.split("/")[0] in PACKAGES}


def module_name(path: str) -> str:
    """`a/b.py` → `a.b`; `a/__init__.py` → `a`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def called(node: ast.Call) -> str:
    """The last name of what is called: `f` of `a.f()`."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


# ---------------------------------------------------------------- rules


def targets(tree: Tree) -> list[str]:
    """A string such as "builders.sources.lab:load_facts", from which a registry imports, names a module that exists."""
    pattern = re.compile(rf"""(["'])(({"|".join(PACKAGES)})[.\w]*):\w+\1""")
    lines = ((path, number, line) for path in tree.modules.values() for number, line in enumerate(tree.text(path).splitlines(), 1))
    return [
        f"{path}:{number}: {match[0]} names no module"
        for path, number, line in lines
        for match in pattern.finditer(line)
        if match[2] not in tree.modules
    ]


def lengths(tree: Tree) -> list[str]:
    """No Python file is longer than MAX_LINES."""
    counted = ((path, len(tree.text(path).splitlines())) for path in tree.files)
    return [f"{path}: {lines} lines, at most {MAX_LINES}" for path, lines in counted if lines > MAX_LINES]


def broad_excepts(tree: Tree) -> list[str]:
    """A handler of everything raises, or uses the exception that it binds: passes it on, stores it or logs it."""
    wrong = []
    for path in (path for path in tree.files if "except" in tree.text(path) or "suppress" in tree.text(path)):
        for node in ast.walk(tree.syntax(path)):
            if isinstance(node, ast.ExceptHandler) and _broad([node.type]):
                inside = [part for statement in node.body for part in ast.walk(statement)]
                raises = any(isinstance(part, ast.Raise) for part in inside)
                records = any(isinstance(part, ast.Name) and part.id == node.name and isinstance(part.ctx, ast.Load) for part in inside)
                if not raises and not records:
                    wrong.append(f"{path}:{node.lineno}: a broad except that neither raises nor records the exception")
            elif isinstance(node, ast.Call) and called(node) == "suppress" and _broad(node.args):
                wrong.append(f"{path}:{node.lineno}: suppress() of everything")
    return wrong


def _broad(types: Iterable[ast.expr | None]) -> bool:
    """Whether these exception types, tuples opened, catch everything; None is a bare `except:`."""
    return any(
        kind is None or (_broad(kind.elts) if isinstance(kind, ast.Tuple) else ast.unparse(kind).rpartition(".")[2] in BROAD)
        for kind in types
    )


def docstrings(tree: Tree) -> list[str]:
    """Modules, public functions, public classes and their public methods have docstrings.

    Empty modules, properties and dunder methods need none, nor does a method that a base documents: a base of the project, or of another
    library as DOCUMENTED_ELSEWHERE lists them.
    """
    wrong = []
    for module, path in tree.modules.items():
        body = tree.syntax(path).body
        if body and ast.get_docstring(tree.syntax(path)) is None:
            wrong.append(f"{path}:1: module {module}")
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            if ast.get_docstring(node) is None and not _overload(node):
                wrong.append(f"{path}:{node.lineno}: {kind} {node.name}")
            if isinstance(node, ast.ClassDef):
                wrong += [f"{path}:{method.lineno}: method {node.name}.{method.name}" for method in _bare_methods(tree, module, node)]
    return wrong


def _bare_methods(tree: Tree, module: str, node: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Public methods of the class without a docstring, here or in a base."""
    for method in node.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and not method.name.startswith("_"):
            is_property = any(re.search(r"property$|\.setter$", ast.unparse(mark)) for mark in method.decorator_list)
            exempt = is_property or _overload(method) or ast.get_docstring(method) is not None
            if not exempt and not _documented(tree, module, node, method.name):
                yield method


def _overload(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return any(ast.unparse(mark).endswith("overload") for mark in node.decorator_list)


def _documented(tree: Tree, module: str, node: ast.ClassDef, method: str) -> bool:
    """Whether a base of the class documents the method."""
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        if method in DOCUMENTED_ELSEWHERE.get(name, ()):
            return True
        home, other = _class(tree, module, name)
        if other is None or other is node:
            continue
        own = [part for part in other.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name == method]
        if any(ast.get_docstring(part) for part in own) or _documented(tree, home, other, method):
            return True
    return False


def _class(tree: Tree, module: str, name: str) -> tuple[str, ast.ClassDef | None]:
    """The class that the module calls `name`: its own, or one that it imports from the project; and its module."""
    syntax = tree.syntax(tree.modules[module])
    for part in syntax.body:
        if isinstance(part, ast.ClassDef) and part.name == name:
            return module, part
    for part in ast.walk(syntax):
        if isinstance(part, ast.ImportFrom) and part.module in tree.modules and part.module != module:
            for alias in part.names:
                if (alias.asname or alias.name) == name:
                    return _class(tree, part.module, alias.name)
    return module, None


def mirror(tree: Tree) -> list[str]:
    """A folder of tests is named as the room that it tests."""
    folders = {Path(path).parent for path in tree.files}
    wrong = []
    for folder in sorted(folders):
        top, *parts = folder.parts
        if top == "tests" and parts and parts[0] not in (FIXTURES, *ACROSS):
            room = Path(*parts) if parts[0] in MIRRORED else Path("iit_bench", *parts)
            if not any(other == room or room in other.parents for other in folders):
                wrong.append(f"{folder.as_posix()}: there is no room {room.as_posix()}")
    return wrong


def raw_errors(tree: Tree) -> list[str]:
    """A message repeats another library's words through QUOTING only: on one line, and not without end.

    Caught are the text of an exception that a handler binds, `{error}`, `str(error)` or `repr(error)`, and an error of ours made of it,
    where the handler takes a class that is not the project's. Its text may be searched and compared.
    """
    own = {node.name for path in tree.modules.values() for node in ast.walk(tree.syntax(path)) if isinstance(node, ast.ClassDef)}
    wrong = []
    for path in (path for path in tree.modules.values() if "except" in tree.text(path)):
        for handler in (node for node in ast.walk(tree.syntax(path)) if isinstance(node, ast.ExceptHandler) and node.name):
            kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
            if all(kind is not None and ast.unparse(kind).rpartition(".")[2] in own for kind in kinds):
                continue
            for statement in handler.body:
                wrong += [f"{path}:{line}: repeats the words of a foreign exception raw" for line in _raw(statement, str(handler.name))]
    return wrong


def _raw(node: ast.AST, name: str) -> Iterator[int]:
    """Lines on which the text of the exception `name` is taken, other than to look at it or to quote it."""
    looked_at = isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and called(node) in (*QUOTING, *LOOKING))
    if isinstance(node, ast.Call):
        whole = called(node) in ("str", "repr", "format") or called(node) in OURS
        if whole and any(isinstance(part, ast.Name) and part.id == name for part in node.args):
            yield node.lineno
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name) and node.value.id == name:
        yield node.lineno
    for child in () if looked_at else ast.iter_child_nodes(node):
        yield from _raw(child, name)


FILE_RULES = (targets, lengths, broad_excepts, docstrings, mirror, raw_errors)
