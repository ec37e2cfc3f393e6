"""What the suites "text" and "vqa" share: their options, and what run.json says of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.provenance import SAME_MODEL, EvalOptions, bookkeeping, load_options
from iit_bench.errors import UserError
from iit_bench.folders import load_run_header
from iit_bench.types import OUTCOMES, Outcome, ServerOptions, TaskItem

if TYPE_CHECKING:
    from iit_bench.models.base import ModelInfo, ModelOptions

# Beside the tasks and the model, what must be equal for a run folder to be taken up again. The key of each response guards the rest.
SAME: tuple[str, ...] = ("suite", "tasks", "limit", "max_new_tokens", "system_prompt", "batch_size", "seed")
SAME += ("num_fewshot", "apply_chat_template", "fewshot_as_multiturn", "gen_kwargs")

# Options that one of the two suites has alone.
OWN_OPTIONS: dict[str, tuple[str, ...]] = {
    "text": ("num_fewshot", "apply_chat_template", "fewshot_as_multiturn", "gen_kwargs", "include_path", "confirm_run_unsafe_code"),
    "vqa": ("judge",),
}


@dataclass(frozen=True)
class SuiteOptions(ServerOptions):
    """`iit-bench eval --suite text|vqa`, one field an option. Options of one suite alone have a default that means "as the tool does"."""

    model: str
    out: Path
    suite: str
    tasks: tuple[str, ...]  # names of tasks, groups, data sets or presets
    checkpoint: str | None = None
    blind: bool = False
    limit: int | None = None  # items of each task
    max_new_tokens: int | None = None  # None = the suite's own
    system_prompt: str = ""
    data_root: Path | None = None
    judge: str = "exact_matching"  # vqa: VLMEvalKit's rules, or the name of one of its judge models
    num_fewshot: int | None = None  # text: examples before each question; None = each task's own
    apply_chat_template: bool = False  # text: prompts as chats, in the model's own template
    fewshot_as_multiturn: bool = True  # text: in a chat, each example as turns of its own; False = all in the user's one turn
    gen_kwargs: str = ""  # text: lm-eval's settings of generation, "temperature=0.7,do_sample=true"
    include_path: Path | None = None  # text: a folder with tasks in lm-eval's format
    confirm_run_unsafe_code: bool = False  # text: run programs that the model writes (MBPP)
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None
    seed: int = 0
    trust_remote_code: bool = False
    name: str | None = None
    fresh: bool = False

    @property
    def model_options(self) -> ModelOptions:
        from iit_bench.models.base import ModelOptions  # reports use this file, and import no models

        return ModelOptions(self.checkpoint, self.device, self.dtype, self.seed, self.trust_remote_code, self.server)


def options_of(suite: str) -> set[str]:
    """Names of the options that a suite has: those of `SuiteOptions` but the other suite's own."""
    foreign = {name for other, own in OWN_OPTIONS.items() if other != suite for name in own}
    return {field.name for field in fields(SuiteOptions)} - foreign


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


def load_any_options(run: Path, out: Path) -> EvalOptions | SuiteOptions:
    """The options of an earlier run of any suite, for `iit-bench eval --from run.json`, writing to `out`.

    Raises:
        UserError: not a run, or one of another version.
    """
    header = load_run_header(run.parent if run.name == "run.json" else run)
    if header["suite"] == "iit":
        return load_options(run, out)
    arguments = dict(header["arguments"]) | {"out": out, "fresh": False}
    if unknown := sorted(set(arguments) - {field.name for field in dataclasses.fields(SuiteOptions)}):
        raise UserError(f"run.json has arguments this version does not know: {', '.join(unknown)}; use the iit-bench that wrote it")
    for name in ("data_root", "include_path"):
        arguments[name] = Path(arguments[name]) if arguments.get(name) else None
    return SuiteOptions(**arguments | {"tasks": tuple(arguments["tasks"])})


def check_same_suite(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder that holds another run.

    Raises:
        UserError: says what differs.
    """
    pairs = [(name, before.get(name), now.get(name)) for name in SAME]
    pairs += [(f"model {name}", before["model"].get(name), now["model"].get(name)) for name in SAME_MODEL]
    different = [f"{name} {old!r} there, {new!r} now" for name, old, new in pairs if old != new]
    if different:
        raise UserError(f"{str(folder)!r} holds another run ({'; '.join(different)}); choose another --out or add --fresh to replace it")


def expand(tasks: Sequence[str], presets: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Task names with presets replaced by what they stand for, each once, in the order asked."""
    return tuple(dict.fromkeys(name for task in tasks for name in presets.get(task, (task,))))


def unknown_task(name: str, known: Iterable[str], where: str) -> UserError:
    """The error for a task that is not there, with the nearest name."""
    names = sorted(known)
    close = [other for other in names if other.casefold() == name.casefold()] or get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else "see `iit-bench list tasks`"
    return UserError(f"there is no task {name!r} {where}; {hint}")


def count_outcomes(items: Iterable[TaskItem]) -> dict[str, int]:
    """Outcome -> items, each item of a task counted once, by the first of its metrics."""
    first: dict[tuple[str, str], Outcome] = {}
    for item in items:
        first.setdefault((item.task, item.item), item.outcome)
    found = Counter(first.values())
    return {outcome: found[outcome] for outcome in OUTCOMES}
