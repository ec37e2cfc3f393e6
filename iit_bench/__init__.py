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
    from evaluators.iit import evaluate
    from evaluators.provenance import EvalOptions
    from iit_bench.folders import Benchmark, Run, SuiteRun, load_benchmark, load_run, load_suite_run
    from iit_bench.registry import load_model
    from reports.leaderboard import report

__version__ = "0.1.0"
_PLACES = {
    "BuildOptions": "builders.build",
    "build": "builders.build",
    "EvalOptions": "evaluators.provenance",
    "evaluate": "evaluators.iit",
    "report": "reports.leaderboard",
    "load_model": "iit_bench.registry",
    "load_benchmark": "iit_bench.folders",
    "load_run": "iit_bench.folders",
    "load_suite_run": "iit_bench.folders",
    "SuiteRun": "iit_bench.folders",
    "Benchmark": "iit_bench.folders",
    "Run": "iit_bench.folders",
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
