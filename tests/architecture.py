"""Rules of the house, checked by reading the source: `python tests/architecture.py [ROOT]` lists what breaks them.

Pure standard library; nothing of the project is imported. Each rule is a function from a `Tree` to a list of violations, one line of text
each. `test_architecture.py` asserts that the lists are empty, and that each rule catches a small package that breaks it.

Every import counts, in functions and under TYPE_CHECKING too. `import a.b`, and `from a import b` with a submodule `b`, are imports of
`a.b`, not of the package `a`; `from a import name` of anything else is an import of `a/__init__.py`.
"""

from __future__ import annotations

import ast
import runpy
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = runpy.run_path(str(Path(__file__).with_name("architecture_files.py")))
Tree, called, PACKAGES = SOURCE["Tree"], SOURCE["called"], SOURCE["PACKAGES"]

# ---------------------------------------------------------------- the table: who may import whom

FACE = "iit_bench"  # iit_bench/__init__.py: the lazy face. It belongs to the roof, and no module imports a name from it.

# Floors, lowest first. A name covers a module and all that is below it in the folder tree; FACE covers itself only.
WORDS = ("iit_bench.errors", "iit_bench.types", "iit_bench.server_options", "iit_bench.version")
SHARED = (
    "iit_bench.images",
    "iit_bench.asking",
    "iit_bench.progress",
    "iit_bench.registry",
    "iit_bench.http",
    "iit_bench.ranks",
    "iit_bench.storage",
)
SHARED += ("iit_bench.token_trees", "iit_bench.shared_beginnings", "iit_bench.visible", "iit_bench.terminal", "iit_bench.numerals")
MATERIAL = ("iit_bench.data", "iit_bench.tools")
ANSWERS = ("iit_bench.models", "iit_bench.engine")
WORK = ("builders", "evaluators", "iit_bench.training")
ROOF = ("iit_bench.cli", "iit_bench.workflows", "iit_bench.lab")
CELLS = ("iit_bench.lab.cells",)  # what the experiment wrote: read by all that report it
GROUND = (*WORDS, *SHARED, *MATERIAL)
READ_BY_REPORTS = ("evaluators.statistics", "evaluators.compare", "evaluators.runs")
READ_BY_REPORTS += ("evaluators.iit.columns", "evaluators.iit.results", "evaluators.iit.forgetting", "evaluators.iit.comparison")
READ_BY_REPORTS += ("evaluators.iit.probabilities",)
READ_BY_REPORTS += ("evaluators.iit.ledger", "evaluators.show.task_words")
READ_BY_REPORTS += ("evaluators.attention.table", "evaluators.attention.shift")
READ_BY_REPORTS += ("evaluators.lab",)
READ_BY_REPORTS += ("evaluators.arms.names", "evaluators.arms.figures", "evaluators.arms.needs", "evaluators.arms.shown")

# Room → (what it holds, what it may import). A module's room is the one with the longest matching name.
ROOMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "words": (WORDS, WORDS),
    "shared": (SHARED, (*WORDS, *SHARED)),
    "material": (MATERIAL, GROUND),
    "models": (("iit_bench.models",), (*GROUND, "iit_bench.models")),
    "engine": (("iit_bench.engine",), (*GROUND, "iit_bench.engine")),
    "training": (("iit_bench.training",), (*GROUND, *ANSWERS, "iit_bench.training")),
    "builders": (("builders",), (*GROUND, *ANSWERS, "builders")),
    "evaluators": (("evaluators",), (*GROUND, *ANSWERS, "evaluators", *CELLS)),
    "cells": (CELLS, (*GROUND, *CELLS)),
    "reports": (("reports",), (*GROUND, "reports", *READ_BY_REPORTS, *CELLS)),
    "roof": ((FACE, *ROOF), (*GROUND, *ANSWERS, *WORK, "reports", *ROOF)),
    "assets": (("iit_bench.assets",), ()),  # scripts that made the data beside them, run by hand
}

