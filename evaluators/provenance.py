"""What run.json says: what was run, how, with which versions; enough to run it again and to refuse to go on with another run."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iit_bench.errors import UserError
from iit_bench.folders import load_run_header
from iit_bench.types import History, Scoring, ServerOptions, Style

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from evaluators.turns import Asking
    from iit_bench.engine.plan import BatchLimits
    from iit_bench.folders import Benchmark
    from iit_bench.models.base import ModelInfo

PACKAGES = ("iit-bench", "torch", "transformers", "tokenizers", "numpy", "pyarrow", "lm-eval")
# What must be equal for a run folder to be taken up again. The key of each response guards the rest.
SAME = ("suite", "scoring", "style", "history", "limit", "tiers", "max_new_tokens", "batch_size", "batch_tokens", "seed", "system_prompt")
SAME_MODEL = ("name", "checkpoint_sha256", "chat_template_sha256", "blind", "dtype", "device")


@dataclass(frozen=True)
class EvalOptions(ServerOptions):
    """`iit-bench eval`, one field an option."""

    model: str
    bench: Path
    out: Path
    checkpoint: str | None = None
    suite: str = "iit"
    blind: bool = False
    tiers: tuple[str, ...] | None = None  # None = all of the benchmark's
    scoring: Scoring | Literal["auto"] = "auto"  # auto: loglikelihood where the model can, else generate
    style: Style | None = None  # None = the benchmark's own
    history: History = "gold"
    limit: int | None = None  # whole groups
    max_new_tokens: int = 32
    system_prompt: str = ""
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None  # requests; None = auto
    seed: int = 0
    trust_remote_code: bool = False
    base: Path | None = None  # run folder of the base LLM
    name: str | None = None  # display name; None = the folder's
    fresh: bool = False


def describe_run(
    options: EvalOptions, info: ModelInfo, benchmark: Benchmark, asking: Asking, tiers: Sequence[str], limits: BatchLimits
) -> dict[str, Any]:
    """A new run.json; its fields are folders.RUN_FIELDS."""
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


def load_options(run: Path, out: Path) -> EvalOptions:
    """The options of an earlier run, for `iit-bench eval --from run.json`, writing to `out`. `run` is the file or its folder.

    Raises:
        UserError: not a run, or one of another version.
    """
    arguments = dict(load_run_header(run.parent if run.name == "run.json" else run)["arguments"]) | {"out": out, "fresh": False}
    known = {field.name for field in dataclasses.fields(EvalOptions)}
    if unknown := sorted(set(arguments) - known):
        raise UserError(f"run.json has arguments this version does not know: {', '.join(unknown)}; use the iit-bench that wrote it")
    for name in ("bench", "base"):
        arguments[name] = Path(arguments[name]) if arguments.get(name) else None
    if arguments.get("tiers") is not None:
        arguments["tiers"] = tuple(arguments["tiers"])
    return EvalOptions(**arguments)


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


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Of the checkout this file stands in; None where iit-bench is installed from a wheel."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
