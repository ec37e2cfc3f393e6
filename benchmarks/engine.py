"""Measures an evaluation beside another build of this project: the same model, benchmark and style, in turn, one thread each.

    git worktree add ../other 92d93ce
    python benchmarks/engine.py --bench demo/bench --peer ../other --peer-version 1 [--model base-llm] [--style cloze …] [--json]

Prints, per style: CPU seconds of asking (loading and reports left out) and their ratio (other build / this one; above 1 this one is
faster), positions that go through the first decoder layer, nodes of the job's tree (every token of prompts and replies once), images (or
their tiles) that enter the tower, and the largest difference between log-probabilities of the two builds. Each run is a process of its
own; the two builds take turns, and the ratio is the median over the pairs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from printed import as_table

ROOT = Path(__file__).resolve().parents[1]
TOWERS = ("vision_tower", "visual", "vision_model", "vision_encoder")


# ---------------------------------------------------------------- one run, in a process of its own, of whatever build is imported


def child(settings: dict[str, Any]) -> dict[str, Any]:
    """Evaluate, and count what goes through the model while it is asked."""
    import torch

    torch.set_num_threads(1)
    module = importlib.import_module("evaluators.iit")
    if hasattr(module, "__path__"):  # a package since; a module in earlier builds
        module = importlib.import_module("evaluators.iit.evaluate")
    load, ask = module.load_model, module.ask
    counts = {"positions": 0, "images": 0}
    taken: dict[str, float] = {}

    def loaded(*args: Any, **more: Any) -> Any:
        model = load(*args, **more)
        _count(model.model, counts)
        return model

    def timed(*args: Any, **more: Any) -> Any:
        for name in counts:
            counts[name] = 0  # what checks at load and warm-ups have read
        started = time.process_time()
        result = ask(*args, **more)
        taken["CPU s"] = time.process_time() - started
        return result

    module.load_model, module.ask = loaded, timed
    nodes = _watch_nodes()
    options = dict(settings) | {name: Path(settings[name]) for name in ("bench", "out")}
    options["tiers"] = tuple(options["tiers"]) if options["tiers"] else None
    make = getattr(module, "RunOptions", None) or module.EvalOptions  # its name in earlier builds
    module.evaluate(make(**options), False)
    return taken | counts | ({"nodes": nodes[0]} if nodes else {})


def _watch_nodes() -> list[int]:
    """Where this build plans rows of a tree, the number of nodes of the last job's tree."""
    nodes: list[int] = []
    try:
        engine = importlib.import_module("iit_bench.engine.plan")
        trees = importlib.import_module("iit_bench.token_trees")
    except ImportError:
        return nodes
    cut = engine.cut_rows

    def counted(requests: Any, *rest: Any) -> Any:
        before = time.process_time()
        nodes[:] = [len(trees.build_row([path for own in requests for path in own]))]
        COUNTING[0] += time.process_time() - before
        return cut(requests, *rest)

    engine.cut_rows = counted
    return nodes


COUNTING = [0.0]  # CPU seconds of counting nodes, which no evaluation does


def _count(model: Any, counts: dict[str, int]) -> None:
    """Count positions at the first decoder layer, and images at the first layer of a tower."""
    import torch

    towers = [module for name, module in model.named_modules() if name.rpartition(".")[2] in TOWERS]
    decoders = [
        module[0]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and name.rpartition(".")[2] in ("layers", "h") and not set(name.split(".")) & set(TOWERS)
    ]

    def positions(_module: Any, args: Any, more: Any) -> None:
        hidden = args[0] if args else more["hidden_states"]
        counts["positions"] += hidden.shape[:-1].numel()

    def images(_module: Any, args: Any, more: Any) -> None:
        grids = more.get("grid_thw")
        pixels = args[0] if args else more.get("pixel_values", more.get("hidden_states"))
        counts["images"] += len(pixels if grids is None else grids)

    decoders[0].register_forward_pre_hook(positions, with_kwargs=True)
    if towers:
        towers[0].register_forward_pre_hook(images, with_kwargs=True)


