"""`iit-bench train RECIPE --dry-run`: what a training will do, counted without training: sizes, memory, tokens, steps, hours, files.

Models are built in outline (`start.outline`), so nothing but configurations and tokenizers is downloaded, and shapes that do not go
together are found by the code that trains. Rows are those of the first steps themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from iit_bench.errors import UserError
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.training import fused_llm, logs, measured, passes, precision, start
from iit_bench.training import recipe as recipes
from iit_bench.training.chats import checking, files
from iit_bench.training.memory import Decoder, Memory, Pass, estimate
from iit_bench.training.method import groups_of
from iit_bench.training.parallel import REPLICATED
from iit_bench.training.recipe import Loaded
from iit_bench.training.records import BaseInputs, Running
from iit_bench.training.rivals import merging
from iit_bench.training.stages import BaseRecipe, MergeRecipe, TowerRecipe, VlmRecipe
from iit_bench.training.train import CARD, make_task, planned

SAMPLED = 8  # steps whose rows are looked at
GPU_MEMORY = 80 * 10**9  # bytes, of the GPUs that a recipe for several is meant for
UNKNOWN_TEXT = 256  # tokens of text in a row where no tokenizer is available


@dataclass(frozen=True, kw_only=True)
class Part:
    """A group of parameters."""

    name: str
    parameters: int
    rate: float  # peak learning rate; 0 = frozen


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a step, measured on the first steps, or assumed."""

    per_step: float  # rows of a step: optim.batch counts turns
    unit: str  # "tokens", of a vision tower "images"
    mean: float  # units of a row
    longest: int
    labelled: float  # share of the tokens
    pictured: float = 0.0  # share of the tokens that are an image's
    seen: float = 0.0  # share of the tokens from a row's first image on
    padded: float  # tokens of padding per token
    passes: int  # of one process in a step
    largest: int  # tokens of the largest pass, padding counted
    measured: bool


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What one stage will do; a merge has no steps, and no rows."""

    recipe: str
    kind: str
    out: str
    reads: dict[str, str]
    writes: dict[str, int]  # file -> bytes
    parts: list[Part]
    rows: Rows | None
    steps: int
    total: int  # tokens or images of the whole training
    throughput: float | None  # tokens or images per second of all processes together, given or measured
    hours: float | None  # at this throughput
    precision: str
    checkpointing: bool
    processes: int
    parallel: str  # "", "ddp" or "fsdp"
    memory: Memory | None  # of a vision tower not estimated
    without_checkpointing: int | None  # peak bytes, where it would differ
    with_checkpointing: int | None
    data: list[dict[str, Any]]  # the check of own data, as in training.json
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Fields, with the peak of the memory."""
        return asdict(self) | ({"memory": asdict(self.memory) | {"peak": self.memory.peak}} if self.memory else {})


def plan(recipe: str, overrides: Sequence[str], out: Path, processes: int = 1, throughput: float | str | None = None) -> list[StagePlan]:
    """What `recipe` will do, stage by stage.

    Args:
        recipe: name of a shipped recipe or path of a YAML file.
        overrides: "key=value", as after `--set`.
        out: folder that would be made.
        processes: how many will share the work, one GPU each.
        throughput: tokens (of a tower images) per second, of all processes together; "measured": of a few steps of each stage here, where
            its weights are.

    Raises:
        UserError: what would end the training: an unknown input, shapes that do not go together, rows longer than the context.
    """
    return [
        _merge(stage, folder, task) if isinstance(stage.recipe, MergeRecipe) else _stage(stage, folder, task, processes, throughput)
        for stage, folder, task in outlines(recipe, overrides, out)
    ]


def outlines(recipe: str, overrides: Sequence[str], out: Path) -> Iterator[tuple[Loaded, Path, Any]]:
    """Each stage, its folder, and its task with a model without values where it can be."""
    earlier: dict[str, tuple[Any, Any]] = {}
    for stage, folder in planned(recipe, overrides, out):
        of: Any = stage.recipe
        logs.check_board(of.run)
        task: Any = _Merged(of, earlier) if isinstance(of, MergeRecipe) else _outlined(of, earlier)
        earlier[str(folder)] = (task.tower if isinstance(of, TowerRecipe) else task.module, getattr(task, "tokenizer", None))
        yield stage, folder, task


