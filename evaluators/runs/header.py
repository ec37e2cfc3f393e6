"""run.json: what was run, how and with which versions; enough to run it again and to refuse to resume another run."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from evaluators.runs.options import RunOptions, default_in, flag, suites_of
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run_header
from iit_bench.storage.tables import WrongField, canonical_json, decode
from iit_bench.types import TASK_SUITES

if TYPE_CHECKING:
    from evaluators.iit.turns import Asking
    from iit_bench.engine.plan import BatchLimits
    from iit_bench.models.contract import ModelInfo
    from iit_bench.storage.benchmark import Benchmark

PACKAGES = ("iit-bench", "torch", "transformers", "tokenizers", "numpy", "pyarrow", "lm-eval")
# Fields of run.json that must be equal for a run folder to be resumed. The key of each response guards the rest.
_RESUMABLE = ("limit", "max_new_tokens", "system_prompt", "batch_size", "seed")
_RESUMABLE_SINCE = {
    "reasoning_tokens": 0,
    "processor_kwargs": {},
    "until": None,
}  # as well, with the values of folders that do not have them
_RESUMABLE_IIT = ("scoring", "style", "history", "tiers", "batch_tokens")
_RESUMABLE_TASKS = ("tasks", "num_fewshot", "apply_chat_template", "fewshot_as_multiturn", "gen_kwargs")
_RESUMABLE_MODEL = ("name", "checkpoint_sha256", "chat_template_sha256", "blind", "dtype")


def describe_run(
    options: RunOptions,
    info: ModelInfo,
    *,
    benchmark: Benchmark,
    asking: Asking,
    tiers: Sequence[str],
    limits: BatchLimits,
    left_out: Mapping[str, int],
    arm: str = "",
) -> dict[str, Any]:
    """A new run.json of suite iit; its fields are storage.runs.RUN_FIELDS."""
    manifest = benchmark.manifest
    copied = ("name", "rows_sha256", "seed", "sources", "baselines")
    counts = {tier: sum(dialogue.tier == tier for dialogue in benchmark.dialogues) for tier in benchmark.tiers}
    return {
        "name": options.name or options.out.absolute().name,
        "model": dataclasses.asdict(info),
        "suite": options.suite,
        "benchmark": {name: manifest.get(name) for name in copied} | {"tiers": counts},
        "scoring": asking.scoring,
        "style": asking.style,
        "history": asking.history,
        "limit": options.limit,
        "tiers": list(tiers),
        "arm": arm,
        "left_out": dict(left_out),
        "until": None,
        "groups_asked": None,
        "max_new_tokens": asking.max_new_tokens,
        "reasoning_tokens": asking.reasoning_tokens,
        **given_to_model(options, info),
        "system_prompt": asking.system_prompt,
        "batch_size": options.batch_size,
        "batch_tokens": limits.tokens,
        "engine": limits.record(),
        "seed": options.seed,
        **bookkeeping(as_repeated(options, info)),
    }


def describe_suite(
    options: RunOptions, info: ModelInfo, tasks: Sequence[str], packages: Sequence[str] = (), *, reasoning_tokens: int = 0
) -> dict[str, Any]:
    """A new run.json of suite text or vqa; its fields are storage.runs.SUITE_FIELDS.

    Args:
        options: of the run.
        info: the model.
        tasks: names of the tasks, presets expanded.
        packages: the tool's distributions, whose versions are recorded.
        reasoning_tokens: budget for reasoning before a reply.
    """
    return {
        "name": options.name or options.out.absolute().name,
        "model": dataclasses.asdict(info),
        "suite": options.suite,
        "tasks": list(tasks),
        "judge": options.judge,
        "num_fewshot": options.num_fewshot,
        "apply_chat_template": options.apply_chat_template,
        "fewshot_as_multiturn": options.fewshot_as_multiturn,
        "gen_kwargs": options.gen_kwargs,
        "data_sha256": None,
        "split_think": True if options.suite == "vqa" else None,
        "limit": options.limit,
        "max_new_tokens": options.max_new_tokens,
        "reasoning_tokens": reasoning_tokens,
        **given_to_model(options, info),
        "system_prompt": options.system_prompt,
        "batch_size": options.batch_size,
        "seed": options.seed,
        **bookkeeping(as_repeated(options, info), packages),
    }


def as_repeated(options: RunOptions, info: ModelInfo) -> RunOptions:
    """The options that repeat the run on any day: with a date where the model's template asks for it, without one elsewhere."""
    return dataclasses.replace(options, date=info.settings.get("date"))


