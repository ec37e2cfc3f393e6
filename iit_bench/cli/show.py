"""`iit-bench show` and `iit-bench diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iit_bench.cli.app import AsJson, app, names
from iit_bench.terminal import write

if TYPE_CHECKING:
    from evaluators.show.selection import Filter

Wrong = Annotated[bool, typer.Option("--wrong", help="Wrong answers. Several outcomes: any of them.")]
Right = Annotated[bool, typer.Option("--right", help="Right answers.")]
Unparsed = Annotated[bool, typer.Option("--unparsed", help="Replies without a recognisable choice.")]
Truncated = Annotated[bool, typer.Option("--truncated", help="Replies cut at their limit before they named a choice.")]
Errors = Annotated[bool, typer.Option("--errors", help="Items that failed, each with its reason.")]
Lost = Annotated[
    Path | None, typer.Option("--lost-against", help="Base run that had them right, where this one has not.", show_default=False)
]
Gained = Annotated[
    Path | None, typer.Option("--gained-against", help="Base run that had them wrong, where this one is right.", show_default=False)
]
Tier = Annotated[str | None, typer.Option("--tier", help="Tiers, comma-separated, e.g. VT.", show_default=False)]
Source = Annotated[str | None, typer.Option("--source", help="Sources, or tasks of the suites text and vqa.", show_default=False)]
Subject = Annotated[str | None, typer.Option("--subject", help="Subjects, comma-separated.", show_default=False)]
Item = Annotated[
    list[str] | None,
    typer.Option("--item", help="Id of a dialogue, of its target, or of a task's item; repeat it for more.", show_default=False),
]
Limit = Annotated[int, typer.Option("--limit", help="Items to print.")]
Full = Annotated[bool, typer.Option("--full", help="Print long texts whole.")]
Bench = Annotated[Path | None, typer.Option("--bench", help="Benchmark folder; default: where the run found it.", show_default=False)]


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="Run folder of any suite, or another tool's result files.", show_default=False)],
    wrong: Wrong = False,
    right: Right = False,
    unparsed: Unparsed = False,
    truncated: Truncated = False,
    errors: Errors = False,
    lost_against: Lost = None,
    gained_against: Gained = None,
    tier: Tier = None,
    source: Source = None,
    subject: Subject = None,
    item: Item = None,
    limit: Limit = 20,
    full: Full = False,
    bench: Bench = None,
    json: AsJson = False,
) -> None:
    """Print what a model was asked and what it answered: dialogues with their choices, log-probabilities, reply and outcome.

    Filters are combined: `--wrong --tier VT` prints wrong answers of tier VT; several outcomes mean any of them. Images are printed as
    [image WIDTHxHEIGHT SHA256…]. Control characters that a model wrote are spelled out.

    Example: iit-bench show runs/tuned --lost-against runs/base --tier VT --limit 5
    """
    from evaluators.show.show import show as select

    outcomes = _outcomes(right, wrong, unparsed, truncated, errors)
    _print(select(run, _filter(outcomes, lost_against, gained_against, tier, source, subject, item), bench, limit), json, full)


@app.command()
def diff(
    run_a: Annotated[Path, typer.Argument(help="Run A.", show_default=False)],
    run_b: Annotated[Path, typer.Argument(help="Run B, of the same benchmark or tasks.", show_default=False)],
    wrong: Wrong = False,
    right: Right = False,
    unparsed: Unparsed = False,
    truncated: Truncated = False,
    errors: Errors = False,
    lost_against: Lost = None,
    gained_against: Gained = None,
    tier: Tier = None,
    source: Source = None,
    subject: Subject = None,
    item: Item = None,
    limit: Limit = 20,
    full: Full = False,
    bench: Bench = None,
    json: AsJson = False,
) -> None:
    """Print the items whose outcome differs between two runs: how many of each kind, then both answers side by side.

    The filters are those of `iit-bench show`; an outcome, or what was lost or gained, counts where it holds for A or for B.

    Example: iit-bench diff runs/base runs/tuned --tier VT --unparsed
    """
    from evaluators.show.show import diff as compare

    outcomes = _outcomes(right, wrong, unparsed, truncated, errors)
    _print(compare(run_a, run_b, _filter(outcomes, lost_against, gained_against, tier, source, subject, item), bench, limit), json, full)


def _outcomes(*chosen: bool) -> tuple[Any, ...]:
    from iit_bench.types import OUTCOMES

    return tuple(outcome for outcome, wanted in zip(OUTCOMES, chosen, strict=True) if wanted)


def _filter(
    outcomes: tuple[Any, ...],
    lost_against: Path | None,
    gained_against: Path | None,
    tier: str | None,
    source: str | None,
    subject: str | None,
    item: list[str] | None,
) -> Filter:
    from evaluators.show.selection import Filter

    return Filter(
        outcomes=outcomes,
        tiers=names(tier) or (),
        sources=names(source) or (),
        subjects=names(subject) or (),
        items=tuple(item or ()),
        lost_against=lost_against,
        gained_against=gained_against,
    )


def _print(found: Any, json: bool, full: bool) -> None:
    import sys

    from iit_bench.storage.tables import canonical_json

    if json:
        write(canonical_json(found.as_dict()), json=True)
    else:
        write(found.as_text(sys.maxsize) if full else found.as_text(), end="")