class _Merged:
    """What a merge makes, without values.

    Raises:
        UserError: its folders are not there and no earlier stage makes them, or they do not go together.
    """

    def __init__(self, recipe: MergeRecipe, earlier: dict[str, tuple[Any, Any]]) -> None:
        merging.check_inputs(recipe.inputs)
        config, self.tokenizer = start.earlier_stage(recipe.inputs.model, earlier)
        with torch.device("meta"):
            self.module = WingsForConditionalGeneration._from_config(config, dtype=torch.float32)
        merging.check_base(self.module.state_dict(), start.outline_of_llm(recipe.inputs.llm, earlier).state_dict())
        self.groups = groups_of(self.module)


def _merge(loaded: Loaded, out: Path, task: _Merged) -> StagePlan:
    recipe: Any = loaded.recipe
    parameters = sum(p.numel() for p in task.module.parameters())
    return StagePlan(
        recipe=loaded.name,
        kind=recipe.kind,
        out=str(out),
        reads=_reads(recipe),
        writes={"model.safetensors": 2 * parameters, recipes.KEPT: len(recipes.as_yaml(recipe).encode()), CARD: 4000},
        parts=[Part(name=name, parameters=sum(p.numel() for p in group), rate=0.0) for name, group in task.groups.items()],
        rows=None,
        steps=0,
        total=0,
        throughput=None,
        hours=None,
        precision="float32",
        checkpointing=False,
        processes=1,
        parallel="",
        memory=None,
        without_checkpointing=None,
        with_checkpointing=None,
        data=[],
        notes=[f"nothing is trained: the LLM becomes base + {recipe.alpha:g} (tuned - base), the rest stays"],
    )


def _stage(loaded: Loaded, out: Path, task: Any, processes: int, throughput: float | str | None) -> StagePlan:
    recipe: Any = loaded.recipe
    notes: list[str] = []
    from iit_bench.training.steps import freeze

    freeze(task, recipe.optim)
    parts = [
        Part(name=name, parameters=sum(p.numel() for p in group), rate=getattr(recipe.optim.lr, name))
        for name, group in task.groups.items()
    ]
    parameters = sum(p.numel() for p in task.module.parameters())
    trained = sum(p.numel() for p in task.module.parameters() if p.requires_grad)
    data = _checked(task, recipe, out, notes)
    if lacking := precision.lacking(recipe.run):  # no end: a plan may be for another machine
        notes.append(f"on this machine the training would end: {lacking}")
    rows = _rows(task, recipe, processes, data is not None)
    how = _parallel(recipe.run, processes, parameters, trained, notes)
    memory = with_checkpointing = without = None
    if not isinstance(recipe, TowerRecipe):
        several = {"processes": processes, "sharded": how == "fsdp"}
        of_task = _memory_of(task, recipe, rows, parameters, trained, several)
        memory, without, with_checkpointing = of_task(recipe.run.checkpointing), of_task(False).peak, of_task(True).peak
    total = round(rows.mean * rows.per_step * recipe.optim.steps)
    speed = _measured(loaded, processes, notes) if isinstance(throughput, str) else throughput
    return StagePlan(
        recipe=loaded.name,
        kind=recipe.kind,
        out=str(out),
        reads=_reads(recipe),
        writes={
            "model.safetensors": 2 * parameters,
            "checkpoint/tensors.safetensors": 4 * parameters + 8 * trained,
            recipes.KEPT: len(recipes.as_yaml(recipe).encode()),
            CARD: 4000,
        },
        parts=parts,
        rows=rows,
        steps=recipe.optim.steps,
        total=total,
        throughput=speed,
        hours=None if speed is None else total / speed / 3600,
        precision=recipe.run.precision,
        checkpointing=recipe.run.checkpointing,
        processes=processes,
        parallel=how,
        memory=memory,
        without_checkpointing=without,
        with_checkpointing=with_checkpointing,
        data=data or [],
        notes=notes,
    )


