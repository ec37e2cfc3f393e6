"""What the caller and VLMEvalKit's process exchange: files in the run's scratch folder, their names and keys.

    spec.json            a `Spec`
    lmu/                 VLMEvalKit's data folder ($LMUData): tables, and the images it decodes
    prompts/TASK.jsonl   line 1: facts of the data set; then one `Prompt` per line
    replies/TASK.jsonl   one reply per prompt, in the same order
    work/TASK/PART/      VLMEvalKit's own result files; part "main", and "no-image" for the rows that VLMEvalKit leaves out
    scores/TASK.json     per part: VLMEvalKit's figures and the rows they are made of, or {"failure": why}

A request names a stage, "prepare" or "score"; the reply is {"done": stage}, or {"error": sentence} and no more.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evaluators.vqa.messages import VlmevalMessage

Stage = Literal["prepare", "score"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What VLMEvalKit's process is to do."""

    tasks: Sequence[str]
    data_root: str | None  # folder of tables; None = the user's own $LMUData, and downloads
    limit: int | None  # units per data set and part
    model: str  # in names of result files
    judge: str


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A message that VLMEvalKit's loop puts to a model, and the row that it belongs to."""

    part: str
    index: str
    unit: str  # what VLMEvalKit counts once, e.g. all circular copies of a question
    cluster: str  # rows over one image share it
    message: VlmevalMessage
    failure: str = ""  # why VLMEvalKit cannot make a prompt of the row; then the message is a stand-in that no model is shown


@dataclass(frozen=True)
class Exchange:
    """The files in a scratch folder."""

    folder: Path

    @property
    def lmu(self) -> Path:
        """VLMEvalKit's data folder."""
        return self.folder / "lmu"

    @property
    def work(self) -> Path:
        """VLMEvalKit's result files, in TASK/PART."""
        return self.folder / "work"

    def save_spec(self, spec: Spec) -> None:
        """Write spec.json."""
        _write(self.folder / "spec.json", [dataclasses.asdict(spec)])

    def load_spec(self) -> Spec:
        """Read spec.json."""
        return Spec(**_read(self.folder / "spec.json")[0])

    def save_prompts(self, task: str, facts: Mapping[str, Any], prompts: Iterable[Prompt]) -> None:
        """Write the facts and messages of a data set."""
        _write(self.folder / "prompts" / f"{task}.jsonl", [facts, *map(dataclasses.asdict, prompts)])

    def load_prompts(self, task: str) -> tuple[dict[str, Any], list[Prompt]]:
        """Facts of a data set, and its messages in order."""
        facts, *lines = _read(self.folder / "prompts" / f"{task}.jsonl")
        return facts, [Prompt(**line) for line in lines]

    def save_replies(self, task: str, replies: Sequence[str]) -> None:
        """Write the replies to a data set's messages, in the same order."""
        _write(self.folder / "replies" / f"{task}.jsonl", replies)

    def load_replies(self, task: str) -> list[str]:
        """Replies in the order of the messages."""
        return _read(self.folder / "replies" / f"{task}.jsonl")

    def save_scores(self, task: str, scores: Mapping[str, Any]) -> None:
        """Write what VLMEvalKit scored, per part."""
        _write(self.folder / "scores" / f"{task}.json", [scores])

    def load_scores(self, task: str) -> dict[str, Any]:
        """What VLMEvalKit scored, per part: {"kind", "metrics", "rows", "guessed"}, or {"failure"}."""
        scores: dict[str, Any] = _read(self.folder / "scores" / f"{task}.json")[0]
        return scores


def _write(path: Path, lines: Iterable[Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
