"""Where a checkpoint's files are, which of them determine answers, and their hash: folders and Hub ids, of models and of peft adapters."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from iit_bench.errors import UserError, one_line
from iit_bench.models.checkpoint_check import check_folder, read_object
from iit_bench.storage.format import sha256_file
from iit_bench.storage.tables import canonical_json

# What determines answers: weights, configuration, tokenizer, processor, template. Not read-me files, training logs or images.
PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*config.json",
    "*token*.json",
    "*.model",
    "vocab.*",
    "merges.txt",
    "*.jinja",
    "chat_template.json",
    "tekken.json",
    "*.tiktoken",
    "*.spm",
)
CODE = ("*.py",)  # beside them, under --trust-remote-code
TEMPLATES = "additional_chat_templates"  # the only folder that is read; others hold copies and parts ("original/", "vision-lora/")
REPEATED = ("consolidated*.safetensors",)  # the same weights in another layout, which transformers does not read
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Local folders of a model: that of its weights, and that of a peft adapter which is loaded onto them."""

    folder: Path
    adapter: Path | None = None

    @property
    def tokenizer(self) -> Path:
        """The folder whose tokenizer is used: the adapter's where it has one."""
        return self._own("tokenizer_config.json")

    @property
    def processor(self) -> Path:
        """The folder whose processor is used: the adapter's where it has one."""
        return self._own("processor_config.json", "preprocessor_config.json")

    def _own(self, *names: str) -> Path:
        adapter = self.adapter
        return adapter if adapter is not None and any((adapter / name).is_file() for name in names) else self.folder


def find_checkpoint(checkpoint: str, adapter: str | None = None, *, trust_remote_code: bool = False) -> Checkpoint:
    """The folders of `checkpoint`; if it is a peft adapter by itself, those of its base model and of the adapter.

    Args:
        checkpoint: a folder, or `OWNER/NAME[/SUBFOLDER][@REVISION]` on the Hub.
        adapter: the same of a peft adapter.
        trust_remote_code: whether the checkpoint's own code is run, so that it is needed.

    Raises:
        UserError: neither a folder nor available from the Hub, incomplete, or both a model and an adapter.
    """
    folder = _local(checkpoint, trust_remote_code)
    if not _is_adapter(checkpoint, folder):
        return Checkpoint(
            folder=_checked(checkpoint, folder, trust_remote_code), adapter=None if adapter is None else find_adapter(adapter)
        )
    if adapter is not None:
        raise UserError(f"checkpoint {checkpoint!r} is an adapter itself; name its base model as the checkpoint, or leave out --adapter")
    found = find_adapter(checkpoint)
    base = read_object(found / ADAPTER_CONFIG)
    if not base.get("base_model_name_or_path"):
        raise UserError(f"adapter {checkpoint!r} does not name its base model; name it as the checkpoint, and the adapter with --adapter")
    revision = f"@{base['revision']}" if base.get("revision") else ""
    name = str(base["base_model_name_or_path"])
    where = name if Path(name).expanduser().is_dir() else name + revision
    return Checkpoint(folder=_checked(where, _local(where, trust_remote_code), trust_remote_code), adapter=found)


def resolve_checkpoint(checkpoint: str, *, trust_remote_code: bool = False) -> Path:
    """The local folder of a checkpoint without an adapter; a Hub id is downloaded (or found in the cache) first.

    Raises:
        UserError: as `find_checkpoint`, or it is an adapter.
    """
    folder = _local(checkpoint, trust_remote_code)
    if _is_adapter(checkpoint, folder):
        raise UserError(f"checkpoint {checkpoint!r} is a peft adapter; use --model hf:{checkpoint}, which loads it onto its base model")
    return _checked(checkpoint, folder, trust_remote_code)


def _is_adapter(checkpoint: str, folder: Path) -> bool:
    if not (folder / ADAPTER_CONFIG).is_file():
        return False
    whole = folder.resolve().parent / "config.json"
    if whole.is_file() and read_object(whole).get("model_type") == "wings":  # as `iit-bench train` leaves it, for peft itself
        named = f"--model wings --checkpoint {os.path.normpath(folder / '..')}"
        raise UserError(
            f"checkpoint {checkpoint!r} is the adapter of a trained folder, whose weights have it merged in already; name that: {named}"
        )
    if (folder / "config.json").is_file():
        raise UserError(
            f"checkpoint {checkpoint!r} has {ADAPTER_CONFIG} beside a whole model, and where peft is installed transformers applies the "
            "adapter to these weights; if they are merged already delete the adapter's files, else move them to a folder of their own and "
            "name it with --adapter"
        )
    return True


