"""Recipes: YAML files with all that determines a training, checked against the records below.

A key that is not in the records is an error, in the file and in `--set`, and so is a value outside its range. A learning rate of 0
freezes its group, so the partition of the paper (what is trained at which stage, and how fast) is read off one table.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from iit_bench.errors import UserError, one_line
from iit_bench.training.ranges import check, within


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Peak learning rate of each parameter group; 0 freezes the group."""

    llm: float = within(0, default=0.0)  # embeddings, decoder layers, head
    tower: float = within(0, default=0.0)
    projector: float = within(0, default=0.0)
    visual: float = within(0, default=0.0)  # visual learner
    textual: float = within(0, default=0.0)  # textual learner
    router: float = within(0, default=0.0)


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
    score: int = within(1, default=500)  # dev scores
    checkpoint: int = within(1, default=200)


@dataclass(frozen=True)
class Dialogues:
    """How training dialogues are drawn."""

    turns: tuple[int, ...] = within(1, 8, default=(1, 2, 3))  # lengths, each as likely; all dialogues of one batch have the same
    alike: float = within(
        0, 1, default=0.5
    )  # share of later turns that ask of the first turn's subject (benchmark histories are near by meaning)


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

    A value is a folder, or `shipped:NAME` for a model that comes with the package.
    """

    llm: str = ""
    tower: str = ""
    model: str = ""


@dataclass(frozen=True)
class BaseInputs:
    """Where a base LLM starts: from the folder of an earlier one, or, empty, from random weights."""

    model: str = ""


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """A base LLM: facts, and described scenes in the words of easy-VQA."""

    kind: str
    optim: Optimisation
    inputs: BaseInputs = field(default_factory=BaseInputs)
    model: BaseModel = field(default_factory=BaseModel)
    data: Dialogues = field(default_factory=Dialogues)
    scenes: float = within(0, 1, default=0.4)  # share of turns about a described scene
    every: Every = field(default_factory=Every)
    seed: int = within(0, 2**63 - 1, default=0)
    test: bool = False  # score the test split at the very end
    limit: int = within(0, default=0)  # questions of each score at the end; 0 = all

    def __post_init__(self) -> None:
        _check_rates(self.optim.lr, ("llm",), "a base LLM")


@dataclass(frozen=True, kw_only=True)
class TowerRecipe:
    """A vision tower from nothing: shape and colour of easy-VQA's train images."""

    kind: str
    optim: Optimisation
    model: TowerModel = field(default_factory=TowerModel)
    every: Every = field(default_factory=Every)
    seed: int = within(0, 2**63 - 1, default=0)
    test: bool = False
    limit: int = within(0, default=0)

    def __post_init__(self) -> None:
        _check_rates(self.optim.lr, ("tower",), "a vision tower")


@dataclass(frozen=True, kw_only=True)
class VlmRecipe:
    """One stage of a multimodal model: VQA dialogues, each turn with its own image."""

    kind: str
    optim: Optimisation
    inputs: VlmInputs
    model: VlmModel = field(default_factory=VlmModel)
    data: Dialogues = field(default_factory=Dialogues)
    every: Every = field(default_factory=Every)
    seed: int = within(0, 2**63 - 1, default=0)
    test: bool = False
    limit: int = within(0, default=0)

    def __post_init__(self) -> None:
        if self.optim.lr.tower:
            raise ValueError("optim.lr.tower must be 0 in a visual stage; the tower is frozen here, as in the paper")
        learners = [name for name in ("visual", "textual", "router") if getattr(self.model, name)]
        _check_rates(self.optim.lr, ("llm", "projector", *learners), "this model")


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


Recipe = BaseRecipe | TowerRecipe | VlmRecipe | ChainRecipe
KINDS: dict[str, type[Recipe]] = {"base": BaseRecipe, "tower": TowerRecipe, "vlm": VlmRecipe, "chain": ChainRecipe}


@dataclass(frozen=True)
class Loaded:
    """A recipe as it will run."""

    name: str  # file name without .yaml
    sha256: str  # of the file's content without comments and layout
    overrides: tuple[str, ...]  # "key=value", those that count, by key: of two for one key the last
    recipe: Recipe


def shipped() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    folder = resources.files("iit_bench") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(recipe: str, overrides: Sequence[str] = ()) -> Loaded:
    """Read a recipe by name or path and put `key=value` overrides (dotted keys, YAML values) over it.

    Raises:
        UserError: no such recipe, not YAML, an unknown key, a value of the wrong type or outside its range.
    """
    name, text = _read(recipe)
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"recipe {recipe}: is not YAML ({one_line(error)}); compare it with a shipped recipe") from None
    if not isinstance(raw, dict) or raw.get("kind") not in KINDS:
        raise UserError(f"recipe {recipe}: its key 'kind' must be one of {', '.join(KINDS)}")
    sha256 = hashlib.sha256(json.dumps(raw, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    counting: dict[str, str] = {}
    for override in overrides:
        key, sign, value = (part.strip() for part in override.partition("="))
        if not sign:
            raise UserError(f"--set {override}: must be key=value, e.g. --set seed=1")
        try:
            _put(raw, key, yaml.safe_load(value))
        except yaml.YAMLError:
            raise UserError(f"--set {override}: the value is not YAML; quote it, e.g. --set '{key}=[1, 2]'") from None
        counting = {other: text for other, text in counting.items() if other != key and not other.startswith(f"{key}.")} | {key: value}
    in_order = sorted(counting, key=lambda key: key.split("."))  # a part comes after the whole that it changes
    recorded = tuple(f"{key}={counting[key]}" for key in in_order)
    return Loaded(name, sha256, recorded, fill(KINDS[raw["kind"]], raw, f"recipe {name}"))


Record = TypeVar("Record")


def fill(cls: type[Record], raw: Any, where: str) -> Record:
    """Make record `cls` from a mapping, and the records inside it from the mappings inside."""
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: must be a mapping with keys among {', '.join(fields)}; it is {raw!r}")
    for key in raw:
        if key not in fields:
            raise UserError(f"{where}: unknown key {key!r}; the known keys are {', '.join(fields)}")
    hints = typing.get_type_hints(cls)
    values = {key: _value(hints[key], value, f"{where}, key {key!r}") for key, value in raw.items()}
    for key, value in values.items():
        check(fields[key], value, f"{where}, key {key!r}")
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}: lacks the key {missing[0]!r}; add it")
    try:
        return cls(**values)
    except ValueError as error:  # values that do not go together
        raise UserError(f"{where}: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return fill(typing.cast(type, hint), value, where)
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, list | tuple):
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return dict(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            pass
    elif isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    wanted = (
        hint.__name__
        if isinstance(hint, type) and not isinstance(hint, types.GenericAlias)
        else "a list"
        if origin is tuple
        else "a mapping"
    )
    raise UserError(f"{where}: must be {wanted}; it is {value!r}")


def _put(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise UserError(f"--set {key}: {parent!r} has no keys inside; see the recipe for the known keys")
    raw[last] = value


def _read(recipe: str) -> tuple[str, bytes]:
    if recipe in shipped():
        return recipe, resources.files("iit_bench").joinpath("recipes", f"{recipe}.yaml").read_bytes()
    path = Path(recipe)
    if not path.is_file():
        raise UserError(f"recipe {recipe!r}: neither a file nor one of {', '.join(shipped())}; give one of these names or a path")
    return path.stem, path.read_bytes()
