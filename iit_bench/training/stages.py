"""The kinds of recipes: one stage of training each, or a chain of stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from iit_bench.training.method_records import AdapterOptions, LlavaOneRateOptions, LlavaOptions, MethodOptions, WingsOptions
from iit_bench.training.ranges import within
from iit_bench.training.records import (
    IMAGE_SOURCES,
    ONE_IMAGE,
    PICTURES,
    BaseInputs,
    BaseModel,
    Dialogues,
    Every,
    LearningRates,
    Optimisation,
    Running,
    Shapes,
    TowerModel,
    VlmInputs,
    VlmModel,
)


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """A base LLM: facts, and described scenes in the words of easy-VQA; or the text sources that `data` names."""

    kind: str
    optim: Optimisation
    inputs: BaseInputs = field(default_factory=BaseInputs)
    model: BaseModel = field(default_factory=BaseModel)
    data: Dialogues = field(default_factory=Dialogues)
    scenes: float = within(0, 1, default=0.4)  # share of turns about a described scene, where `data` names no sources
    every: Every = field(default_factory=Every)
    run: Running = field(default_factory=Running)
    seed: int = within(0, 2**63 - 1, default=0)
    test: bool = False  # score the test split at the very end
    limit: int = within(0, default=0)  # most questions of each score; 0 = all at the end, and every.questions during training

    def __post_init__(self) -> None:
        _check_rates(self.optim.lr, ("llm",), "a base LLM")
        if self.data.mixture:
            raise ValueError("data.mixture is read by the stages of kind vlm only; a base LLM takes data.sources")
        if self.data.replay.share or self.data.without_images:
            raise ValueError("data.replay and data.without_images are for the stages of kind vlm; a base LLM sees text only")
        if pictured := [name for name in self.data.sources if name in IMAGE_SOURCES]:
            raise ValueError(f"data.sources has {pictured[0]}, whose questions have images, and a base LLM sees none; leave it out")


@dataclass(frozen=True, kw_only=True)
class TowerRecipe:
    """A vision tower from nothing: what is on the train pictures of the lab's sources, a classifier for each."""

    kind: str
    optim: Optimisation
    model: TowerModel = field(default_factory=TowerModel)
    pictures: tuple[str, ...] = ("shapes",)  # shapes (easy-VQA's shape and colour), digits, flags: an equal part of each batch
    every: Every = field(default_factory=Every)
    run: Running = field(default_factory=Running)
    seed: int = within(0, 2**63 - 1, default=0)
    test: bool = False
    limit: int = within(0, default=0)

    def __post_init__(self) -> None:
        _check_rates(self.optim.lr, ("tower",), "a vision tower")
        if not self.pictures or len(set(self.pictures)) < len(self.pictures) or not set(self.pictures) <= set(PICTURES):
            raise ValueError(f"pictures must be some of {', '.join(PICTURES)}, each once; it is {', '.join(self.pictures) or 'empty'}")
        if self.optim.batch < len(self.pictures):
            raise ValueError(f"optim.batch must be {len(self.pictures)} or more, one picture of each kind; it is {self.optim.batch}")


@dataclass(frozen=True, kw_only=True)
class VlmRecipe:
    """One stage of a multimodal model: VQA dialogues, each turn with its own image."""

    kind: str
    optim: Optimisation
    inputs: VlmInputs
    shapes: Shapes = field(default_factory=Shapes)
    model: VlmModel = field(default_factory=VlmModel)
    method: MethodOptions = field(default_factory=MethodOptions)
    data: Dialogues = field(default_factory=Dialogues)
    every: Every = field(default_factory=Every)
    run: Running = field(default_factory=Running)
    seed: int = within(0, 2**63 - 1, default=0)
    test: bool = False
    limit: int = within(0, default=0)

    def __post_init__(self) -> None:
        if self.optim.lr.tower:
            raise ValueError("optim.lr.tower must be 0 in a visual stage; the tower is frozen here, as in the paper")
        rates = self.optim.lr
        if self.data.without_images and not (rates.llm or rates.textual or rates.adapter):
            raise ValueError(
                "data.without_images leaves nothing to train: text does not reach the projector or the visual learner; give llm, textual "
                "or adapter a rate under optim.lr, or leave it out"
            )
        if not self.method.name:
            learners = [name for name in ("visual", "textual", "router") if getattr(self.model, name)]
            _check_rates(self.optim.lr, ("llm", "projector", *learners), "this model")
            return
        if self.model != VlmModel():
            raise ValueError("model and method both say what is put on the LLM; leave out model, and give its values under method")
        _check_rates(self.optim.lr, self.method.parts, f"a model of method {self.method.name}")
        if fault := self.method.fault(self.optim.lr):
            raise ValueError(fault)
        if self.method.name == "replay" and self.data.mixture:
            raise ValueError(
                "method replay is for data without a mixture; in one, replay text by parts such as lab:facts, with method llava"
            )
        if isinstance(self.method, AdapterOptions) and not self.inputs.model:
            raise ValueError(
                f"method {self.method.name} adapts an earlier stage's model; name its folder in inputs.model, e.g. that of lab-llava-stage1"
            )
        if self.method.released:
            _check_one_image(self.data)
        if self.method.name == "replay" and self.data.replay.share:
            raise ValueError("method replay and data.replay both say what is replayed; use one of them")