def _measured(loaded: Loaded, processes: int, notes: list[str]) -> float | None:
    """Tokens or images per second of some steps; None, with a note, where the stage cannot run here yet."""
    try:
        speed = measured.throughput(loaded)
    except UserError as error:
        notes.append(f"the throughput was not measured: {error}")
        return None
    if processes > 1:
        notes.append(f"the throughput is {processes} times what one process of this machine reaches")
    return speed * processes


def _outlined(recipe: BaseRecipe | TowerRecipe | VlmRecipe, earlier: dict[str, tuple[Any, Any]]) -> Any:
    """The stage's task, its model without values where it can be."""
    if isinstance(recipe, VlmRecipe):
        from iit_bench.training.vlm import VlmTask

        return VlmTask(recipe, lambda recipe, method: start.outline(recipe, method, earlier))
    if isinstance(recipe, BaseRecipe) and recipe.inputs.model in earlier:
        recipe = dataclasses.replace(recipe, inputs=BaseInputs())
    return make_task(recipe)


def _checked(task: Any, recipe: Any, out: Path, notes: list[str]) -> list[dict[str, Any]] | None:
    """The check of own data, empty where there are none; None where rows cannot be looked at, which a note says.

    Raises:
        UserError: a file is missing or damaged, or too many of its records cannot be trained on.
    """
    if not isinstance(recipe, VlmRecipe):
        return []
    assumed = f"a row is taken to be an image and {UNKNOWN_TEXT} tokens of text, half of them labelled"
    lost = [part.source for part in recipe.data.mixture if not files.is_here(part)]
    if task.tokenizer is None or lost:
        notes += files.check_places(recipe.data.mixture)
    if task.tokenizer is None:
        notes.append(f"the Hub's files are not available here: sizes are those of the recipe's shapes, and {assumed}")
        return None
    if lost:
        notes.append(f"{lost[0]} is not in the Hub's cache on this machine: {assumed}; --check-data downloads and checks it")
        return None
    mixture = task.mixture(out if (out / checking.CACHE).is_file() else None)
    if mixture is not None and (note := mixture.note()):
        notes.append(note)
    return [] if mixture is None else mixture.report.as_json()


