"""How a multimodal model is made of a decoder and a tower: key `method` of a visual stage's recipe, a record for each method.

`{name: lora, rank: 16}` names the method and its options. Without a name the recipe's `model` decides, as it did before there were others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from iit_bench.training.ranges import within
from iit_bench.training.records import LearningRates, Replay, VlmModel

LEARNER_SCALE = 2.0  # the released factor
# What is added to the LLM, of Wings and of its parts.
WHOLE, BOTH, VISUAL, TEXTUAL = ("visual", "textual", "router"), ("visual", "textual"), ("visual",), ("textual",)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """A method by name, and what it lets one choose."""

    name: str = ""

    @staticmethod
    def kinds() -> Mapping[str, type[MethodOptions]]:
        """The record of each name."""
        return OPTIONS

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of `LearningRates` that the method can train."""
        return ("llm", "projector")

    def fault(self, rates: LearningRates) -> str | None:
        """What is wrong with learning rates that only has parts the method can train, None if nothing."""
        return None

    @property
    def released(self) -> bool:
        """Whether steps are computed by the equations of the authors' code (`trained_released`)."""
        return False


@dataclass(frozen=True, kw_only=True)
class LearnerOptions(MethodOptions):
    """Wings, whole or a part of it: learners beside the attention. A router weighs two of them; without one each has weight 1."""

    rank: int = within(1, default=16)  # of the learners
    learner_scale: float = within(0, without_low=True, default=LEARNER_SCALE)  # s of docs/spec/wings.md#b5-router-weights
    mode: str = "strict"  # the equations of the steps, strict or released; the model is saved, and scored, as strict

    def __post_init__(self) -> None:
        if self.mode not in ("strict", "released"):
            raise ValueError(f"mode must be strict or released; it is {self.mode!r}")
        if self.released and (self.learner_scale != LEARNER_SCALE or self.added == BOTH):
            raise ValueError(
                f"mode released has learner_scale {LEARNER_SCALE:g} and weighs two learners by a router; leave both as they are"
            )

    @property
    def added(self) -> tuple[str, ...]:
        """Which of visual, textual and router there are, in this order."""
        raise NotImplementedError

    @property
    def parts(self) -> tuple[str, ...]:
        """LLM, projector, and the parts of Wings that are there."""
        return ("llm", "projector", *self.added)

    @property
    def released(self) -> bool:
        """As `mode` says."""
        return self.mode == "released"


@dataclass(frozen=True, kw_only=True)
class WingsOptions(LearnerOptions):
    """Wings: both learners and the router. A switch that is off is another way to name one of the methods below."""

    name: str = "wings"
    visual: bool = True
    textual: bool = True
    router: bool = True

    def __post_init__(self) -> None:
        if not (self.visual or self.textual):
            raise ValueError("visual and textual are both false, so nothing is left of Wings; use method llava, or projector")
        VlmModel(self.visual, self.textual, self.router)
        super().__post_init__()

    @property
    def added(self) -> tuple[str, ...]:
        """As the switches say."""
        return tuple(name for name in WHOLE if getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class WingsVisualOptions(LearnerOptions):
    """Wings with the visual learner only, which has weight 1."""

    name: str = "wings-visual"

    @property
    def added(self) -> tuple[str, ...]:
        """The visual learner."""
        return VISUAL


@dataclass(frozen=True, kw_only=True)
class WingsTextualOptions(LearnerOptions):
    """Wings with the textual learner only, which has weight 1."""

    name: str = "wings-textual"

    @property
    def added(self) -> tuple[str, ...]:
        """The textual learner."""
        return TEXTUAL


@dataclass(frozen=True, kw_only=True)
class WingsWithoutRouterOptions(LearnerOptions):
    """Wings with both learners and no router: each has weight 1."""

    name: str = "wings-without-router"

    @property
    def added(self) -> tuple[str, ...]:
        """Both learners."""
        return BOTH


@dataclass(frozen=True, kw_only=True)
class LlavaOptions(MethodOptions):
    """LLaVA-style full tuning: projector and the whole LLM, a learning rate each."""

    name: str = "llava"


@dataclass(frozen=True, kw_only=True)
class LlavaOneRateOptions(MethodOptions):
    """LLaVA-style full tuning with one learning rate."""

    name: str = "llava-one-rate"

    def fault(self, rates: LearningRates) -> str | None:
        """Two rates are another method."""
        if rates.llm == rates.projector:
            return None
        return "optim.lr.llm and optim.lr.projector must be equal with method llava-one-rate; with two rates the method is llava"


@dataclass(frozen=True, kw_only=True)
class ProjectorOptions(MethodOptions):
    """Projector only: the LLM stays as it is, so text alone is answered as before."""

    name: str = "projector"

    @property
    def parts(self) -> tuple[str, ...]:
        """The projector."""
        return ("projector",)


@dataclass(frozen=True, kw_only=True)
class AdapterOptions(MethodOptions):
    """What is trained is beside the LLM's own weights; the stage starts from an earlier one's folder, without learners."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Adapter and projector."""
        return ("projector", "adapter")


@dataclass(frozen=True, kw_only=True)
class LoraOptions(AdapterOptions):
    """LoRA: low-rank differences of the decoder's linear layers, in place of the LLM's own weights, and the projector."""

    name: str = "lora"
    rank: int = within(1, default=16)
    alpha: float = within(0, without_low=True, default=32.0)  # a difference is B A x · alpha / rank
    targets: tuple[str, ...] = TARGETS  # linear layers of every decoder layer, by name

    def __post_init__(self) -> None:
        if not self.targets or len(set(self.targets)) < len(self.targets) or not set(self.targets) <= set(TARGETS):
            raise ValueError(f"targets must be some of {', '.join(TARGETS)}, each once; it is {', '.join(self.targets) or 'empty'}")


@dataclass(frozen=True, kw_only=True)
class DoraOptions(LoraOptions):
    """DoRA: LoRA with a trained magnitude for each output."""

    name: str = "dora"


@dataclass(frozen=True, kw_only=True)
class PrefixOptions(AdapterOptions):
    """Prefix tuning: keys and values before every row, in every layer of the LLM, and the projector."""

    name: str = "prefix"
    length: int = within(1, default=16)  # keys and values per layer


@dataclass(frozen=True, kw_only=True)
class ReplayOptions(MethodOptions):
    """LLaVA-style full tuning in which a share of the turns are text of the base LLM's own training."""

    name: str = "replay"
    share: float = within(0, 1, without_low=True, without_high=True, default=0.2)  # of the turns
    sources: dict[str, float] = field(default_factory=lambda: {"facts": 0.6, "scenes": 0.4})  # text source -> share of these turns

    def __post_init__(self) -> None:
        Replay(self.share, self.sources)


_LEARNERS = (WingsOptions, WingsVisualOptions, WingsTextualOptions, WingsWithoutRouterOptions)
_ALL = (*_LEARNERS, LlavaOptions, LlavaOneRateOptions, ProjectorOptions, LoraOptions, DoraOptions, PrefixOptions, ReplayOptions)
OPTIONS: Mapping[str, type[MethodOptions]] = {options.name: options for options in _ALL}