# ---------------------------------------------------------------- both builds, in turn


def compare(arguments: argparse.Namespace, style: str) -> dict[str, Any]:
    """Figures of both builds in one style."""
    found: dict[str, list[dict[str, Any]]] = {"this": [], "other": []}
    with tempfile.TemporaryDirectory() as scratch:
        bench = {"this": arguments.bench.resolve(), "other": arguments.bench.resolve()}
        if arguments.peer_version is not None:
            bench["other"] = _as_version(bench["other"], arguments.peer_version, Path(scratch) / "bench")
        for number in range(arguments.pairs):
            for build, root in (("other", arguments.peer), ("this", ROOT)):
                out = Path(scratch) / f"{build}-{number}"
                settings = {"model": arguments.model, "bench": str(bench[build]), "out": str(out), "style": style}
                settings |= {"limit": arguments.limit, "tiers": arguments.tiers.split(",") if arguments.tiers else None}
                found[build].append(_run(Path(root), settings))
        difference, compared = _difference(Path(scratch) / "this-0", Path(scratch) / "other-0")
    this, other = found["this"][0], found["other"][0]
    result: dict[str, Any] = {
        "times as fast": statistics.median(b["CPU s"] / a["CPU s"] for a, b in zip(found["this"], found["other"], strict=True)),
        "CPU s": {
            "this": statistics.median(one["CPU s"] for one in found["this"]),
            "other": statistics.median(one["CPU s"] for one in found["other"]),
        },
        "positions": {"this": this["positions"], "other": other["positions"]},
        "images or tiles through the tower": {"this": this["images"], "other": other["images"]},
        "largest difference of log-probabilities": difference,
        "log-probabilities": compared,
    }
    if "nodes" in this:
        result["nodes"] = this["nodes"]
        result["positions / nodes"] = {name: found[name][0]["positions"] / this["nodes"] for name in found}
    return result


def _run(root: Path, settings: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).resolve()), "--child", json.dumps(settings)]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=root)
    if done.returncode:
        raise SystemExit(f"the build in {root} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _difference(this: Path, other: Path) -> tuple[float, int]:
    """Largest difference between log-probabilities of two runs of the same dialogues, and how many were compared."""
    import pandas

    one, two = (pandas.read_parquet(run / "predictions.parquet").set_index(["dialogue", "position"])["logprobs"] for run in (this, other))
    if not one.index.sort_values().equals(two.index.sort_values()):
        raise SystemExit(f"this build asked {len(one)} dialogues and the other {len(two)}, or others; choose another --style or --tiers")
    pairs = [(a, b) for left, right in zip(one, two[one.index], strict=True) for a, b in zip(left, right, strict=True)]
    return max((abs(a - b) for a, b in pairs), default=0.0), len(pairs)


def _as_version(bench: Path, version: int, folder: Path) -> Path:
    """A copy of a benchmark folder that says another format version: earlier builds read the columns they know."""
    shutil.copytree(bench, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": version}), encoding="utf-8")
    return folder


def main() -> None:
    """Run both builds in turn and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--bench", type=Path)
    parser.add_argument("--peer", type=Path, help="checkout of the other build")
    parser.add_argument("--peer-version", type=int, help="format version of benchmarks that the other build reads, where it is another")
    parser.add_argument("--model", default="base-llm")
    parser.add_argument("--style", nargs="+", default=["cloze", "options", "letters"])
    parser.add_argument("--tiers", help="comma-separated; default: all that the model can be asked")
    parser.add_argument("--limit", type=int, help="groups; default: all")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.child:
        figures = child(json.loads(arguments.child))
        figures["CPU s"] -= COUNTING[0]
        print(json.dumps(figures))
        return
    if arguments.bench is None or arguments.peer is None:
        parser.error("give --bench and --peer")
    results = {style: compare(arguments, style) for style in arguments.style}
    print(json.dumps(results, indent=2) if arguments.json else as_table(results))


if __name__ == "__main__":
    main()
