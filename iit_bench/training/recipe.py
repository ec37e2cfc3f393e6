"""Recipes: YAML files with all that determines a training, checked against the records below.

A key that is not in the records is an error, in the file and in `--set`. A learning rate of 0 freezes its group, so the partition of the
paper (what is trained at which stage, and how fast) is read off one table.
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

from iit_bench.errors import UserError, first_line


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Peak learning rate of each parameter group; 0 freezes the group."""

    llm: float = 0.0  # embeddings, decoder layers, head
    tower: float = 0.0
    projector: float = 0.0
    visual: float = 0.0  # visual learner
    textual: float = 0.0  # textual learner
    router: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """AdamW with a cosine schedule after a linear warm-up; weights and moments in float32."""

    steps: int
    batch: int  # turns (text, VQA) or images (tower) a step
    lr: LearningRates
    warmup: float = 0.03  # share of the steps
    final: float = 0.0  # learning rate at the end, as a share of the peak
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    clip: float = 1.0  # largest norm of the whole gradient


@dataclass(frozen=True)
class Every:
    """How often, in steps."""

    log: int = 50
    score: int = 500  # dev scores
    checkpoint: int = 200


@dataclass(frozen=True)
class Dialogues:
    """How training dialogues are drawn."""

    turns: tuple[int, ...] = (1, 2, 3)  # lengths, each as likely; all dialogues of one batch have the same
    alike: float = 0.5  # share of later turns that ask of the first turn's subject (benchmark histories are near by meaning)


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """Shape of the nano LLM: a Llama decoder and a byte-level BPE."""

    layers: int = 4
    width: int = 192
    heads: int = 6
    mlp: int = 512
    context: int = 1024
    vocabulary: int = 2000


@dataclass(frozen=True)
class TowerModel:
    """Shape of the nano vision tower: a RegNet whose last map is image_size / 2 / 2**stages wide."""

    image_size: int = 64
    embedding: int = 32
    hidden: tuple[int, ...] = (32, 64, 128)
    depths: tuple[int, ...] = (1, 1, 1)


@dataclass(frozen=True)
class VlmModel:
    """What is put on the LLM. Wings: both learners and the router; LLaVA-style: none of them."""

    visual: bool = False
    textual: bool = False
    router: bool = False
    rank: int = 16  # of the learners


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
    scenes: float = 0.4  # share of turns about a described scene
    every: Every = field(default_factory=Every)
    seed: int = 0
    test: bool = False  # score the test split at the very end
    limit: int = 0  # questions of each score at the end; 0 = all


@dataclass(frozen=True, kw_only=True)
class TowerRecipe:
    """A vision tower from nothing: shape and colour of easy-VQA's train images."""

    kind: str
    optim: Optimisation
    model: TowerModel = field(default_factory=TowerModel)
    every: Every = field(default_factory=Every)
    seed: int = 0
    test: bool = False
    limit: int = 0


@dataclass(frozen=True, kw_only=True)
class VlmRecipe:
    """One stage of a multimodal model: VQA dialogues, each turn with its own image."""

    kind: str
    optim: Optimisation
    inputs: VlmInputs
    model: VlmModel = field(default_factory=VlmModel)
    data: Dialogues = field(default_factory=Dialogues)
    every: Every = field(default_factory=Every)
    seed: int = 0
    test: bool = False
    limit: int = 0


@dataclass(frozen=True)
class Stage:
    """One recipe of a chain. A value `OUT/NAME` in `set` is the folder of an earlier stage."""

    recipe: str
    out: str
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChainRecipe:
    """Recipes run one after the other, each into a folder of its own."""

    kind: str
    stages: tuple[Stage, ...]
    set: dict[str, Any] = field(default_factory=dict)  # overrides of every stage, e.g. seed


Recipe = BaseRecipe | TowerRecipe | VlmRecipe | ChainRecipe
KINDS: dict[str, type[Recipe]] = {"base": BaseRecipe, "tower": TowerRecipe, "vlm": VlmRecipe, "chain": ChainRecipe}


@dataclass(frozen=True)
class Loaded:
    """A recipe as it will run."""

    name: str  # file name without .yaml
    sha256: str  # of the file's content without comments and layout
    overrides: tuple[str, ...]  # "key=value", sorted by key
    recipe: Recipe


def shipped() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    folder = resources.files("iit_bench") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(recipe: str, overrides: Sequence[str] = ()) -> Loaded:
    """Read a recipe by name or path and put `key=value` overrides (dotted keys, YAML values) over it.

    Raises:
        UserError: no such recipe, not YAML, an unknown key, a value of the wrong type.
    """
    name, text = _read(recipe)
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"recipe {recipe}: is not YAML ({first_line(error)}); compare it with a shipped recipe") from None
    if not isinstance(raw, dict) or raw.get("kind") not in KINDS:
        raise UserError(f"recipe {recipe}: its key 'kind' must be one of {', '.join(KINDS)}")
    sha256 = hashlib.sha256(json.dumps(raw, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign:
            raise UserError(f"--set {override}: must be key=value, e.g. --set seed=1")
        try:
            _put(raw, key.strip(), yaml.safe_load(value))
        except yaml.YAMLError:
            raise UserError(f"--set {override}: the value is not YAML; quote it, e.g. --set '{key}=[1, 2]'") from None
    return Loaded(name, sha256, tuple(sorted(overrides)), fill(KINDS[raw["kind"]], raw, f"recipe {name}"))


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
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}: lacks the key {missing[0]!r}; add it")
    return cls(**values)


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
