"""Files of a data set on the Hugging Face Hub that hold the splits which tasks need: their commit, sizes and checksums."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers

from evaluators.fetch.download import Checksum, RemoteFile, reaching
from iit_bench.data.snapshots import find_splits, licence_of
from iit_bench.errors import MachineError, UserError
from iit_bench.storage.inside import stays_inside

MAIN, CONVERTED = "main", "refs/convert/parquet"  # the Hub keeps a parquet copy of data sets that are published otherwise
CARD = "README.md"

Splits = Mapping[str | None, Sequence[str]]  # configuration (None = the data set's default) -> splits


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What is to be fetched of a repository."""

    commit: str
    ref: str
    licence: str
    splits: dict[str, dict[str, tuple[str, ...]]]  # configuration ("" = the default) -> split -> paths in the data root
    files: tuple[RemoteFile, ...]


def endpoint() -> str:
    """The Hub's address, or that of the mirror in HF_ENDPOINT."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def list_files(dataset: str, wanted: Splits, revisions: Sequence[str]) -> Listing:
    """Files of the wanted splits, from the first of `revisions` (branches or commits) that has them all.

    Raises:
        UserError: there is no such repository or split, or it requires a login.
        MachineError: the Hub does not answer.
    """
    api = HfApi(endpoint=endpoint())
    missing, licence = "", ""
    for ref in revisions:
        with _hub_errors(dataset, ref):
            try:
                info = api.dataset_info(dataset, revision=ref, timeout=60)
            except RevisionNotFoundError:
                if missing:  # the Hub has made no copy of it; what is missing is reported below
                    break
                raise
            listed = api.list_repo_tree(dataset, repo_type="dataset", revision=info.sha, recursive=True)
            tree = {entry.path: entry for entry in listed if isinstance(entry, RepoFile) and stays_inside(entry.path)}
        card = info.card_data.to_dict() if info.card_data else {}
        licence = licence or licence_of(card)  # the converted copy has no card of its own
        splits, absent = _files_of(tree, card, wanted)
        if not absent:
            return _listing(dataset, splits, tree, commit=str(info.sha), ref=ref, licence=licence)
        missing = missing or ", ".join(f"{split!r}" + (f" of configuration {config!r}" if config else "") for config, split in absent)
    raise UserError(f"the Hub's data set {dataset!r} has no parquet, json or csv file of split {missing}; put it there by hand")


def _files_of(
    tree: Mapping[str, RepoFile], card: Mapping[str, Any], wanted: Splits
) -> tuple[dict[str, dict[str, list[str]]], list[tuple[str | None, str]]]:
    """Files of each configuration and split, and the splits that have none."""
    present, absent = {}, []
    for config, splits in wanted.items():
        _, files = find_splits(list(tree), card, config, splits)
        present[config or ""] = files
        absent += [(config, split) for split in splits if split not in files]
    return present, absent


def _listing(
    dataset: str,
    splits: Mapping[str, Mapping[str, Sequence[str]]],
    tree: Mapping[str, RepoFile],
    *,
    commit: str,
    ref: str,
    licence: str,
) -> Listing:
    names = sorted({name for of_split in splits.values() for files in of_split.values() for name in files} | ({CARD} & set(tree)))
    headers = {key: value for key, value in build_hf_headers().items() if key.lower() in ("authorization", "user-agent")}

    def remote(name: str) -> RemoteFile:
        entry = tree[name]
        checksum = Checksum("sha256", entry.lfs.sha256) if entry.lfs else Checksum("git sha1", entry.blob_id)
        url = hf_hub_url(dataset, name, repo_type="dataset", revision=commit, endpoint=endpoint())
        return RemoteFile(path=f"{dataset}/{name}", url=url, size=entry.size, checksum=checksum, headers=headers)

    placed = {
        config: {split: tuple(f"{dataset}/{name}" for name in files) for split, files in of_split.items()}
        for config, of_split in splits.items()
    }
    return Listing(commit=commit, ref=ref, licence=licence, splits=placed, files=tuple(remote(name) for name in names))


@contextmanager
def _hub_errors(dataset: str, ref: str) -> Iterator[None]:
    """Raises one sentence for each error that the Hub answers in place of a listing."""
    with reaching(endpoint()):
        try:
            yield
        except GatedRepoError as error:
            page = f"{endpoint()}/datasets/{dataset}"
            raise UserError(
                f"the Hub's data set {dataset!r} asks for consent; give it on {page} and log in with `hf auth login`"
            ) from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise UserError(
                f"the Hub has no data set {dataset!r}, or you have no access to it; check its name, or log in with `hf auth login`"
            ) from error
        except RevisionNotFoundError as error:
            raise UserError(f"the Hub's data set {dataset!r} has no revision {ref!r}; fetch the newest one with --update") from error
        except HfHubHTTPError as error:
            code = error.response.status_code if error.response is not None else "nothing"
            raise MachineError(f"the Hub answers {code} for data set {dataset!r}", "repeat the command later") from error


def merged(needs: Iterable[tuple[str | None, Sequence[str]]]) -> dict[str | None, tuple[str, ...]]:
    """Configurations with their splits, each once, in order of appearance."""
    out: dict[str | None, tuple[str, ...]] = {}
    for config, splits in needs:
        out[config] = tuple(dict.fromkeys((*out.get(config, ()), *splits)))
    return out