@dataclass(frozen=True, kw_only=True)
class MergeRecipe:
    """No training: the LLM of `inputs.model` averaged with its base, `inputs.llm` (see `rivals.merging`)."""

    kind: str
    inputs: VlmInputs = field(default_factory=VlmInputs)
    alpha: float = within(0, 1, default=0.5)  # share of the tuned weights; 0 = those of the base
    data: Dialogues = field(default_factory=Dialogues)  # what it is scored on
    run: Running = field(default_factory=Running)
    seed: int = within(0, 2**63 - 1, default=0)  # nothing is drawn; a chain sets it for all its stages
    test: bool = False
    limit: int = within(0, default=0)


def _check_one_image(data: Dialogues) -> None:
    """Every row of mode `released` has one image."""
    several = sorted(set(data.sources) - set(ONE_IMAGE))
    if data.turns != (1,) or several or data.mixture or data.replay.share or data.without_images:
        raise ValueError(
            "method.mode released takes rows with one image each: set data.turns to [1] and data.sources to some of "
            f"{', '.join(ONE_IMAGE)}, without data.mixture, data.replay and data.without_images"
        )


def _check_rates(rates: LearningRates, parts: Sequence[str], what: str) -> None:
    """Only parts that the model has can be trained, and one must be."""
    if not any(dataclasses.asdict(rates).values()):
        raise ValueError("every learning rate under optim.lr is 0, so nothing would be trained; set one above 0")
    for name, rate in dataclasses.asdict(rates).items():
        if rate and name not in parts:
            raise ValueError(f"optim.lr.{name} is above 0, but {what} has no such part; the parts are {', '.join(parts)}")


IN_CHAIN = "OUT/"  # before the folder of an earlier stage


@dataclass(frozen=True)
class Stage:
    """One recipe of a chain. A value `OUT/NAME` in `set` is the folder of an earlier stage."""

    recipe: str
    out: str
    set: dict[str, Any] = field(default_factory=dict)

    def inputs(self) -> list[str]:
        """The earlier stages whose folders it reads, as their `out` names them."""
        texts = [value for value in self.set.values() if isinstance(value, str)]
        return [text.removeprefix(IN_CHAIN) for text in texts if text.startswith(IN_CHAIN)]


@dataclass(frozen=True)
class ChainRecipe:
    """Recipes run one after the other, each into a folder of its own."""

    kind: str
    stages: tuple[Stage, ...]
    set: dict[str, Any] = field(default_factory=dict)  # overrides of every stage, e.g. seed

    def __post_init__(self) -> None:
        done: set[str] = set()
        if not self.stages:
            raise ValueError("stages is an empty list; name one recipe or more")
        for stage in self.stages:
            if stage.out in done:
                raise ValueError(f"two stages have the folder {stage.out!r} as their out; give each its own")
            if missing := [value for value in stage.inputs() if value not in done]:
                raise ValueError(f"stage {stage.out!r} reads OUT/{missing[0]}, which no stage before it writes; put that stage first")
            done.add(stage.out)


def options_of(recipe: VlmRecipe) -> MethodOptions:
    """The options of the method that a recipe trains by: the one it names, or the one that its `model` and rates describe."""
    model, rates = recipe.model, recipe.optim.lr
    if recipe.method.name:
        return recipe.method
    if model.visual or model.textual or model.router:
        return WingsOptions(visual=model.visual, textual=model.textual, router=model.router, rank=model.rank)
    return LlavaOneRateOptions() if rates.llm == rates.projector else LlavaOptions()
