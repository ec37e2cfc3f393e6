"""Finds the files of `hub:ORG/NAME[@REVISION][:CONFIGURATION[:SPLIT]]`: on the Hugging Face Hub, or below a data root."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builders.sources.base import SourceOptions
from iit_bench.data.fetched import check_unchanged
from iit_bench.data.snapshots import card_licence, find_splits, licence_of, split_files
from iit_bench.errors import UserError, described

HUB = "hub:"
SPLITS = ("test", "validation")  # evaluation splits, best first
_NAME = re.compile(r"(?P<id>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^:]+))?(?::(?P<config>[^:]*))?(?::(?P<split>[^:]+))?")


@dataclass(frozen=True, kw_only=True)
class HubName:
    """The parts of a name."""

    id: str  # "ORG/NAME"
    revision: str | None  # branch, tag or commit; None = the newest
    config: str | None  # None = the data set's default
    splits: tuple[str, ...]  # to look for, best first


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a table's files come from."""

    files: tuple[Path, ...]
    origin: str
    split: str = "all rows"
    licence: str = "unknown"
    revision: str = ""


def parse(name: str) -> HubName:
    """The parts of `hub:ORG/NAME[@REVISION][:CONFIGURATION[:SPLIT]]`.

    Raises:
        UserError: not such a name.
    """
    parts = _NAME.fullmatch(name.removeprefix(HUB))
    if parts is None:
        raise UserError(f"{name!r} is not hub:ORG/NAME[@REVISION][:CONFIGURATION[:SPLIT]]; write e.g. hub:allenai/ai2_arc:ARC-Easy:test")
    splits = (parts["split"],) if parts["split"] else SPLITS
    return HubName(id=parts["id"], revision=parts["revision"], config=parts["config"] or None, splits=splits)


def locate(name: str, options: SourceOptions) -> Origin:
    """The files of the best split that there is.

    Raises:
        UserError: no such data set, revision, configuration or split; or the Hub does not answer.
    """
    wanted = parse(name)
    return _in_root(wanted, options.data_root) if options.data_root is not None else _on_hub(wanted)


def _in_root(wanted: HubName, data_root: Path) -> Origin:
    names = (wanted.id, wanted.id.replace("/", "--"), wanted.id.rsplit("/", 1)[-1])
    folder = next((data_root / one for one in names if (data_root / one).is_dir()), None)
    if folder is None:
        raise UserError(f"there is no folder {str(data_root / wanted.id)!r}; put the data set there, or leave --data-root out")
    _, files_of = split_files(folder, wanted.config, wanted.splits)
    split = _best(wanted, list(files_of), str(folder))
    files = tuple(files_of[split])
    revision = check_unchanged(data_root, files)
    if wanted.revision and revision and wanted.revision != revision:
        raise UserError(f"{str(folder)!r} was fetched at revision {revision}, not {wanted.revision}; name that one, or fetch it again")
    return Origin(files=files, origin=wanted.id, split=split, licence=card_licence(folder) or "unknown", revision=revision)


def _on_hub(wanted: HubName) -> Origin:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.hf_api import RepoFile

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    with _hub_errors(wanted):
        api = HfApi(endpoint=endpoint)
        info = api.dataset_info(wanted.id, revision=wanted.revision, timeout=60)
        card = info.card_data.to_dict() if info.card_data else {}
        tree = api.list_repo_tree(wanted.id, repo_type="dataset", revision=info.sha, recursive=True)
        names = [entry.path for entry in tree if isinstance(entry, RepoFile)]
        _, names_of = find_splits(names, card, wanted.config, wanted.splits)
        split = _best(wanted, list(names_of), f"the Hub's {wanted.id}")
        paths = [hf_hub_download(wanted.id, one, repo_type="dataset", revision=info.sha, endpoint=endpoint) for one in names_of[split]]
    files = tuple(map(Path, paths))
    return Origin(files=files, origin=wanted.id, split=split, licence=licence_of(card) or "unknown", revision=str(info.sha))


def _best(wanted: HubName, present: Sequence[str], where: str) -> str:
    split = next((one for one in wanted.splits if one in present), None)
    if split is None:
        which = f" of configuration {wanted.config!r}" if wanted.config else ""
        raise UserError(
            f"{where} has no parquet, json or csv file of split {' or '.join(map(repr, wanted.splits))}{which}; name another, as in "
            f"hub:{wanted.id}:{wanted.config or ''}:train, or another revision, as in hub:{wanted.id}@refs/convert/parquet"
        )
    return split


@contextmanager
def _hub_errors(wanted: HubName) -> Iterator[None]:
    """Raises one sentence in place of what huggingface_hub raises."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    from iit_bench import http

    try:
        yield
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, *http.ERRORS, OSError) as error:
        revision = f" at revision {wanted.revision!r}" if wanted.revision else ""
        raise UserError(
            f"cannot read the Hub's data set {wanted.id!r}{revision} ({described(error)}); check its name and your access, go online, or "
            "put its files below a folder and give that with --data-root"
        ) from error
