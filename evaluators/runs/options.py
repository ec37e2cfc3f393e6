"""Options of an evaluation: one record, made of parts, for all suites.

A field is declared once: its default is the option's default, and its metadata (see `option`) hold the help text, the suites that have the
option, and its spelling on the command line. The options of `iit-bench eval`, and `arguments` and `command` in run.json, are made from it.
Imports only the standard library and `iit_bench.types`, because the command line needs this file for its help.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from evaluators.runs.checks import check_arms, check_choices, check_lowest, check_until
from evaluators.runs.named_values import parse_named_values
from iit_bench.errors import UserError, one_line
from iit_bench.server_options import ServerOptions
from iit_bench.types import TASK_SUITES, History, Scoring, Style, Suite

if TYPE_CHECKING:
    from iit_bench.models.contract import ModelOptions

SuiteChoice = Literal[Suite, "all"]
EVERY_SUITE: tuple[SuiteChoice, ...] = get_args(SuiteChoice)
NAMED_VALUES = ("chat_template_kwargs", "processor_kwargs")  # options whose value is a list of NAME=VALUE


_IN_IIT: tuple[SuiteChoice, ...] = ("iit", "all")
_IN_TASKS: tuple[SuiteChoice, ...] = ("text", "vqa", "all")
_IN_TEXT: tuple[SuiteChoice, ...] = ("text", "all")
_IN_VQA: tuple[SuiteChoice, ...] = ("vqa", "all")


def option(
    help: str,
    *,
    suites: tuple[SuiteChoice, ...] = EVERY_SUITE,
    needed: tuple[SuiteChoice, ...] = (),
    defaults: Mapping[SuiteChoice, Any] = MappingProxyType({}),
    flags: str = "",
    none: str = "",
    least: int | None = None,
    only_with: str = "",
) -> dict[str, Any]:
    """The metadata of a field that is an option.

    Args:
        help: what `--help` shows.
        suites: suites that have the option; it is refused in others.
        needed: suites that cannot run without it.
        defaults: values that take the place of the field's default in some suites.
        flags: how the command line spells a switch with two sides, e.g. "--fresh/--resume".
        none: the word that means None on the command line, e.g. "auto".
        least: the lowest number that is taken.
        only_with: the option without which it has no effect.
    """
    shown: dict[str, Any] = {"help": help, "flags": flags, "none": none}
    return shown | {"suites": suites, "needed": needed, "defaults": defaults, "least": least, "only_with": only_with}


@dataclass(frozen=True, kw_only=True)
class ModelPart:
    """Which model, and how it is loaded."""

    model: str = field(
        metadata=option(
            "A name of `iit-bench list models`, or hf:, openai:, vllm: or vlmeval: and a name; or several, with commas; needed unless "
            "--from is given.",
            needed=EVERY_SUITE,
        )
    )
    checkpoint: str | None = field(default=None, metadata=option("Other weights for this family: folder or Hub id."))
    adapter: str | None = field(default=None, metadata=option("peft adapter to load onto the checkpoint: folder or Hub id."))
    chat_template_kwargs: str = field(
        default="",
        metadata=option("Arguments of the model's chat template, e.g. enable_thinking=false; NAME=VALUE,NAME=VALUE or a JSON object."),
    )
    processor_kwargs: str = field(
        default="", metadata=option("Settings of the model's processor of images, e.g. max_pixels=401408; written likewise.")
    )
    blind: bool = field(default=False, metadata=option("Remove all images, to measure what the words give away without them."))
    device: str = field(default="auto", metadata=option("auto, cpu, cuda, cuda:1, mps."))
    dtype: str = field(default="auto", metadata=option("auto, float32, bfloat16, float16."))
    device_map: str = field(
        default="",
        metadata=option(
            'Layers on several devices: auto, balanced, balanced_low_0, sequential, or a JSON object such as {"model.layers.0": 0}.'
        ),
    )
    quantization: str = field(
        default="", metadata=option("Quantise the weights while they are loaded: bnb-4bit, bnb-8bit (bitsandbytes), torchao-int8.")
    )
    attn_implementation: str = field(
        default="", metadata=option("eager, sdpa, flash_attention_2, flash_attention_3, flex_attention; default: the model's own.")
    )
    image_cache: str = field(
        default="",
        metadata=option(
            "Folder that keeps features of images for later runs and checkpoints of the same tower (hf:, wings); default: in memory only."
        ),
    )
    batch_size: int | None = field(default=None, metadata=option("Requests per batch, or auto.", none="auto", least=1))
    engine: Literal["auto", "plain"] = field(
        default="auto",
        metadata=option(
            "auto: requests that begin alike share rows, every token once, where a check at load finds that right for the model; "
            "plain: each request by itself."
        ),
    )
    threads: int | None = field(
        default=None,
        metadata=option(
            "Threads of each process on a CPU, or auto: of the run that is resumed, else as PyTorch finds fit, divided among --processes.",
            none="auto",
            least=1,
        ),
    )
    seed: int = field(default=0, metadata=option("Seed of models that draw."))
    trust_remote_code: bool = field(default=False, metadata=option("Run code that comes with the checkpoint."))


@dataclass(frozen=True, kw_only=True)
class CommonPart:
    """What is run, and where its files go."""

    out: Path = field(metadata=option("Folder to write."))
    suite: SuiteChoice = field(default="iit", metadata=option("IIT dialogues, lm-eval's tasks, VLMEvalKit's data sets, or all three."))
    tasks: tuple[str, ...] | None = field(
        default=None,
        metadata=option(
            "Suites text, vqa, all: tasks, data sets or presets, comma-separated; default of suite all: wings-text,wings-vqa.",
            suites=_IN_TASKS,
            needed=TASK_SUITES,
        ),
    )
    limit: int | None = field(default=None, metadata=option("Evaluate N whole groups, or N items of each task.", least=1))
    max_new_tokens: int | None = field(
        default=None,
        metadata=option("Tokens of a generated reply; default: 32 in suite iit, else the task's.", defaults={"iit": 32}, least=1),
    )
    reasoning_tokens: int | None = field(
        default=None,
        metadata=option(
            "Suites iit, vqa, all: tokens that a model may reason before a generated reply; auto: 4096 (at most half of its context) where "
            "its chat template or server declares reasoning, else 0.",
            suites=("iit", "vqa", "all"),
            none="auto",
            least=0,
        ),
    )
    date: str | None = field(
        default=None, metadata=option("Day that a chat template which asks for it is told, YYYY-MM-DD; default: when the run started, UTC.")
    )
    system_prompt: str = field(default="", metadata=option("First message of every chat."))
    data_root: Path | None = field(
        default=None, metadata=option("Suites text, vqa, all: folder of `iit-bench fetch`, used instead of the Hub.", suites=_IN_TASKS)
    )
    name: str | None = field(default=None, metadata=option("Name in reports; default: the folder's."))
    allow_errors: int = field(
        default=0,
        metadata=option(
            "Items that may fail, as those too long for the model do, before the exit code is 1; the results are the same.", least=0
        ),
    )
    fresh: bool = field(default=False, metadata=option("Start over, or resume from what the folder holds.", flags="--fresh/--resume"))


@dataclass(frozen=True, kw_only=True)
class IitPart:
    """Options of the dialogues of a benchmark folder."""

    bench: Path | None = field(
        default=None, metadata=option("Benchmark folder, made by `iit-bench build`; needed.", suites=_IN_IIT, needed=_IN_IIT)
    )
    tiers: tuple[str, ...] | None = field(default=None, metadata=option("Tiers to run, comma-separated; default: all.", suites=_IN_IIT))
    scoring: Literal[Scoring, "auto"] = field(
        default="auto",
        metadata=option(
            "loglikelihood scores every choice, generate reads a greedy reply; auto: loglikelihood if the model can.", suites=_IN_IIT
        ),
    )
    style: Style | None = field(default=None, metadata=option("How choices are shown; default: the benchmark's.", suites=_IN_IIT))
    history: History = field(default="gold", metadata=option("Earlier replies: the correct ones, or the model's own.", suites=_IN_IIT))
    base: Path | None = field(
        default=None,
        metadata=option("Run folder of the base LLM, or its folder of --suite all, to measure forgetting against.", suites=_IN_IIT),
    )
    until: Literal["decided"] | None = field(
        default=None,
        metadata=option(
            "decided: ask text targets in an order drawn by --seed, and stop as soon as a loss against --base is found or ruled out.",
            suites=_IN_IIT,
        ),
    )
    margin: float = field(
        default=0.02,
        metadata=option("With --until decided: a loss below it does not matter; 0.02 is 2 points.", suites=_IN_IIT, only_with="until"),
    )
    arms: tuple[str, ...] | None = field(
        default=None,
        metadata=option(
            "After the run, ask its targets again with one thing changed, as `iit-bench arms` does: arms, comma-separated, or all.",
            suites=("iit",),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class TextPart:
    """Options of lm-eval."""

    num_fewshot: int | None = field(
        default=None, metadata=option("Examples before a question; default: each task's own.", suites=_IN_TEXT, least=0)
    )
    apply_chat_template: bool = field(
        default=False,
        metadata=option("Ask in the model's chat format.", suites=_IN_TEXT, flags="--apply-chat-template/--no-apply-chat-template"),
    )
    fewshot_as_multiturn: bool = field(
        default=True,
        metadata=option(
            "In a chat, each example as turns of its own, or all in one user turn.",
            suites=_IN_TEXT,
            flags="--fewshot-as-multiturn/--no-fewshot-as-multiturn",
            only_with="apply_chat_template",
        ),
    )
    gen_kwargs: str = field(
        default="",
        metadata=option(
            "lm-eval's settings of generation, e.g. temperature=0.7, to which do_sample=true is added (lm-eval itself stays greedy then).",
            suites=_IN_TEXT,
        ),
    )
    include_path: Path | None = field(default=None, metadata=option("Folder with tasks in lm-eval's format.", suites=_IN_TEXT))
    confirm_run_unsafe_code: bool = field(default=False, metadata=option("Run the programs that the model writes (MBPP).", suites=_IN_TEXT))


@dataclass(frozen=True, kw_only=True)
class VqaPart:
    """Options of VLMEvalKit."""

    judge: str = field(
        default="exact_matching", metadata=option("exact_matching, or the name of a judge model of VLMEvalKit.", suites=_IN_VQA)
    )


# Headings of the parts in `iit-bench eval --help`.
PARTS: dict[type, str] = {
    ModelPart: "Model",
    CommonPart: "Run",
    IitPart: "IIT dialogues (suites iit, all)",
    TextPart: "Text-only tasks of lm-eval (suites text, all)",
    VqaPart: "VQA data sets of VLMEvalKit (suites vqa, all)",
    ServerOptions: "Server (models openai:NAME)",
}


@dataclass(frozen=True, kw_only=True)
class RunOptions(
    ServerOptions, VqaPart, TextPart, IitPart, CommonPart, ModelPart
):  # fields come in the order of PARTS: the last base's first
    """All options of an evaluation, by keyword: `RunOptions(model="wings", bench=Path("bench"), out=Path("runs/wings"))`.

    Raises:
        UserError: an option that the suite does not have is not at its default, or one that it needs is missing.
    """

    def __post_init__(self) -> None:
        refuse_foreign(self.suite, [one.name for one in fields(self) if getattr(self, one.name) != one.default])
        self._check_values()
        for one in fields(self):
            if getattr(self, one.name) is not None:
                continue
            if self.suite in one.metadata.get("needed", ()):
                raise UserError(f"{flag(one.name)} is missing; give it, or repeat an earlier run with --from RUN/run.json")
            if self.suite in one.metadata.get("defaults", {}):
                object.__setattr__(self, one.name, default_in(self.suite, one))

    def _check_values(self) -> None:
        check_lowest(self)
        check_choices(self)
        check_until(self.until, base=self.base, margin=self.margin, usual=type(self).margin, tiers=self.tiers)
        check_arms(self.arms, blind=self.blind, style=self.style)
        for name in (*NAMED_VALUES, "device_map"):
            value = getattr(self, name)
            if isinstance(value, Mapping):  # from Python, where a mapping is the natural form
                object.__setattr__(self, name, json.dumps(dict(value)) if value else "")
        for name in NAMED_VALUES:
            parse_named_values(getattr(self, name), flag(name))
        try:
            day = date.fromisoformat(self.date).isoformat() if self.date is not None else None
        except ValueError as error:
            raise UserError(f"--date {self.date!r} is no day ({one_line(error)}); write it as YYYY-MM-DD") from error
        object.__setattr__(self, "date", day)

    def named_values(self, name: str) -> dict[str, Any]:
        """The values of an option of NAME=VALUE pairs (`NAMED_VALUES`), by name."""
        return parse_named_values(getattr(self, name), flag(name))

    @property
    def model_options(self) -> ModelOptions:
        """The options that a model's factory is given."""
        from iit_bench.models.contract import ModelOptions  # reports import this file, and no models

        return ModelOptions(
            checkpoint=self.checkpoint,
            device=self.device,
            dtype=self.dtype,
            device_map=self.device_map,
            quantization=self.quantization,
            attn_implementation=self.attn_implementation,
            seed=self.seed,
            trust_remote_code=self.trust_remote_code,
            adapter=self.adapter,
            chat_template_kwargs=self.named_values("chat_template_kwargs"),
            processor_kwargs=self.named_values("processor_kwargs"),
            date=self.date or "",
            way=self.engine,
            image_cache=self.image_cache,
            server=self.server,
        )

    @property
    def server(self) -> ServerOptions:
        """The options of the server, as a record of their own."""
        return ServerOptions(**{one.name: getattr(self, one.name) for one in fields(ServerOptions)})

    def for_suite(self, suite: Suite, **changes: Any) -> RunOptions:
        """These options for one suite: options that it does not have are at their defaults, then `changes` are made."""
        foreign: dict[str, Any] = {one.name: one.default for one in fields(self) if suite not in suites_of(one)}
        return dataclasses.replace(self, **foreign | {"suite": suite} | changes)

    def check_suite(self, suite: SuiteChoice) -> None:
        """Raise UserError if these are options of another suite."""
        if self.suite != suite:
            raise UserError(f"these options are of suite {self.suite!r}; make them with suite={suite!r}")


