"""The leaderboard: a pure function from run folders to one self-contained page (DESIGN.md "Rooms").

It reads run folders only, and imports neither models nor torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evaluators.forgetting import blind_gap
from iit_bench.errors import UserError
from iit_bench.folders import write_atomic
from iit_bench.types import PairedResult
from reports import about, curves, figures, paired, sections
from reports.entries import Entry, load_entries
from reports.page import render

TITLE = "IIT leaderboard"


def report(runs: Sequence[Path], out: Path, title: str = TITLE) -> Path:
    """Write the leaderboard of `runs` to `out`/index.html.

    Args:
        runs: run folders; their order does not matter.
        out: folder of the page; made if it is not there.
        title: of the page.

    Returns:
        The page's path. The same runs and title give the same bytes.

    Raises:
        UserError: no runs, not a run folder, runs that do not belong into one table, or `out` cannot be written.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"cannot write the report to {str(folder)!r}, which is a file; choose another --out")
    page = leaderboard_page(load_entries(runs), title)
    write_atomic(folder / "index.html", page)
    return folder / "index.html"


def leaderboard_page(entries: Sequence[Entry], title: str = TITLE) -> str:
    """The page as text. `entries` as `load_entries` gives them."""
    context: dict[str, Any] = {
        "title": title,
        "entries": entries,
        "incomplete": [entry.name for entry in entries if not entry.run.results.complete],
        "facts": about.benchmark_facts(entries),
        "sources": about.sources(entries),
        "baselines": about.baselines(entries),
        "leaderboards": [(sections.METRICS[metric][0], sections.leaderboard(entries, metric)) for metric in sections.METRICS],
        "sprite": Markup(figures.swatches(len(entries))),
        "curves": curves.panels(entries),
        "interleaving": paired.interleaving(entries),
        "forgetting": paired.forgetting(entries),
        "without_base": [entry.name for entry in entries if entry.run.results.forgetting is None],
        "breakdowns": [table for modality in "VT" if (table := sections.breakdown(entries, modality)) is not None],
        "positions": sections.positions(entries),
        "blind_gap": paired.blind_gap(_blind_gaps(entries), entries),
        "runs": about.runs_table(entries),
        "cards": about.run_cards(entries),
        "outcomes": about.outcomes(entries),
        "errors": about.errors(entries),
    }
    return render("leaderboard.html", context)


def _blind_gaps(entries: Sequence[Entry]) -> dict[str, Sequence[PairedResult]]:
    """By the sighted entry's name: its differences to the first blind run of the same checkpoint that shares a V tier with it."""
    gaps: dict[str, Sequence[PairedResult]] = {}
    for entry in entries:
        digest = entry.model["checkpoint_sha256"]
        blind = [other for other in entries if other.model["blind"] and other.model["checkpoint_sha256"] == digest]
        blind = [other for other in blind if any(_answered(entry, tier) and _answered(other, tier) for tier in entry.tiers)]
        if digest and blind and not entry.model["blind"]:
            gaps[entry.name] = blind_gap(entry.run.predictions, blind[0].run.predictions, blind[0].name)
    return gaps


def _answered(entry: Entry, tier: str) -> bool:
    return tier.endswith("V") and tier in entry.tiers and entry.tiers[tier].acc.value is not None
