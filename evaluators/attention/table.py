"""`attention.parquet`: a row per observed dialogue with its curves, and in the file's metadata what was observed. Needs no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError, one_line
from iit_bench.storage.atomic import write_atomic
from iit_bench.storage.format import ATTENTION_FORMAT, opened, sealed_json
from iit_bench.storage.runs import IitRun
from iit_bench.storage.tables import canonical_json, read_about, read_table, table_bytes
from iit_bench.types import KINDS, AttentionCurves, Dialogue, Kind, Question

FILE = "attention.parquet"
# Fields of the metadata `iit-bench/attention`, JSON, beside `format` and `version`.
ATTENTION_FIELDS = {
    "name": "display name of the run",
    "model": "models.contract.ModelInfo as a dict",
    "benchmark": "name and rows_sha256",
    "style": "cloze | options | letters",
    "system_prompt": "first message of every chat, or empty",
    "tiers": "tiers that were observed",
    "limit": "number of whole groups, or null for all",
    "not_observed": "reason -> dialogues without a row",
    "versions": "python, iit-bench, torch, transformers, … as imported",
    "command": "the command line that repeats it",
    "rows_sha256": "sha256 of the table's rows, one canonical JSON object per line; missing in tables of earlier versions",
}
_IDENTITY = ("name", "checkpoint_sha256", "chat_template_sha256", "dtype")  # of a model, equal in a run and in what was observed of it


@dataclass(frozen=True, kw_only=True)
class ObservedDialogue:
    """What the last prompt token of one dialogue attends to; kinds of token as in `types.AttentionCurves`."""

    dialogue: str  # Dialogue.id
    tier: str  # pattern of modalities
    group: str  # target id
    cluster: str  # of the target question
    history_clusters: tuple[str, ...]  # cluster of each turn before the target, in order
    n_before: int  # tokens of text before the first image
    n_image: int  # places of features of images
    n_between: int  # tokens of text between the first and the last image token
    n_after: int  # tokens of text after the last image, the last prompt token included
    layers: tuple[int, ...]  # indices of the decoder's layers that were observed, in order
    before: tuple[float, ...]  # mean weight per token of text before, one per layer; empty without such tokens
    image: tuple[float, ...]  # of image tokens, likewise
    between: tuple[float, ...]  # of text between, likewise
    after: tuple[float, ...]  # of text after, likewise
    router_layers: tuple[int, ...] = ()  # Wings: layers with a router
    router_before: tuple[float, ...] = ()  # Wings: mean weight ρ of the visual learner, one per layer; empty where the router is not used
    router_image: tuple[float, ...] = ()  # of image tokens, likewise
    router_between: tuple[float, ...] = ()  # of text between, likewise
    router_after: tuple[float, ...] = ()  # of text after, likewise

    @classmethod
    def of(cls, dialogue: Dialogue, questions: Sequence[Question], curves: AttentionCurves) -> ObservedDialogue:
        """From a dialogue, its turns, and what was observed of its prompt."""
        by_kind: dict[str, Any] = {f"n_{kind}": curves.tokens.get(kind, 0) for kind in KINDS}
        by_kind |= {kind: tuple(curves.attention.get(kind, ())) for kind in KINDS}
        by_kind |= {f"router_{kind}": tuple(curves.router.get(kind, ())) for kind in KINDS}
        return cls(
            dialogue=dialogue.id,
            tier=dialogue.tier,
            group=dialogue.group,
            cluster=questions[-1].cluster,
            history_clusters=tuple(question.cluster for question in questions[:-1]),
            layers=curves.layers,
            router_layers=curves.router_layers,
            **by_kind,
        )

    def curve(self, kind: Kind) -> tuple[float, ...]:
        """Mean weight per token of a kind, one per layer; empty without such tokens."""
        values: tuple[float, ...] = getattr(self, kind)
        return values

    def router(self, kind: Kind) -> tuple[float, ...]:
        """Mean weight ρ of the visual learner, one per layer with a router; empty where it is not used."""
        values: tuple[float, ...] = getattr(self, f"router_{kind}")
        return values

    def tokens(self, kind: Kind) -> int:
        """Tokens of a kind in the prompt."""
        return int(getattr(self, f"n_{kind}"))


@dataclass(frozen=True, eq=False)
class Observed:
    """A table of observed dialogues, and what was observed."""

    about: Mapping[str, Any]  # ATTENTION_FIELDS
    rows: Sequence[ObservedDialogue]


def save_observed(path: Path, observed: Observed) -> None:
    """Write the table, whole or not at all."""
    about = sealed_json(ATTENTION_FORMAT, {**observed.about, "rows_sha256": _rows_sha256(observed.rows)})
    write_atomic(path, table_bytes(ObservedDialogue, observed.rows, {ATTENTION_FORMAT: about}, checksums=True))


def load_observed(path: Path) -> Observed:
    """Read such a table.

    Raises:
        UserError: it is not there, is no such table, has another version, or was changed.
    """
    again = "make it with `iit-bench attention RUN`"
    if not path.is_file():
        raise UserError(f"{str(path)!r} is not there; {again}")
    text = read_about(ObservedDialogue, path, ATTENTION_FORMAT)
    if text is None:
        raise UserError(f"{str(path)!r} is no table of observed attention; {again}")
    try:
        about = opened(json.loads(text), path, ATTENTION_FORMAT, again)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is damaged ({one_line(error)}); {again}") from error
    rows = read_table(ObservedDialogue, [path])
    if about.get("rows_sha256", whole := _rows_sha256(rows)) != whole:
        raise UserError(f"{str(path)!r} was changed after it was written (the sha256 of its rows differs); {again}")
    return Observed(about, rows)


def _rows_sha256(rows: Sequence[ObservedDialogue]) -> str:
    names, digest = [field.name for field in dataclasses.fields(ObservedDialogue)], hashlib.sha256()
    for row in rows:
        digest.update(canonical_json({name: getattr(row, name) for name in names}).encode() + b"\n")
    return digest.hexdigest()


def observed_of(run: IitRun) -> Observed | None:
    """What was observed of a run's model, from its folder; None where nothing was.

    Raises:
        UserError: the table cannot be read, or is of another model, benchmark or way of asking.
    """
    path = run.path / FILE
    if not path.is_file():
        return None
    observed = load_observed(path)
    if different := differs(observed.about, run.run):
        raise UserError(f"{FILE!r} in run {str(run.path)!r} is of another {different}; make it again with `iit-bench attention RUN`")
    return observed


def differs(about: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """In what an observation differs from a run.json, in a word; "" where it is of that run's model, asked as there."""
    if any(about["model"].get(name) != run["model"].get(name) for name in _IDENTITY):
        return "model"
    if about["benchmark"]["rows_sha256"] != run["benchmark"]["rows_sha256"]:
        return "benchmark"
    return next((name.replace("_", " ") for name in ("style", "system_prompt") if about[name] != run[name]), "")