def suites_of(one: dataclasses.Field[Any]) -> tuple[SuiteChoice, ...]:
    """Suites that have an option."""
    return tuple(one.metadata.get("suites", EVERY_SUITE))


def default_in(suite: SuiteChoice, one: dataclasses.Field[Any]) -> Any:
    """The default of an option in a suite; MISSING for one that must be given."""
    return one.metadata.get("defaults", {}).get(suite, one.default)


def flag(name: str) -> str:
    """An option's name as the command line spells it."""
    return "--" + name.replace("_", "-")


def refuse_idle(options: RunOptions, given: Iterable[str]) -> None:
    """Refuse options that are given and change nothing, because the option is missing that they belong to.

    Args:
        options: all of them.
        given: names of those that the user wrote, be it with the value that they have by themselves.

    Raises:
        UserError: names them.
    """
    there = {one.name: one for one in fields(options)}
    for name in given:
        other = there[name].metadata.get("only_with") if name in there else ""
        if other and getattr(options, other) == there[other].default:
            raise UserError(f"{flag(name)} has no effect without {flag(other)}; give both, or leave it out")
    if "max_new_tokens" in given and options.suite == "iit" and options.scoring == "loglikelihood":
        raise UserError("--max-new-tokens has no effect under --scoring loglikelihood, where nothing is generated; leave it out")


def refuse_foreign(suite: SuiteChoice, given: Iterable[str]) -> None:
    """Refuse options that are given to a suite which does not have them.

    Raises:
        UserError: names them.
    """
    suites = {one.name: suites_of(one) for one in fields(RunOptions)}
    if foreign := [name for name in given if suite not in suites.get(name, EVERY_SUITE)]:
        raise UserError(f"--suite {suite} has no option {', '.join(map(flag, foreign))}; leave it out")
