"""Measures builds of many targets: seconds of CPU, growth and peak memory, beside another tree of this project.

    python benchmarks/build.py [--sizes 4000 8000 16000 32000 64000] [--against DIR --targets 32000] [--match tfidf] [--json]

Each build runs in a process of its own and takes its questions from a source made here: words drawn by Zipf's law (200,000 words, exponent
1.07) inside one of 200 templates, four choices each. Printed are, per number of targets in three tiers (T, TT, TTT):

- seconds: CPU time of `build`, of user and system together, without imports and without making the questions;
- exponent: slope of log(seconds) over log(targets), by least squares;
- memory: the process's highest memory above that of a build of ten questions, over the questions' own size (by tracemalloc);
- with --against: the other tree's seconds at --targets, and their ratio to ours. Both builds run in turn, twice, and the lower time counts.

DIR is another checkout, e.g. of `git worktree add DIR 92d93ce`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[1]
TIERS = "T,TT,TTT"
SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnpqrst" for vowel in "aeiou"]


def word(number: int) -> str:
    """A pronounceable word for a number."""
    spelt = SYLLABLES[number % 80]
    while number := number // 80:
        spelt += SYLLABLES[number % 80]
    return spelt


def rows(n: int, seed: int = 0, vocabulary: int = 200_000, exponent: float = 1.07, templates: int = 200) -> Iterator[tuple[str, list[str]]]:
    """The words and the choices of `n` questions."""
    rng = np.random.default_rng(seed)
    share = np.cumsum((np.arange(vocabulary) + 3.7) ** -exponent)

    def draw(low: int, high: int) -> list[str]:
        numbers = np.searchsorted(share, rng.random(rng.integers(low, high)) * share[-1])
        return [word(int(number)) for number in numbers]

    frames = [[word(int(i)) for i in rng.integers(0, 300, rng.integers(4, 9))] for _ in range(templates)]
    for _ in range(n):
        frame = frames[min(int(rng.geometric(0.05)), templates) - 1]
        cut = int(rng.integers(0, len(frame) + 1))
        choices: list[str] = []
        while len(choices) < 4:
            choice = " ".join(draw(1, 4))
            if not any(choice.startswith(other) or other.startswith(choice) for other in choices):  # older trees leave such questions out
                choices.append(choice)
        yield " ".join([*frame[:cut], *draw(2, 7), *frame[cut:]]) + "?", choices


def questions(n: int) -> tuple[Any, ...]:
    """Questions of the tree that is imported."""
    from iit_bench.types import Question

    return tuple(
        Question(
            id=f"made/{i:07}",
            modality="T",
            source="made",
            subject=f"subject {i % 12}",
            cluster=f"made/{i:07}",
            language="en",
            question=text,
            images=(),
            choices=tuple(choices),
            answer=i % 4,
            answer_text=choices[i % 4],
        )
        for i, (text, choices) in enumerate(rows(n))
    )


def measure(n: int, match: str) -> dict[str, float]:
    """Build `n` targets of `n` questions in this process: seconds of CPU, and the highest memory in bytes, before the build and in all."""
    import scipy.sparse  # noqa: F401

    import builders.build
    import builders.card
    from builders.sources.base import SourceQuestions
    from iit_bench import registry

    source = SourceQuestions(
        name="made", questions=questions(n), split="test", licence="CC0-1.0", origin="benchmarks/build.py", revision="1", sha256="0" * 64
    )
    module = types.ModuleType("made_questions")
    vars(module)["load"] = lambda name, options: source
    sys.modules[module.__name__] = module
    registry.SOURCES["made"] = f"{module.__name__}:load"
    with tempfile.TemporaryDirectory() as folder:
        options = builders.build.BuildOptions(out=Path(folder) / "bench", text=("made",), visual=(), tiers=TIERS, size=n, match=match)
        started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        builders.build.build(options)
        seconds = time.process_time() - started
    return {"seconds": seconds, "memory before": before, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def own_size(n: int) -> dict[str, float]:
    """Bytes of `n` questions in memory."""
    questions(10)  # imports
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    made = questions(n)
    after, _ = tracemalloc.get_traced_memory()
    assert len(made) == n
    return {"bytes": after - before}


def child(tree: Path, *arguments: str) -> dict[str, float]:
    """What this script measures in a process that imports the given tree."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, *arguments], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure all sizes, and the other tree, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[4000, 8000, 16000, 32000, 64000])
    parser.add_argument("--against", type=Path)
    parser.add_argument("--targets", type=int, default=32000, help="of the comparison with --against")
    parser.add_argument("--match", default="tfidf")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=("build", "size"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.targets, arguments.match) if arguments.child == "build" else own_size(arguments.targets)))
        return

    def built(tree: Path, n: int) -> dict[str, float]:
        return child(tree, "--child", "build", "--targets", str(n), "--match", arguments.match)

    figures: dict[str, Any] = {"match": arguments.match, "tiers": TIERS, "sizes": {}}
    empty = built(HERE, 10)["memory"]
    for n in arguments.sizes:
        figure, size = built(HERE, n), child(HERE, "--child", "size", "--targets", str(n))["bytes"]
        figures["sizes"][n] = {"seconds": figure["seconds"], "memory over questions": (figure["memory"] - empty) / size}
    if len(arguments.sizes) > 1:
        seconds = [figures["sizes"][n]["seconds"] for n in arguments.sizes]
        figures["exponent"] = float(np.polyfit([math.log(n) for n in arguments.sizes], [math.log(s) for s in seconds], 1)[0])
    if arguments.against:
        trees = {"this tree": HERE, "other tree": arguments.against.resolve()}
        runs = [{name: built(tree, arguments.targets)["seconds"] for name, tree in trees.items()} for _ in range(2)]
        lowest = {name: min(run[name] for run in runs) for name in trees}
        figures["against"] = {"targets": arguments.targets, **lowest, "ratio": lowest["other tree"] / lowest["this tree"]}
    print(json.dumps(figures, indent=2) if arguments.json else shown(figures))


def shown(figures: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [f"match {figures['match']}, tiers {figures['tiers']}"]
    for n, figure in figures["sizes"].items():
        lines.append(f"{n:7} targets {figure['seconds']:9.2f} s   memory {figure['memory over questions']:5.2f} × the questions")
    if "exponent" in figures:
        lines.append(f"growth exponent {figures['exponent']:.2f}")
    if "against" in figures:
        line = "{targets} targets: other tree {other tree:.1f} s, this tree {this tree:.1f} s, {ratio:.1f} × faster"
        lines.append(line.format(**figures["against"]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
