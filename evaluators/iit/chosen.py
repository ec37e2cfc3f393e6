"""Which dialogues of a benchmark a run asks, and in which style (docs/spec/iit.md#asking)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluators.runs.options import RunOptions
from iit_bench.asking import check_letters
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Dialogue, Style

NO_IMAGES = "the model takes no images"
NO_HISTORIES = "the model takes one question without history"


@dataclass(frozen=True)
class ChosenDialogues:
    """The dialogues and tiers of a run, and the tiers that it cannot run."""

    dialogues: tuple[Dialogue, ...]
    tiers: tuple[str, ...]  # tiers that are run
    unavailable: Mapping[str, str]  # tier -> why it cannot be run
    left_out: Mapping[str, int]  # reason -> groups of the chosen tiers that no model is asked in this style


def choose_dialogues(
    benchmark: Benchmark,
    tiers: Sequence[str] | None,
    limit: int | None,
    *,
    accepts_images: bool,
    style: Style,
    takes_histories: bool = True,
    letters: bool = True,
) -> ChosenDialogues:
    """The dialogues of the first `limit` groups, which are run as a whole; builders mix text and visual targets, so they are a fair sample.

    Groups whose target has `prefix_choices` are left out in style `cloze`, before the limit is applied: the sum of log-probabilities can
    never choose the longer of such choices. `letters`: check that style `letters` has one for every choice.

    Raises:
        UserError: the benchmark has no such tier, no group is left, or a question has more choices than style
            `letters` has letters.
    """
    wanted = benchmark.chosen_tiers(tiers)
    unavailable = {tier: NO_IMAGES for tier in wanted if "V" in tier and not accepts_images}
    unavailable |= {tier: NO_HISTORIES for tier in wanted if len(tier) > 1 and not takes_histories and tier not in unavailable}
    run = tuple(tier for tier in wanted if tier not in unavailable)
    if not run and set(unavailable.values()) != {NO_IMAGES}:
        raise UserError("the model answers one question without history and every chosen tier has some; add tier T or V to --tiers")
    if not run:
        raise UserError("the model takes no images and every chosen tier has some; add a text-only tier, or --blind to remove the images")
    dialogues = [dialogue for dialogue in benchmark.dialogues if dialogue.tier in wanted]
    unfit = {dialogue.group for dialogue in dialogues if style == "cloze" and benchmark.questions[dialogue.target].prefix_choices}
    dialogues = [dialogue for dialogue in dialogues if dialogue.group not in unfit]
    if not dialogues:
        raise UserError(
            f"in each of the {len(unfit)} groups one choice begins with another, which style cloze cannot ask; use --style letters"
        )
    if limit is not None:  # before the tiers that this model cannot run are left out: every model gets the same groups
        groups = set(list(dict.fromkeys(dialogue.group for dialogue in dialogues))[:limit])
        dialogues = [dialogue for dialogue in dialogues if dialogue.group in groups]
    dialogues = [dialogue for dialogue in dialogues if dialogue.tier in run]
    if not dialogues:
        raise UserError(f"--limit {limit} leaves only groups with images, which the model does not take; raise it, or add --blind")
    if letters and style == "letters":
        check_letters(benchmark.questions[turn] for dialogue in dialogues for turn in dialogue.turns)
    return ChosenDialogues(tuple(dialogues), run, unavailable, {"prefix_choices": len(unfit)} if unfit else {})


def style_of(options: RunOptions, benchmark: Benchmark) -> Style:
    """The style of a run: as asked for, or the benchmark's."""
    return options.style or benchmark.manifest.get("default_style", "cloze")
