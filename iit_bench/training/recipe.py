"""Recipes: YAML files with all that determines a training, checked against the records of `stages` and `records`.

A key that is not in the records is an error, in the file and in `--set`, and so is a value outside its range. A learning rate of 0
freezes its group, so the partition of the paper (what is trained at which stage, and how fast) is read off one table.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from iit_bench.errors import UserError, one_line
from iit_bench.training.ranges import check
from iit_bench.training.recorded_paths import without_roots
from iit_bench.training.stages import BaseRecipe, ChainRecipe, MergeRecipe, TowerRecipe, VlmRecipe

Recipe = BaseRecipe | TowerRecipe | VlmRecipe | MergeRecipe | ChainRecipe
KINDS: dict[str, type[Recipe]] = {
    "base": BaseRecipe,
    "tower": TowerRecipe,
    "vlm": VlmRecipe,
    "merge": MergeRecipe,
    "chain": ChainRecipe,
}


@dataclass(frozen=True)
class Loaded:
    """A recipe as it will run."""

    name: str  # file name without .yaml
    sha256: str  # of the file's content without comments and layout
    overrides: tuple[str, ...]  # "key=value", those that count, by key: of two for one key the last
    recipe: Recipe
    file: str = ""  # its file's name, where it is none of those that come with the package


KEPT = "recipe.yaml"  # in a trained folder: what it was trained by, so that the folder is enough to train it again
NANO = "nano"  # another name of the lab's present models, before -STAGE too
NANO_IS = "lab2"


def shipped() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    folder = resources.files("iit_bench") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(recipe: str, overrides: Sequence[str] = ()) -> Loaded:
    """Read a recipe by name or path and put `key=value` overrides (dotted keys, YAML values) over it.

    Raises:
        UserError: no such recipe, not YAML, an unknown key, a value of the wrong type or outside its range.
    """
    name, text, file = _read(recipe)
    raw = read_yaml(text, f"recipe {recipe}")
    if not isinstance(raw, dict) or not isinstance(raw.get("kind"), str) or raw["kind"] not in KINDS:
        raise UserError(f"recipe {recipe}: its key 'kind' must be one of {', '.join(KINDS)}")
    sha256 = hashlib.sha256(json.dumps(raw, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    counting: dict[str, str] = {}
    for override in overrides:
        key, sign, value = (part.strip() for part in override.partition("="))
        if not sign:
            raise UserError(f"--set {override}: must be key=value, e.g. --set seed=1")
        try:
            _put(raw, key, yaml.safe_load(value))
        except (yaml.YAMLError, ValueError, RecursionError):
            raise UserError(f"--set {override}: the value is not YAML; quote it, e.g. --set '{key}=[1, 2]'") from None
        counting = {other: text for other, text in counting.items() if other != key and not other.startswith(f"{key}.")} | {key: value}
    in_order = sorted(counting, key=lambda key: key.split("."))  # a part comes after the whole that it changes
    recorded = tuple(f"{key}={counting[key]}" for key in in_order)
    return Loaded(name, sha256, recorded, fill(KINDS[raw["kind"]], raw, f"recipe {name}"), file)


def as_yaml(recipe: Recipe) -> str:
    """A recipe with all its values, those of `--set` and defaults too, as YAML of which `load_recipe` makes the same recipe.

    Of a path from the root of a disk only the last name is kept, as in training.json: a folder that is published does not tell where its
    inputs lay.
    """
    raw = dataclasses.asdict(recipe)
    if isinstance(recipe, VlmRecipe) and not recipe.method.name:
        del raw["method"]  # `model` says it
    raw = without_roots(raw)
    if "data" in raw and not raw["data"]["mixture"]:
        del raw["data"]["mixture"]  # an empty one is refused
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=120)


def read_yaml(text: bytes, what: str) -> Any:
    """What a YAML file holds, if JSON can hold it too: its content is hashed and written into cards as JSON.

    Args:
        what: whose text it is, for the error.

    Raises:
        UserError: it is not YAML, or has a value that is none of JSON (a date, keys of two kinds, a part of itself, half a character).
    """
    try:
        raw = yaml.safe_load(text)
        if (odd := _odd_key(raw)) is not _NONE:
            raise UserError(f"{what}: has the key {_shown(odd)}, and keys are words; write it in quotation marks, or leave it out")
        json.dumps(raw, sort_keys=True, ensure_ascii=False).encode()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # of dates yaml raises ValueError
        raise UserError(f"{what}: is not YAML that JSON can hold ({one_line(error)}); compare it with a shipped one") from None
    return raw


_NONE = object()  # a key may be null


def _odd_key(value: Any) -> Any:
    """The first key that is no word, anywhere in what a YAML file holds; `_NONE` if there is none."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                return key
            if (odd := _odd_key(inner)) is not _NONE:
                return odd
    elif isinstance(value, list):
        return next((odd for item in value if (odd := _odd_key(item)) is not _NONE), _NONE)
    return _NONE