# Doors between rooms that otherwise do not import each other: (from, to) → why.
DOORS: dict[tuple[str, str], str] = {
    ("iit_bench.engine", "iit_bench.models.contract"): "the engine asks any model, and knows only what every model offers",
    ("builders.export", "evaluators.iit.extraction"): "is copied into each export, so that other tools extract letters by the same rule",
    ("evaluators.fetch", "builders.presets"): "fetches what the preset reads",
}

# Third-party packages that no file of a room imports (BARRED), and that importing a package does not load, even through others (INSTANT).
BARRED: dict[str, frozenset[str]] = {"reports": frozenset({"torch", "transformers"})}
HEAVY = frozenset({"torch", "transformers", "tokenizers", "safetensors", "datasets", "huggingface_hub", "lm_eval", "vlmeval", "vllm"})
HEAVY |= {
    "vllm",
    "numpy",
    "scipy",
    "sklearn",
    "pandas",
    "pyarrow",
    "matplotlib",
    "PIL",
    "jinja2",
    "requests",
    "httpx2",
    "openai",
    "easy_vqa",
}
INSTANT: dict[str, frozenset[str]] = {"iit_bench.cli": HEAVY, FACE: HEAVY, "reports": BARRED["reports"]}
INSTANT["iit_bench.training.chats.tallies"] = frozenset({"torch", "transformers"})  # is imported by up to eight processes

# ---------------------------------------------------------------- reading imports


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import statement's target: a project module, or a third-party package's first name."""

    source: str
    target: str
    place: str  # path:line
    eager: bool  # runs when the source is imported: outside functions, not typing-only


@cache
def imports(tree: Tree) -> list[Import]:
    """Every import that a module of the four packages makes."""
    return [edge for module in tree.modules for edge in imports_of(tree, module)]


def imports_of(tree: Tree, module: str) -> Iterator[Import]:
    """The imports of one module, including `import_module("literal")`."""
    path = tree.modules[module]
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    by_name = "import_module" in tree.text(path) or "__import__" in tree.text(path)
    for node, eager in statements(tree.syntax(path), by_name):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            inside = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in tree.modules else base for name in inside]
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__") and node.args:
            named = node.args[0]
            names = [named.value] if isinstance(named, ast.Constant) and isinstance(named.value, str) else []
        for name in dict.fromkeys(names):
            target = name if name.split(".")[0] in PACKAGES else name.split(".")[0]
            yield Import(source=module, target=target, place=f"{path}:{getattr(node, 'lineno', 0)}", eager=eager)


def statements(module: ast.Module, expressions: bool) -> Iterator[tuple[ast.AST, bool]]:
    """All statements, and if asked for all expressions in them, each with whether it runs when the module is imported."""
    waiting: deque[tuple[ast.AST, bool]] = deque([(module, True)])
    while waiting:
        node, eager = waiting.popleft()
        yield node, eager
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        later = later or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        delayed = {id(child) for child in (node.body if isinstance(node.body, list) else [node.body])} if later else set()
        children = (child for child in ast.iter_child_nodes(node) if expressions or not isinstance(child, ast.expr))
        waiting += [(child, eager and id(child) not in delayed) for child in children]


def covers(prefix: str, module: str) -> bool:
    """Whether a name of the table covers the module."""
    return module == prefix or (prefix != FACE and module.startswith(prefix + "."))


def room_of(module: str) -> str | None:
    """The module's room, None if the table has no place for it."""
    matching = [(len(prefix), room) for room, (holds, _) in ROOMS.items() for prefix in holds if covers(prefix, module)]
    return max(matching)[1] if matching else None


# ---------------------------------------------------------------- rules


def rooms(tree: Tree) -> list[str]:
    """Every module has a place in the table."""
    return [f"{path}: the table ROOMS has no place for {module}" for module, path in tree.modules.items() if room_of(module) is None]


