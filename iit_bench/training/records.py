"""The records that recipes are made of: how is optimised, on what, and the shapes of models. Read by `recipe`, put together in `stages`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iit_bench.training.chats import hub
from iit_bench.training.ranges import listed, within


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Peak learning rate of each parameter group; 0 freezes the group."""

    llm: float = within(0, default=0.0)  # embeddings, decoder layers, head
    tower: float = within(0, default=0.0)
    projector: float = within(0, default=0.0)
    visual: float = within(0, default=0.0)  # visual learner
    textual: float = within(0, default=0.0)  # textual learner
    router: float = within(0, default=0.0)
    adapter: float = within(0, default=0.0)  # of methods lora, dora and prefix


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """AdamW with a cosine schedule after a linear warm-up; weights and moments in float32."""

    steps: int = within(1)
    batch: int = within(1)  # turns (text, VQA) or images (tower) a step
    lr: LearningRates
    warmup: float = within(0, 1, default=0.03)  # share of the steps
    final: float = within(0, 1, default=0.0)  # learning rate at the end, as a share of the peak
    weight_decay: float = within(0, default=0.0)
    beta1: float = within(0, 1, without_high=True, default=0.9)
    beta2: float = within(0, 1, without_high=True, default=0.999)
    clip: float = within(0, without_low=True, default=1.0)  # largest norm of the whole gradient


@dataclass(frozen=True)
class Every:
    """How often, in steps."""

    log: int = within(1, default=50)
    score: int = within(1, default=500)  # dev scores, and the validation loss
    checkpoint: int = within(1, default=200)
    questions: int = within(1, default=150)  # most questions of each of these dev scores; fewer where the recipe's `limit` is lower


DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("float32", "bfloat16")
PARALLEL = ("auto", "ddp", "fsdp")


