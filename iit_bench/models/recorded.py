"""A model of which only what run.json says is there: it stands in where answers are read from a log and nothing is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

from iit_bench.models.contract import Capabilities, GenerateRequest, GenerateResult, Model, ModelInfo, ScoreRequest, ScoreResult
from iit_bench.server_options import SERVER

_NOT_LOADED = "the model is not loaded"


class RecordedModel(Model):
    """The model of a run.json of suite iit or vqa. It is never asked."""

    def __init__(self, run: Mapping[str, Any]) -> None:
        model = run["model"]
        needed = [field.name for field in fields(ModelInfo) if field.name in model or not _has_default(field)]
        self.info = ModelInfo(**{name: model[name] for name in needed})  # of a run.json, a missing one is an error that names it
        engine = run.get("engine") or {}
        self.way, self.ways = engine.get("way", "plain"), engine.get("ways", {})
        images = self.info.accepts_images
        histories = run.get("suite") != "iit" or any(len(tier) > 1 for tier in run["tiers"])
        self.capabilities = Capabilities(
            takes_images=images,
            takes_histories=histories,
            recorded=True,
            requests_at_once=1 if self.info.device == SERVER else None,  # then what it bills is counted
            why_not={"takes_raw_text": _NOT_LOADED}
            | ({} if images else {"takes_images": _NOT_LOADED})
            | ({} if histories else {"takes_histories": _NOT_LOADED}),
        )

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        """Not known."""
        raise NotImplementedError(_NOT_LOADED)

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        """Not asked."""
        raise NotImplementedError(_NOT_LOADED)

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        """Not asked."""
        raise NotImplementedError(_NOT_LOADED)


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING
