"""`iit-bench train RECIPE --check-data`: the check of own data by itself, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError
from iit_bench.training.chats import checking
from iit_bench.training.chats.checking import Report
from iit_bench.training.dry_run import outlines
from iit_bench.training.records import Dialogues
from iit_bench.training.stages import VlmRecipe


@dataclass(frozen=True, kw_only=True)
class StageData:
    """The check of one stage's mixture.

    Attributes:
        recipe: the stage's name.
        out: its folder, which keeps the result for the training.
        settings: the recipe's `data`.
        report: what was found.
    """

    recipe: str
    out: str
    settings: Dialogues
    report: Report

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"recipe": self.recipe, "out": self.out, "data": self.report.as_json()}


def check_data(recipe: str, overrides: Sequence[str], out: Path, show: bool = False) -> list[StageData]:
    """Check every stage's own data as its training would, with the tokenizer of its LLM; no weights are read.

    Args:
        recipe: name of a shipped recipe or path of a YAML file.
        overrides: "key=value", as after `--set`.
        out: folder of the training.
        show: progress bars.

    Raises:
        UserError: no stage has own data, the tokenizer cannot be read, or a file is missing or damaged as a whole.
    """
    found = []
    for stage, folder, task in outlines(recipe, overrides, out):
        if not isinstance(stage.recipe, VlmRecipe) or not stage.recipe.data.mixture:
            continue
        if task.tokenizer is None:
            raise UserError(
                f"recipe {stage.name}: its data are checked with the tokenizer of {stage.recipe.inputs.llm}, which is not available here; "
                "check the network, or set inputs.llm to a folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        report, _ = checking.check(stage.recipe.data, task.encoding(), folder, show)
        found.append(StageData(recipe=stage.name, out=str(folder), settings=stage.recipe.data, report=report))
    if not found:
        raise UserError(f"recipe {recipe}: has no data.mixture, so there are no data of your own to check; name them in data.mixture")
    return found


def text(found: Sequence[StageData]) -> str:
    """The tables of all stages."""
    return "\n\n".join(f"{stage.recipe} -> {stage.out}\n{stage.report.table()}" for stage in found)


def refuse(found: Sequence[StageData]) -> None:
    """End where too much of a source cannot be trained on.

    Raises:
        UserError: see `checking.refuse`.
    """
    for stage in found:
        checking.refuse(stage.report, stage.settings)
