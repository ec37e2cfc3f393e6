"""Where a stage's inputs are: a folder, a model that comes with the package, a model of the Hub, or a GGUF file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError, one_line
from iit_bench.models.checkpoint_check import SAFETENSORS, check_folder
from iit_bench.models.checkpoint_files import answering_files, resolve_checkpoint
from iit_bench.storage.format import files_sha256

SHIPPED = "shipped:"
GGUF = ".gguf"
HEADS = "heads.safetensors"  # beside a tower of the lab: the classifiers it was trained with
_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")  # OWNER/NAME[@REVISION]
_DESCRIPTION = ("*.json", "*.jinja", "*.txt", "*.model")  # what a Hub model has beside its weights


class NotFromHub(UserError):
    """A model of the Hub that cannot be reached, and is not in its cache."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Files of a decoder or a tower."""

    folder: Path
    gguf: str = ""  # name of the GGUF file that holds it; empty: safetensors
    described: bool = False  # configuration and tokenizer of a Hub model, whose weights are not downloaded yet

    @property
    def source(self) -> dict[str, Any]:
        """What transformers' Auto classes take beside the folder."""
        return {"gguf_file": self.gguf} if self.gguf else {}


def models() -> Path:
    """Folder of the shipped nano models: base-llm, tower, wings, llava."""
    return Path(str(resources.files("iit_bench") / "assets" / "models"))


def find(value: str, key: str, made_by: str = "train it first") -> Path:
    """The folder that recipe key `key` names.

    Args:
        value: a path, or `shipped:NAME`.
        key: for the error's sentence.
        made_by: what would make the folder, for the same sentence.

    Raises:
        UserError: there is no model at that place.
    """
    folder = models() / value.removeprefix(SHIPPED) if value.startswith(SHIPPED) else Path(value).expanduser()
    if not (folder / "config.json").is_file():
        raise UserError(f"recipe key {key}: {value} is no model folder (config.json is not there); {made_by}, or set {key} with --set")
    check_folder(folder, f"recipe key {key}: {value}")
    if not any(file.name != HEADS for file in folder.glob(f"*{SAFETENSORS}")):
        raise UserError(f"recipe key {key}: {value} has no safetensors, and no other weights are read; get them again, or convert them")
    return folder


def weights_sha256(folder: Path) -> str:
    """sha256 of a folder's weights, as `files_sha256`; the classifiers that a tower of the lab was trained with are not among them."""
    return files_sha256(file for file in answering_files(folder, ("*.safetensors",)) if file.name != HEADS)


def locate(value: str, key: str, weights: bool = True, made_by: str = "train it first") -> Place:
    """The files that recipe key `key` names; those of a Hub model are downloaded, or found in the Hub's cache.

    Args:
        value: a folder, `shipped:NAME`, a GGUF file, or `OWNER/NAME[@REVISION]` on the Hub.
        key: for the error's sentence.
        weights: whether the weights are needed; without them nothing but configuration and tokenizer is downloaded.
        made_by: see `find`.

    Raises:
        NotFromHub: the value is a Hub id, and its files are unavailable.
        UserError: there is no model at that place.
    """
    path = Path(value).expanduser()
    if path.suffix == GGUF:
        if not path.is_file():
            raise UserError(f"recipe key {key}: there is no file {value}; set {key} to a GGUF file, a folder or a Hub id with --set")
        return Place(folder=path.parent, gguf=path.name)
    if value.startswith(SHIPPED) or path.exists() or not _HUB.fullmatch(value):
        return Place(folder=find(value, key, made_by))
    try:
        return Place(folder=resolve_checkpoint(value) if weights else _described(value), described=not weights)
    except (UserError, OSError, ValueError) as error:
        what = "" if weights else "the configuration of "
        raise NotFromHub(
            f"recipe key {key}: {what}{value} cannot be read: no such folder, and not from the Hub ({one_line(error)}); check the name or "
            f"the network, or set {key} to a folder"
        ) from error


def _described(value: str) -> Path:
    """Folder with configuration and tokenizer of a Hub model."""
    from huggingface_hub import snapshot_download

    name, _, revision = value.partition("@")
    folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=list(_DESCRIPTION)))
    if not (folder / "config.json").is_file():
        raise UserError("it has no config.json")
    return folder