def given_to_model(options: RunOptions, info: ModelInfo) -> dict[str, Any]:
    """The fields of a new run.json for what a model's template and processor are given."""
    return {
        "date": info.settings.get("date") or options.date or datetime.now(UTC).date().isoformat(),
        "chat_template_kwargs": options.named_values("chat_template_kwargs"),
        "processor_kwargs": options.named_values("processor_kwargs"),
        "adapter": options.adapter,
        "threads": _threads(options, info),
    }


def _threads(options: RunOptions, info: ModelInfo) -> int | None:
    """Threads of PyTorch, where it computes on a CPU."""
    torch = sys.modules.get("torch")  # baselines compute without it
    if torch is None or info.device != "cpu":
        return None
    return options.threads or torch.get_num_threads()


def bookkeeping(options: RunOptions, packages: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a new run.json that all suites share: how to repeat the run, versions, times and counts."""
    from iit_bench.engine.plan import ANSWERS_VERSION  # reports import this file, and no engine

    return {
        "command": command(options),
        "arguments": arguments(options),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in (*PACKAGES, *packages)},
        "git_commit": git_commit(),
        "answers_version": ANSWERS_VERSION,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "ended": None,
        "seconds": 0.0,
        "session": "",
        "tokens": 0,
        "merged_replies": 0,
        "unchecked_answers": 0,
        "logged": {"answers": 0, "keys": "0" * 32},
        "usage": None,
        "resumed": 0,
        "launch": "",
        "files": {},
    }


def arguments(options: RunOptions) -> dict[str, Any]:
    """run.json's `arguments`: the options of the run's suite by name. Runs of the suites text and vqa have the same names."""
    family = {"iit"} if options.suite == "iit" else set(TASK_SUITES)
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options) if family & set(suites_of(field))}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def load_options(run: Path, *, out: Path, fresh: bool = False) -> RunOptions:
    """The options of an earlier run, for `iit-bench eval --from run.json`, writing to `out`. `run` is the file or its folder.

    Raises:
        UserError: not a run, or one of another version.
    """
    header = load_run_header(run.parent if run.name == "run.json" else run)
    if arm := header.get("arm"):
        raise UserError(f"{str(run)!r} is arm {arm} of a run, which is not repeated by itself; use `iit-bench arms` with the run's folder")
    values = {"suite": header["suite"], **header["arguments"], "out": out, "fresh": fresh}
    values["date"] = values.get("date") or run_date(header)
    values["threads"] = values.get("threads") or header.get("threads")
    hints = get_type_hints(RunOptions)
    if unknown := sorted(set(values) - set(hints)):
        raise UserError(f"run.json has arguments this version does not know: {', '.join(unknown)}; use the iit-bench that wrote it")
    if "model" not in values:
        raise UserError(f"{str(run)!r} lacks the field 'arguments.model'; mend it, or give the options by themselves")
    try:
        for name, value in values.items():
            if hints[name] != Path:
                values[name] = _option(hints[name], value, f"arguments.{name}")
    except WrongField as error:
        raise UserError(f"{str(run)!r}: {error}; mend it, or give the options by themselves") from error
    return RunOptions(**values)


def _option(kind: Any, value: Any, place: str) -> Any:
    """An option's value out of JSON."""
    if kind != Path | None:
        return decode(kind, value, place)
    path = decode(str | None, value, place)
    return None if path is None else Path(path)


def run_date(header: Mapping[str, Any]) -> str | None:
    """The day of a run as its chat template was told; of an older run.json, which does not record it, the day the run started."""
    return header.get("date") or (header.get("started") or "")[:10] or None


def command(options: RunOptions) -> str:
    """The command line that repeats the run: every option that is not at its default."""
    words = ["iit-bench", "eval"]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name == "fresh" or value == default_in(options.suite, field):
            continue
        if isinstance(value, bool):
            words.append(flag(field.name) if value else flag(f"no_{field.name}"))
        else:
            words += [flag(field.name), ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)


def check_same_run(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a folder that holds another run.

    Args:
        folder: the run folder.
        before: its run.json.
        now: run.json of the run that is to be resumed.

    Raises:
        UserError: names what differs.
    """
    if different := what_differs(before, now):
        raise UserError(f"{str(folder)!r} holds another run ({'; '.join(different)}); choose another --out or add --fresh to replace it")


def what_differs(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The fields of two run.json that must be equal for one run to be resumed and are not, each with both values."""
    return [f"{name} {old!r} there, {new!r} now" for name, old, new in _compared(before, now) if old != new]


def run_identity(run: Mapping[str, Any]) -> str:
    """What all processes of a run have in common and no other run has: 16 hexadecimal digits over the fields that must be equal."""
    values = [(name, value) for name, value, _ in _compared(run, run) if name != "threads"]  # which are only compared where they are given
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()[:16]


def _compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The fields that must be equal: name, value there, value now."""
    pairs = [("suite", before.get("suite"), now["suite"])]
    if before.get("suite") == now["suite"]:
        names = (*_RESUMABLE, *(_RESUMABLE_IIT if now["suite"] == "iit" else _RESUMABLE_TASKS))
        pairs += [(name, before.get(name), now.get(name)) for name in names]
        pairs += [(name, before.get(name, old), now.get(name, old)) for name, old in _RESUMABLE_SINCE.items()]
        pairs += [(f"model {name}", before["model"].get(name), now["model"].get(name)) for name in _RESUMABLE_MODEL]
        pairs.append(("model device", _kind_of_device(before), _kind_of_device(now)))
        pairs += _engines(before, now)
        pairs.append(("model settings", before["model"].get("settings", {}), now["model"].get("settings", {})))
        if before.get("arm") or now.get("arm"):  # not of every run: the identity of runs of before the field stays as it was
            pairs.append(("arm", before.get("arm", ""), now.get("arm", "")))
        if now["suite"] == "iit":
            pairs.append(("benchmark", before["benchmark"]["rows_sha256"], now["benchmark"]["rows_sha256"]))
        if before.get("threads") and (wanted := now["arguments"].get("threads")):
            pairs.append(("threads", before["threads"], wanted))
    return pairs


def _kind_of_device(run: Mapping[str, Any]) -> str:
    """Which of several GPUs of one kind it is changes no answer."""
    return str(run["model"].get("device")).partition(":")[0]


def engine_option(run: Mapping[str, Any]) -> str:
    """What `--engine` was for a run: auto | plain. Runs of before that option were all plain."""
    return str(run.get("arguments", {}).get("engine", "plain"))


def _engines(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """How requests are put together. Beside the record, the option counts: of models that run no tree, it decides how they read images."""
    options = ("--engine", engine_option(before), engine_option(now))
    if "engine" in before:
        return [options, ("engine", before["engine"], now.get("engine"))]
    return [options, ("engine", "plain", now["engine"]["way"])] if "engine" in now else [options]


def version(package: str) -> str | None:
    """The version of an installed distribution; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit of the checkout that holds this file; None if iit-bench is installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return head.stdout.strip() or None