def find_adapter(adapter: str) -> Path:
    """The local folder of a peft adapter.

    Raises:
        UserError: neither a folder nor available from the Hub, or without safetensors.
    """
    folder = _local(adapter, trust_remote_code=False)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"adapter {adapter!r} has no {name}; name the folder that peft's save_pretrained wrote, as safetensors")
    check_folder(folder, f"adapter {adapter!r}")
    return folder


def _local(place: str, trust_remote_code: bool) -> Path:
    folder = Path(place).expanduser()
    return folder if folder.is_dir() else _download(place, trust_remote_code)


def _checked(checkpoint: str, folder: Path, trust_remote_code: bool) -> Path:
    if not any(path.name != ADAPTER_WEIGHTS for path in answering_files(folder, ("*.safetensors",))):
        raise UserError(f"checkpoint {checkpoint!r} has no *.safetensors file; convert it with save_pretrained, other formats are not read")
    if not (folder / "config.json").is_file():
        raise UserError(f"checkpoint {checkpoint!r} has no config.json; name the folder that save_pretrained wrote")
    if trust_remote_code:
        code = read_object(folder / "config.json").get("auto_map") or {}
        if elsewhere := sorted({str(place).split("--")[0] for place in code.values() if "--" in str(place)}):
            raise UserError(
                f"checkpoint {checkpoint!r} runs code of another repository, {elsewhere[0]!r}, which its hash would not cover; copy the "
                "code into the checkpoint's folder, or leave out --trust-remote-code"
            )
    check_folder(folder, f"checkpoint {checkpoint!r}")
    return folder


def parse_hub_place(place: str) -> tuple[str, str, str]:
    """Id, subfolder and revision of `OWNER/NAME[/SUBFOLDER][@REVISION]`; "" for what is not given."""
    path, _, revision = place.partition("@")
    parts = path.split("/")
    return "/".join(parts[:2]), "/".join(parts[2:]), revision


def _download(place: str, trust_remote_code: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    hub_id, subfolder, revision = parse_hub_place(place)
    inside = f"{subfolder}/" if subfolder else ""
    own = [inside + pattern for pattern in (*PATTERNS, *(CODE if trust_remote_code else ()))]
    unread = [f"{inside}*/*", *(inside + pattern for pattern in REPEATED)]
    try:
        folder = Path(snapshot_download(hub_id, revision=revision or None, allow_patterns=own, ignore_patterns=unread))
        snapshot_download(hub_id, revision=revision or None, allow_patterns=[f"{inside}{TEMPLATES}/*.jinja"])
    except (HFValidationError, RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"checkpoint {place!r} is neither a folder nor available from the Hub ({one_line(error)}); check the path or the network"
        ) from error
    if not (folder / subfolder).is_dir():
        raise UserError(f"checkpoint {place!r}: {hub_id!r} has no folder {subfolder!r} with a checkpoint; look at its files on the Hub")
    return folder / subfolder


def commit_of(folder: Path) -> str | None:
    """The commit of a folder in the Hub's cache; None for other folders."""
    parts = folder.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-1] else None


def answering_files(folder: Path, patterns: tuple[str, ...] = PATTERNS) -> list[Path]:
    """The files of a folder that match, sorted by name, without repeated weights; templates of its subfolder where patterns cover them."""
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    found = {path for path in found if not any(fnmatch.fnmatch(path.name, pattern) for pattern in REPEATED)}
    if "*.jinja" in patterns:
        found |= set((folder / TEMPLATES).glob("*.jinja"))
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def checkpoint_sha256(folder: Path, *, adapter: Path | None = None, trust_remote_code: bool = False) -> str:
    """One hash for all files that determine answers, by name and content: of the adapter too, and of the code where it is run."""
    patterns = (*PATTERNS, *(CODE if trust_remote_code else ()))
    files = [(path.relative_to(folder).as_posix(), sha256_file(path)) for path in answering_files(folder, patterns)]
    if adapter is not None:
        files += [(f"adapter/{path.relative_to(adapter).as_posix()}", sha256_file(path)) for path in answering_files(adapter)]
    return hashlib.sha256(canonical_json(files).encode()).hexdigest()
