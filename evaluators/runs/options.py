"""Options of `iit-bench eval`: of the suite iit, of the suites text and vqa, and those of an earlier run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run_header
from iit_bench.types import History, Scoring, ServerOptions, Style

if TYPE_CHECKING:
    from iit_bench.models.contract import ModelOptions

# Options that one of the two suites has alone.
OWN_OPTIONS: dict[str, tuple[str, ...]] = {
    "text": ("num_fewshot", "apply_chat_template", "fewshot_as_multiturn", "gen_kwargs", "include_path", "confirm_run_unsafe_code"),
    "vqa": ("judge",),
}


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
        from iit_bench.models.contract import ModelOptions  # reports use this file, and import no models

        return ModelOptions(self.checkpoint, self.device, self.dtype, self.seed, self.trust_remote_code, self.server)


def options_of(suite: str) -> set[str]:
    """Names of the options that a suite has: those of `SuiteOptions` but the other suite's own."""
    foreign = {name for other, own in OWN_OPTIONS.items() if other != suite for name in own}
    return {field.name for field in fields(SuiteOptions)} - foreign


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