@dataclass(frozen=True, kw_only=True)
class Running:
    """How steps are computed. In float32 the result depends on it by rounding only; what is trained and on what is said elsewhere.

    Weights, gradients and moments are float32 in either precision: in bfloat16 weights small updates would round to nothing.
    """

    device: str = "cpu"  # cpu, cuda, mps, or auto: the GPU where there is one
    precision: str = "float32"  # of products and attention: float32 or bfloat16
    accumulate: int = within(0, default=0)  # most tokens of one pass, padding counted; a step adds up its passes; 0 = no limit
    checkpointing: bool = False  # recompute each layer in the backward pass, in place of keeping what is inside it
    parallel: str = "auto"  # of several processes: ddp (each has all weights), fsdp (each a share), auto = ddp where it fits
    features: int = within(0, default=2048)  # MiB of a frozen tower's features that a process keeps, so that an image goes through it once
    tensorboard: bool = False  # also write loss, rates, gradient norm and throughput to the folder's tensorboard/

    def __post_init__(self) -> None:
        for name, value, known in (
            ("device", self.device, DEVICES),
            ("precision", self.precision, PRECISIONS),
            ("parallel", self.parallel, PARALLEL),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; it is {value!r}")


TEXT_SOURCES = ("facts", "two-hop", "scenes", "digit-words", "flag-words")
IMAGE_SOURCES = ("easyvqa", "digits", "flags", "flag-facts")
ONE_IMAGE = ("easyvqa", "flags", "flag-facts")  # of them, those whose questions have one image each
LAB_SOURCES = TEXT_SOURCES + IMAGE_SOURCES
PICTURES = ("shapes", "digits", "flags")  # what a vision tower is trained on


COLUMNS = ("messages", "conversations", "texts", "question", "answer", "image", "images")  # what the schemas of chats are read from
LAB = "lab:"  # before the name of one of the lab's sources


@dataclass(frozen=True, kw_only=True)
class Part:
    """One source of a mixture."""

    source: str  # a .json, .jsonl or .parquet file, a folder of them laid out as on the Hub, hf:OWNER/NAME of the Hub, or lab:NAME
    weight: float = within(0, without_low=True, default=1.0)  # its share of the chats, beside the weights of the others
    images: str = (
        ""  # folder or .zip file that image paths are relative to and stay in, or hf:OWNER/NAME/FILE.zip; empty: where the file is
    )
    split: str = "train"  # of a folder, or of the Hub where source does not name it
    subset: str = ""  # of a folder or of the Hub: the configuration of the data set; empty: its default one
    columns: dict[str, str] = field(default_factory=dict)  # known name (question, answer, image, messages, …) -> name in the records

    def __post_init__(self) -> None:
        if self.source.startswith(LAB) and self.source.removeprefix(LAB) not in LAB_SOURCES:
            raise ValueError(f"source has no {self.source!r}; the lab's sources are {', '.join(LAB + name for name in LAB_SOURCES)}")
        for text in (self.source, self.images):
            if text.startswith(hub.HUB):
                place = hub.parse(text)
                if place.subset and self.subset not in ("", place.subset):
                    raise ValueError(f"subset is {self.subset!r}, and {text!r} names another; give one of them")
        if self.images.startswith(hub.HUB) and not hub.parse(self.images).file.endswith(".zip"):
            raise ValueError(f"images must name one .zip file of the data set, as hf:OWNER/NAME/images.zip; it is {self.images!r}")
        if unknown := sorted(set(self.columns) - set(COLUMNS)):
            raise ValueError(f"columns has {unknown[0]!r}, which no schema has; the known names are {', '.join(COLUMNS)}")
        if odd := [name for name in self.columns.values() if not isinstance(name, str)]:
            raise ValueError(f"columns must be names, and {odd[0]!r} is not")


def check_shares(sources: Mapping[str, float], known: Sequence[str], kind: str) -> None:
    """Refuse names that are not in `known`, and shares that are no numbers above 0.

    Raises:
        ValueError: in one sentence; `kind` is what the known names are.
    """
    for name, share in sources.items():
        if name not in known:
            raise ValueError(f"sources has no {name!r}; the lab's {kind} are {', '.join(known)}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < math.inf:
            raise ValueError(f"the share of source {name} must be a number above 0, it is {share!r}; leave out what is not wanted")


@dataclass(frozen=True)
class Replay:
    """Text of the base LLM's own training among a visual stage's turns, whatever its method."""

    share: float = within(0, 1, without_high=True, default=0.0)  # of the turns; 0 = none
    sources: dict[str, float] = field(default_factory=lambda: {"facts": 0.6, "scenes": 0.4})  # text source -> share of these turns

    def __post_init__(self) -> None:
        check_shares(self.sources, TEXT_SOURCES, "text sources")
        if not self.sources:
            raise ValueError("sources is empty, so there is no text to replay; name one of " + ", ".join(TEXT_SOURCES))


@dataclass(frozen=True)
class Dialogues:
    """How training dialogues are drawn."""

    turns: tuple[int, ...] = within(1, 8, default=(1, 2, 3))  # lengths, each as likely; all dialogues of one batch have the same
    alike: float = within(
        0, 1, default=0.5
    )  # share of later turns that ask of the first turn's subject (benchmark histories are near by meaning)
    sources: dict[str, float] = field(default_factory=dict)  # source -> share of the turns; empty: facts and scenes, or easyvqa
    replay: Replay = field(default_factory=Replay)
    without_images: bool = False  # the text-only control: the same draws, and no image is shown in training
    mixture: tuple[Part, ...] = listed()  # files of chats and sources of the lab; a step has optim.batch chats
    refuse_above: float = within(0, 1, default=0.01)  # of a file's records that cannot be trained on: a larger share ends the run
    longest: int = within(0, default=0)  # tokens of a chat in a file, longer ones are refused; 0: the model's context
    pixels: bool = True  # before the first step decode every image of the files whole; false: read its header only

    def __post_init__(self) -> None:
        if self.mixture and self.sources:
            raise ValueError("sources and mixture exclude each other; write the lab's sources into mixture as lab:NAME")
        if self.mixture and (self.replay.share or self.without_images):
            name = "replay" if self.replay.share else "without_images"
            raise ValueError(f"{name} is for data without a mixture; in one, text is a part such as lab:facts")
        check_shares(self.sources, LAB_SOURCES, "sources")


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """Shape of the nano LLM: a Llama decoder and a byte-level BPE."""

    layers: int = within(1, default=4)
    width: int = within(1, default=192)
    heads: int = within(1, default=6)
    mlp: int = within(1, default=512)
    context: int = within(64, default=1024)  # tokens
    vocabulary: int = within(262, default=2000)  # tokens: 256 bytes and 6 marks at least

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be divisible by twice heads, it is {self.width} with {self.heads} heads; change one of them")


@dataclass(frozen=True)
class TowerModel:
    """Shape of the nano vision tower: a RegNet whose last map is image_size / 2 / 2**stages wide."""

    image_size: int = within(8, 1024, default=64)  # pixels
    embedding: int = within(1, default=32)
    hidden: tuple[int, ...] = within(1, default=(32, 64, 128))
    depths: tuple[int, ...] = within(1, default=(1, 1, 1))

    def __post_init__(self) -> None:
        stages = len(self.hidden)
        if len(self.depths) != stages:
            raise ValueError(f"depths has {len(self.depths)} numbers and hidden has {stages}; give each stage one of both")
        if odd := [width for width in self.hidden if width % min(self.hidden)]:
            raise ValueError(f"every width of hidden must be a multiple of the smallest, {min(self.hidden)}; {odd[0]} is not")
        if self.image_size % 2 ** (stages + 1):
            raise ValueError(f"image_size must be a multiple of {2 ** (stages + 1)} with {stages} stages; it is {self.image_size}")


@dataclass(frozen=True)
class VlmModel:
    """What is put on the LLM. Wings: both learners and the router; LLaVA-style: none of them."""

    visual: bool = False
    textual: bool = False
    router: bool = False
    rank: int = within(1, default=16)  # of the learners

    def __post_init__(self) -> None:
        if self.router and not (self.visual and self.textual):
            raise ValueError("router weighs two learners; set visual and textual to true as well, or router to false")


@dataclass(frozen=True)
class VlmInputs:
    """Where a visual stage starts: from `model` (an earlier stage's folder), or from `llm` and `tower`.

    A value is a folder, or `shipped:NAME` for a model that comes with the package; `llm` and `tower` may also be `OWNER/NAME[@REVISION]`
    of the Hub, and `llm` a GGUF file.
    """

    llm: str = ""
    tower: str = ""
    model: str = ""
    tower_layer: int = within(-1000, 1000, default=0)  # index into the tower's hidden states, as -2 = before its last layer; 0 = its output
    context: int = within(0, default=0)  # longest row in tokens, and the router's width; 0 = as the LLM has it
    template: str = ""  # "chatml" in place of the LLM's own chat template

    def __post_init__(self) -> None:
        if self.template not in ("", "chatml"):
            raise ValueError(f"template must be chatml, or empty for the LLM's own; it is {self.template!r}")
        if self.model and (self.tower_layer or self.context or self.template):
            raise ValueError("tower_layer, context and template go with inputs.llm and inputs.tower; an earlier stage's folder has its own")


@dataclass(frozen=True)
class Shapes:
    """Fields of the configurations of `inputs.llm` and `inputs.tower`, by which --dry-run counts where the Hub cannot be reached."""

    llm: dict[str, Any] = field(default_factory=dict)
    tower: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, shape in (("llm", self.llm), ("tower", self.tower)):
            if shape and not isinstance(shape.get("model_type"), str):
                raise ValueError(f"shapes.{name} needs the key model_type, as in a config.json")


@dataclass(frozen=True)
class BaseInputs:
    """Where a base LLM starts: from the folder of an earlier one, or, empty, from random weights."""

    model: str = ""
