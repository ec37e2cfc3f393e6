"""iit-bench: evaluate what multimodal LLMs forget.

Every command has a twin here, with a record for its options:

    import iit_bench
    from pathlib import Path

    iit_bench.build(iit_bench.BuildOptions(out=Path("bench")))
    iit_bench.evaluate(iit_bench.RunOptions(model="wings", bench=Path("bench"), out=Path("runs/wings")))
    iit_bench.report([Path("runs/wings")], Path("report"))
    run = iit_bench.load_run("runs/wings")          # run.results, run.predictions, run.errors
    run = iit_bench.load_run("runs/text")           # of the suites text and vqa: run.results, run.items, run.errors

`evaluate_text`, `evaluate_vqa` and `evaluate_all` run the other suites, with `RunOptions(suite="text", …)`; `evaluate_models` and `watch`
run several models and the checkpoints of a training. Importing this package imports
none of its rooms: they load when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builders.build import BuildOptions, build
    from builders.export.export import ExportOptions, export
    from evaluators.arms.evaluate import arms
    from evaluators.attention.observe import observe_attention as attention
    from evaluators.attention.options import AttentionOptions
    from evaluators.compare.planning import PlanOptions, plan
    from evaluators.compare.runs import comparisons as compare
    from evaluators.explain.explain import explain
    from evaluators.fetch.fetch import FetchOptions, fetch
    from evaluators.iit.evaluate import evaluate
    from evaluators.runs.options import RunOptions
    from evaluators.runs.reading import load_run
    from evaluators.show.selection import Filter
    from evaluators.show.show import diff, show
    from evaluators.text.evaluate import evaluate_text
    from evaluators.vqa.evaluate import evaluate_vqa
    from iit_bench.lab.run import LabOptions, run_lab
    from iit_bench.models.contract import ModelOptions
    from iit_bench.models.load import load_model
    from iit_bench.server_options import ServerOptions
    from iit_bench.storage.benchmark import Benchmark, load_benchmark
    from iit_bench.storage.runs import Run
    from iit_bench.training.train import run as train
    from iit_bench.workflows.all_suites import evaluate_all
    from iit_bench.workflows.demo import demo
    from iit_bench.workflows.merging import merge
    from iit_bench.workflows.several import evaluate_models, watch
    from iit_bench.workflows.submitting import submit
    from iit_bench.workflows.verifying import verify
    from reports.formats.export import RunExportOptions, export_runs
    from reports.leaderboard import report

from iit_bench.version import __version__ as __version__

# Name → "module" that has it, or "module:its name there". A test compares this table with the imports above.
_PLACES = {
    "AttentionOptions": "evaluators.attention.options",
    "Benchmark": "iit_bench.storage.benchmark",
    "BuildOptions": "builders.build",
    "ExportOptions": "builders.export.export",
    "FetchOptions": "evaluators.fetch.fetch",
    "Filter": "evaluators.show.selection",
    "LabOptions": "iit_bench.lab.run",
    "ModelOptions": "iit_bench.models.contract",
    "PlanOptions": "evaluators.compare.planning",
    "Run": "iit_bench.storage.runs",
    "RunExportOptions": "reports.formats.export",
    "RunOptions": "evaluators.runs.options",
    "ServerOptions": "iit_bench.server_options",
    "arms": "evaluators.arms.evaluate",
    "attention": "evaluators.attention.observe:observe_attention",
    "build": "builders.build",
    "compare": "evaluators.compare.runs:comparisons",
    "demo": "iit_bench.workflows.demo",
    "diff": "evaluators.show.show",
    "evaluate": "evaluators.iit.evaluate",
    "evaluate_all": "iit_bench.workflows.all_suites",
    "evaluate_models": "iit_bench.workflows.several",
    "evaluate_text": "evaluators.text.evaluate",
    "evaluate_vqa": "evaluators.vqa.evaluate",
    "explain": "evaluators.explain.explain",
    "export": "builders.export.export",
    "export_runs": "reports.formats.export",
    "fetch": "evaluators.fetch.fetch",
    "load_benchmark": "iit_bench.storage.benchmark",
    "load_model": "iit_bench.models.load",
    "load_run": "evaluators.runs.reading",
    "merge": "iit_bench.workflows.merging",
    "plan": "evaluators.compare.planning",
    "report": "reports.leaderboard",
    "run_lab": "iit_bench.lab.run",
    "show": "evaluators.show.show",
    "submit": "iit_bench.workflows.submitting",
    "train": "iit_bench.training.train:run",
    "verify": "iit_bench.workflows.verifying",
    "watch": "iit_bench.workflows.several",
}
__all__ = [
    "AttentionOptions",
    "Benchmark",
    "BuildOptions",
    "ExportOptions",
    "FetchOptions",
    "Filter",
    "LabOptions",
    "ModelOptions",
    "PlanOptions",
    "Run",
    "RunExportOptions",
    "RunOptions",
    "ServerOptions",
    "arms",
    "attention",
    "build",
    "compare",
    "demo",
    "diff",
    "evaluate",
    "evaluate_all",
    "evaluate_models",
    "evaluate_text",
    "evaluate_vqa",
    "explain",
    "export",
    "export_runs",
    "fetch",
    "load_benchmark",
    "load_model",
    "load_run",
    "merge",
    "plan",
    "report",
    "run_lab",
    "show",
    "submit",
    "train",
    "verify",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'iit_bench' has no attribute {name!r}")
    module, _, theirs = _PLACES[name].partition(":")
    return getattr(import_module(module), theirs or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