def _rows(task: Any, recipe: Any, processes: int, measured: bool) -> Rows:
    """Rows of the first steps, or assumed ones.

    Raises:
        UserError: an image, or a row, is longer than the context.
    """
    batch = recipe.optim.batch
    if isinstance(recipe, TowerRecipe):
        return Rows(per_step=batch, unit="images", mean=1, longest=1, labelled=1, padded=0, passes=1, largest=batch, measured=True)
    _check_room(task, recipe)
    if not measured:
        image, context = task.module.config.image_token_length, task.module.config.router_width
        length = min(context, image + UNKNOWN_TEXT)
        least = max(1, batch // processes)
        each = max(1, recipe.run.accumulate // length) if recipe.run.accumulate else least
        return Rows(
            per_step=batch,
            unit="tokens",
            mean=length,
            longest=length,
            labelled=UNKNOWN_TEXT / 2 / length,
            pictured=image / length,
            seen=1,
            padded=0,
            passes=-(-least // each),
            largest=min(least, each) * length,
            measured=False,
        )
    lengths, labelled, pictured, seen, padded, most, largest = [], 0, 0, 0, 0, 0, 0
    mark = task.tokenizer.convert_tokens_to_ids(start.IMAGE)
    sampled = range(min(SAMPLED, recipe.optim.steps))
    packs = not recipe.run.checkpointing and passes.packed(task, recipe.run, processes)
    for step in sampled:
        rows = task.rows(step)
        of_step = [task.size(row) for row in rows]
        plans = passes.plan(of_step, processes, passes.most(recipe.run, packs), passes.fixed_cost(recipe.run.device, packs))
        padded += sum(passes.padding(of_step, one, packs) for one in plans)
        most = max(most, *(len(one) for one in plans))
        largest = max(largest, *(passes.tokens([of_step[row] for row in one], packs) for plan in plans for one in plan if one))
        lengths += of_step
        labelled += task.weight(rows)
        pictured += sum(row.ids.count(mark) for row in rows)
        seen += sum(len(row.ids) - row.ids.index(mark) for row in rows if mark in row.ids)
    return Rows(
        per_step=len(lengths) / len(sampled),
        unit="tokens",
        mean=sum(lengths) / len(lengths),
        longest=max(lengths),
        labelled=labelled / sum(lengths),
        pictured=pictured / sum(lengths),
        seen=seen / sum(lengths),
        padded=padded / sum(lengths),
        passes=most,
        largest=largest,
        measured=True,
    )


def _check_room(task: Any, recipe: Any) -> None:
    """Refuse a context that an image fills, and a router narrower than the context."""
    if not isinstance(recipe, VlmRecipe):
        return
    config, tokenizer = task.module.config, task.tokenizer
    context = config.router_width if tokenizer is None else tokenizer.model_max_length
    if config.image_token_length >= context:
        raise UserError(
            f"recipe: an image takes {config.image_token_length} tokens and the context has {context}, which leaves no room for text; "
            "raise inputs.context, or take a tower with fewer tokens"
        )
    if config.has_router and config.router_width < context:
        raise UserError(
            f"recipe: the router is {config.router_width} tokens wide and rows may have {context}; lower the tokenizer's model_max_length "
            "to the router's width"
        )


def _parallel(run: Running, processes: int, parameters: int, trained: int, notes: list[str]) -> str:
    if processes == 1:
        return ""
    if run.parallel != "auto":
        return run.parallel
    here = torch.cuda.is_available()
    room = torch.cuda.get_device_properties(0).total_memory if here else GPU_MEMORY
    if not here:
        notes.append("parallel auto is decided for GPUs of 80 GB, as there is none here")
    return "fsdp" if 4 * parameters + 12 * trained > REPLICATED * room else "ddp"


def _memory_of(task: Any, recipe: Any, rows: Rows, parameters: int, trained: int, several: dict[str, Any]) -> Callable[[bool], Memory]:
    config = task.module.config
    text = getattr(config, "text_config", config)
    learners = config.active_learners if hasattr(config, "active_learners") else ()
    heads = text.num_attention_heads
    decoder = Decoder(
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        heads=heads,
        key_heads=text.num_key_value_heads,
        head=getattr(text, "head_dim", None) or text.hidden_size // heads,
        mlp=text.intermediate_size,
        vocabulary=text.vocab_size,
        rank=getattr(config, "lora_dim", 0),
        visual="visual" in learners,
        textual="textual" in learners,
        router=bool(getattr(config, "has_router", False)),
        fused=recipe.run.precision == "float32" and not several["sharded"] and fused_llm.fits_last(task.module.model),
    )

    def of(checkpointing: bool) -> Memory:
        return estimate(
            parameters=parameters,
            trained=trained,
            decoder=decoder,
            of_step=Pass(tokens=rows.largest, labelled=round(rows.largest * rows.labelled), pictured=rows.pictured, seen=rows.seen),
            llm_trained=recipe.optim.lr.llm > 0,
            bfloat16=recipe.run.precision == "bfloat16",
            checkpointing=checkpointing,
            **several,
        )

    return of


def _reads(recipe: Any) -> dict[str, str]:
    inputs = asdict(recipe.inputs) if hasattr(recipe, "inputs") else {}
    reads = {f"inputs.{key}": value for key, value in inputs.items() if key in ("llm", "tower", "model") and value}
    mixture = recipe.data.mixture if isinstance(recipe, VlmRecipe) else ()
    for place, part in enumerate(mixture):
        named = {"": part.source, ".images": part.images}
        reads |= {f"data.mixture[{place}]{key}": value for key, value in named.items() if value}
    return reads