def floors(tree: Tree) -> list[str]:
    """Project imports go to where the importing room may look, and to a module that exists."""
    wrong = []
    for edge in imports(tree):
        if edge.target.split(".")[0] not in PACKAGES:
            continue
        where = f"{edge.place}: {edge.source} imports {edge.target}"
        room = room_of(edge.source)
        if edge.target not in tree.modules:
            wrong.append(f"{where}, which does not exist")
        elif edge.target == FACE:
            wrong.append(f"{where}/__init__.py; names of the lazy face are for users only")
        elif room is not None and room_of(edge.target) is not None:
            through = any(covers(start, edge.source) and covers(end, edge.target) for start, end in DOORS)
            if not through and not any(covers(allowed, edge.target) for allowed in ROOMS[room][1]):
                wrong.append(f"{where}; the room '{room}' may not")
    return wrong


def doors(tree: Tree) -> list[str]:
    """Every door of the table is in use."""
    used = {door for door in DOORS for edge in imports(tree) if covers(door[0], edge.source) and covers(door[1], edge.target)}
    return [f"no import goes from {start} to {end}; remove the door from DOORS" for start, end in DOORS if (start, end) not in used]


def packages(tree: Tree) -> list[str]:
    """Third-party packages that a room may not use at all, and those that importing it must not load."""
    wrong = [
        f"{edge.place}: {edge.source} imports {edge.target}; the room '{room}' may not"
        for edge in imports(tree)
        if (room := room_of(edge.source)) and edge.target in BARRED.get(room, ())
    ]
    eager = defaultdict(list)
    for edge in imports(tree):
        if edge.eager:
            eager[edge.source].append(edge)
    for start, barred in INSTANT.items():
        wrong += _loaded(tree, [module for module in tree.modules if covers(start, module)], barred, eager)
    return wrong


def _loaded(tree: Tree, start: list[str], barred: frozenset[str], eager: dict[str, list[Import]]) -> list[str]:
    """The barred packages that importing the modules loads, each with the chain of imports that leads to it."""
    chains = {module: module for module in start}
    queue = deque(start)
    wrong = []
    while queue:
        module = queue.popleft()
        for edge in eager[module]:
            if edge.target in barred:
                wrong.append(f"{edge.place}: importing {chains[module]} loads {edge.target}")
            parts = edge.target.split(".")
            for name in (".".join(parts[: n + 1]) for n in range(len(parts))):  # a package's __init__ runs before its submodule
                if name in tree.modules and name not in chains:
                    chains[name] = f"{chains[module]} → {name}"
                    queue.append(name)
    return wrong


def circles(tree: Tree) -> list[str]:
    """No modules that import each other, directly or around: one violation per circle, with its edges."""
    edges = defaultdict(set)
    for edge in imports(tree):
        if edge.target in tree.modules:
            edges[edge.source].add(edge.target)
    reached = {module: _reach(module, edges) for module in tree.modules}
    groups = {frozenset(other for other in reached[module] if module in reached[other]) for module in tree.modules}
    return [_circle(tree, group) for group in sorted(sorted(group) for group in groups if len(group) > 1)]


def _circle(tree: Tree, group: list[str]) -> str:
    inside = [edge for edge in imports(tree) if {edge.source, edge.target} <= set(group) and edge.source != edge.target]
    edges = [f"{edge.place}: {edge.source} → {edge.target}{'' if edge.eager else ' (lazy or typing-only)'}" for edge in inside]
    return "\n    ".join([f"circle of {len(group)}: {', '.join(group)}", *dict.fromkeys(edges)])


def _reach(start: str, edges: dict[str, set[str]]) -> set[str]:
    """All modules that importing `start` leads to; itself only if it is on a circle."""
    reached: set[str] = set()
    queue = [start]
    while queue:
        new = edges[queue.pop()] - reached
        reached |= new
        queue += new
    return reached


RULES: dict[str, Callable[[Tree], list[str]]] = {
    rule.__name__: rule for rule in (rooms, floors, doors, packages, circles, *SOURCE["FILE_RULES"])
}


def main(root: Path) -> int:
    """Print what breaks each rule, 1 if anything does."""
    tree = Tree(root)
    broken = {name: rule(tree) for name, rule in RULES.items()}
    for name, wrong in broken.items():
        print(f"{name}: {len(wrong)}")
        print("".join(f"  {line}\n" for line in wrong), end="")
    return int(any(broken.values()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent))
