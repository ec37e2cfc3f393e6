"""iit-bench: evaluate what multimodal LLMs forget.

The Python face is four functions, each the twin of a command:

    import iit_bench

    iit_bench.build(iit_bench.BuildOptions(out=Path("bench")))
    iit_bench.evaluate(iit_bench.EvalOptions(model="wings", bench=Path("bench"), out=Path("runs/wings")))
    iit_bench.report([Path("runs/wings")], Path("report"))
    run = iit_bench.load_run("runs/wings")          # run.results, run.predictions, run.errors
    run = iit_bench.load_suite_run("runs/text")     # of the suites text and vqa: run.results, run.items, run.errors

Importing this package imports none of its rooms: they load when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builders.build import BuildOptions, build
    from evaluators.iit.evaluate import evaluate
    from evaluators.runs.options import EvalOptions
    from iit_bench.models.load import load_model
    from iit_bench.storage.benchmark import Benchmark, load_benchmark
    from iit_bench.storage.runs import Run, SuiteRun, load_run, load_suite_run
    from reports.leaderboard import report

from iit_bench.version import __version__ as __version__

_PLACES = {
    "BuildOptions": "builders.build",
    "build": "builders.build",
    "EvalOptions": "evaluators.runs.header",
    "evaluate": "evaluators.iit.evaluate",
    "report": "reports.leaderboard",
    "load_model": "iit_bench.registry",
    "load_benchmark": "iit_bench.storage.runs",
    "load_run": "iit_bench.storage.runs",
    "load_suite_run": "iit_bench.storage.runs",
    "SuiteRun": "iit_bench.storage.runs",
    "Benchmark": "iit_bench.storage.runs",
    "Run": "iit_bench.storage.runs",
}
__all__ = [
    "Benchmark",
    "BuildOptions",
    "EvalOptions",
    "Run",
    "SuiteRun",
    "build",
    "evaluate",
    "load_benchmark",
    "load_model",
    "load_run",
    "load_suite_run",
    "report",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'iit_bench' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
