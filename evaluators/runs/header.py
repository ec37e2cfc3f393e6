"""What run.json says: what was run, how, with which versions; enough to run it again and to refuse to go on with another run."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iit_bench.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from evaluators.iit.turns import Asking
    from evaluators.runs.options import EvalOptions, SuiteOptions
    from iit_bench.engine.plan import BatchLimits
    from iit_bench.models.contract import ModelInfo
    from iit_bench.storage.benchmark import Benchmark

PACKAGES = ("iit-bench", "torch", "transformers", "tokenizers", "numpy", "pyarrow", "lm-eval")
# What must be equal for a run folder to be taken up again. The key of each response guards the rest.
SAME = ("suite", "scoring", "style", "history", "limit", "tiers", "max_new_tokens", "batch_size", "batch_tokens", "seed", "system_prompt")
SAME_MODEL = ("name", "checkpoint_sha256", "chat_template_sha256", "blind", "dtype", "device")


# Beside the tasks and the model, what must be equal for a run folder to be taken up again. The key of each response guards the rest.
SAME_TASKS: tuple[str, ...] = ("suite", "tasks", "limit", "max_new_tokens", "system_prompt", "batch_size", "seed")
SAME_TASKS += ("num_fewshot", "apply_chat_template", "fewshot_as_multiturn", "gen_kwargs")


def describe_run(
    options: EvalOptions, info: ModelInfo, benchmark: Benchmark, asking: Asking, tiers: Sequence[str], limits: BatchLimits
) -> dict[str, Any]:
    """A new run.json; its fields are storage.runs.RUN_FIELDS."""
    manifest = benchmark.manifest
    copied = ("name", "rows_sha256", "seed", "sources", "baselines")
    counts = {tier: sum(dialogue.tier == tier for dialogue in benchmark.dialogues) for tier in benchmark.tiers}
    return {
        "name": options.name or options.out.name,
        "model": dataclasses.asdict(info),
        "suite": options.suite,
        "benchmark": {name: manifest.get(name) for name in copied} | {"tiers": counts},
        "scoring": asking.scoring,
        "style": asking.style,
        "history": asking.history,
        "limit": options.limit,
        "tiers": list(tiers),
        "max_new_tokens": asking.max_new_tokens,
        "system_prompt": asking.system_prompt,
        "batch_size": options.batch_size,
        "batch_tokens": limits.tokens,
        "seed": options.seed,
        **bookkeeping(options),
    }


def bookkeeping(options: DataclassInstance, packages: Sequence[str] = ()) -> dict[str, Any]:
    """The part of a new run.json that every suite shares: how to repeat the run, with what it was made, when and how much."""
    return {
        "command": command(options),
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(options).items()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in (*PACKAGES, *packages)},
        "git_commit": git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "ended": None,
        "seconds": 0.0,
        "tokens": 0,
        "usage": None,
        "resumed": 0,
    }


def command(options: DataclassInstance) -> str:
    """The command line that repeats the run: every option that is not at its default."""
    words = ["iit-bench", "eval"]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name == "fresh" or value == field.default:
            continue
        flag = ("--no-" if value is False else "--") + field.name.replace("_", "-")
        words += [flag] if isinstance(value, bool) else [flag, ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)


def check_same_run(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder that holds another run.

    Raises:
        UserError: says what differs.
    """
    pairs = [(name, before.get(name), now.get(name)) for name in SAME]
    pairs += [(f"model {name}", before["model"].get(name), now["model"].get(name)) for name in SAME_MODEL]
    pairs.append(("benchmark", before["benchmark"]["rows_sha256"], now["benchmark"]["rows_sha256"]))
    different = [f"{name} {old!r} there, {new!r} now" for name, old, new in pairs if old != new]
    if different:
        raise UserError(f"{str(folder)!r} holds another run ({'; '.join(different)}); choose another --out or add --fresh to replace it")


def describe_suite(options: SuiteOptions, info: ModelInfo, tasks: Sequence[str], packages: Sequence[str] = ()) -> dict[str, Any]:
    """A new run.json of a suite; `tasks` are the names behind the presets, `packages` the tool's distributions."""
    return {
        "name": options.name or options.out.name,
        "model": dataclasses.asdict(info),
        "suite": options.suite,
        "tasks": list(tasks),
        "judge": options.judge,
        "num_fewshot": options.num_fewshot,
        "apply_chat_template": options.apply_chat_template,
        "fewshot_as_multiturn": options.fewshot_as_multiturn,
        "gen_kwargs": options.gen_kwargs,
        "limit": options.limit,
        "max_new_tokens": options.max_new_tokens,
        "system_prompt": options.system_prompt,
        "batch_size": options.batch_size,
        "seed": options.seed,
        **bookkeeping(options, packages),
    }


def check_same_suite(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder that holds another run.

    Raises:
        UserError: says what differs.
    """
    pairs = [(name, before.get(name), now.get(name)) for name in SAME_TASKS]
    pairs += [(f"model {name}", before["model"].get(name), now["model"].get(name)) for name in SAME_MODEL]
    different = [f"{name} {old!r} there, {new!r} now" for name, old, new in pairs if old != new]
    if different:
        raise UserError(f"{str(folder)!r} holds another run ({'; '.join(different)}); choose another --out or add --fresh to replace it")


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Of the checkout this file stands in; None where iit-bench is installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