def _shown(value: Any) -> str:
    """A value as a recipe writes it: null, true, a text in single quotes."""
    return repr(value) if isinstance(value, str) else json.dumps(value, default=str)


# What a field must be, in a recipe's words.
_WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
Record = TypeVar("Record")


def fill(cls: type[Record], raw: Any, where: str) -> Record:
    """Make record `cls` from a mapping, and the records inside it from the mappings inside."""
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: must be a mapping with keys among {', '.join(fields)}; it is {_shown(raw)}")
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
        raise UserError(f"{where}: {one_line(error)}") from None


def _is_beyond_float(value: float) -> bool:
    """Whether a number of any size is an integer that no float can hold."""
    return isinstance(value, int) and abs(value) > sys.float_info.max


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return fill(_kind(typing.cast(type, hint), value, where), value, where)
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, list | tuple):
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return _mapping(hint, value, where)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool) and not _is_beyond_float(value):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            pass
    elif isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    wanted = (
        _WANTED.get(hint, hint.__name__)
        if isinstance(hint, type) and not isinstance(hint, types.GenericAlias)
        else "a list"
        if origin is tuple
        else "a mapping"
    )
    raise UserError(f"{where}: must be {wanted}; it is {_shown(value)}")


def _mapping(hint: Any, value: Mapping[Any, Any], where: str) -> dict[Any, Any]:
    """A copy; what should be mappings inside is checked, and all else is whatever it is."""
    if typing.get_origin((typing.get_args(hint) or (Any, Any))[1]) is dict:
        return {key: _value(typing.get_args(hint)[1], inner, f"{where}, key {key!r}") for key, inner in value.items()}
    return dict(value)


def _kind(cls: type, value: Any, where: str) -> type:
    """The record that a mapping's `name` chooses, of a record that comes in several kinds; else `cls` itself."""
    if not hasattr(cls, "kinds"):
        return cls
    kinds: Mapping[str, type] = cls.kinds()
    name = value.get("name") if isinstance(value, Mapping) else None
    if not isinstance(name, str) or name not in kinds:
        raise UserError(f"{where}: its key 'name' must be one of {', '.join(kinds)}; it is {_shown(name)}")
    return kinds[name]


def _put(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise UserError(f"--set {key}: {parent!r} has no keys inside; see the recipe for the known keys")
    raw[last] = value


def _read(recipe: str) -> tuple[str, bytes, str]:
    if recipe == NANO or recipe.startswith(f"{NANO}-"):
        recipe = NANO_IS + recipe.removeprefix(NANO)
    if recipe in shipped():
        return recipe, resources.files("iit_bench").joinpath("recipes", f"{recipe}.yaml").read_bytes(), ""
    path = Path(recipe)
    if not path.is_file():
        raise UserError(f"recipe {recipe!r}: neither a file nor one of {', '.join(shipped())}; give one of these names or a path")
    return path.stem, path.read_bytes(), path.name
