"""The leaderboard: a pure function from run folders to one self-contained page (ARCHITECTURE.md).

It reads run folders, and result files of other tools, only, and imports neither models nor torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evaluators.runs.reading import read_all
from iit_bench.errors import UserError
from iit_bench.storage.atomic import write_atomic
from iit_bench.storage.runs import TaskRun
from reports import figures, links
from reports.benchmarks import benchmark_of
from reports.cells import Table
from reports.entries import Entry, Group, groups_of
from reports.iit import about, blind_gap, curves, forgetting, interleaving, sections
from reports.model_page import model_page
from reports.models import Models, apart, gather
from reports.page import render
from reports.shared import SUITE_NAMES, name_cell
from reports.subject import Subject
from reports.tasks import about as suite_about
from reports.tasks import overview
from reports.tasks.forgetting import text_forgetting

TITLE = "IIT leaderboard"
TITLE_OF_SUITES = "Leaderboard"


def report(runs: Sequence[Path], out: Path, title: str | None = None, base: Path | None = None, bench: Path | None = None) -> Path:
    """Write the leaderboard of `runs` to `out`/index.html, and the pages behind it (reports/links.py) beside it.

    Args:
        runs: run folders of any suite, folders of `--suite all`, result files of lm-eval and VLMEvalKit; their order does not matter.
        out: folder of the page; made if it is not there.
        title: of the page.
        bench: the benchmark folder that was asked; by default where the runs found it, if it is still there.
        base: the base LLM's run, which text tasks are compared with; by default the base of the IIT runs, where it is among `runs`.

    Returns:
        The leaderboard's path. The same runs and title give the same bytes.

    Raises:
        UserError: no runs, none that is known, or `out` cannot be written.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"cannot write the report to {str(folder)!r}, which is a file; choose another --out")
    groups, models, bases = _read(runs, base)
    page = leaderboard_page(groups, models, bases, title or (TITLE_OF_SUITES if models.runs else TITLE))
    for group in groups:
        asked = benchmark_of(group, bench)
        for entry in group.entries:
            write_atomic(folder / links.model(entry.slug), model_page(Subject(entry, group, asked)))
    write_atomic(folder / links.INDEX, page)
    return folder / links.INDEX


def _read(paths: Sequence[Path], base: Path | None) -> tuple[list[Group], Models, list[TaskRun]]:
    """IIT runs, what the page shows beside them, and the text runs of the base."""
    if not paths:
        raise UserError("there is no run to report; name one or more run folders, as in `iit-bench report RUN... --out DIR`")
    iit, suites = read_all([Path(path) for path in paths])
    places = Counter([*(run.path.resolve() for run in iit), *(run.path.resolve() for run in suites)])
    twice = [path for path, n in places.items() if n > 1]
    if twice:
        raise UserError(f"run {str(twice[0])!r} is given more than once; name each run once")
    bases = [run for run in read_all([base])[1] if run.run["suite"] == "text"] if base else []
    if base and not bases:
        raise UserError(f"--base {str(base)!r} holds no run of suite text; give the base LLM's, or leave out --base")
    groups = groups_of(iit)
    return groups, gather(entries_in(groups), suites), bases


def entries_in(groups: Sequence[Group]) -> list[Entry]:
    """The entries of all groups in the order of the page."""
    return sorted((entry for group in groups for entry in group.entries), key=lambda entry: entry.style)


def leaderboard_page(groups: Sequence[Group], models: Models, bases: Sequence[TaskRun], title: str) -> str:
    """The page as text. `groups` as `groups_of` gives them, `models` as `gather` does."""
    entries = entries_in(groups)
    errors_of_iit = [(name_cell(entry), entry.run.errors) for entry in entries]
    context: dict[str, Any] = {
        "title": title,
        "entries": entries,
        "incomplete": list(dict.fromkeys([*(e.name for e in entries if not e.run.results.complete), *suite_about.incomplete(models)])),
        "sprite": Markup(figures.swatches(len(entries))) if entries else "",
        "errors": about.errors([*errors_of_iit, *suite_about.errors(models)]),
        "cards": [*(about.run_cards(entries)), *suite_about.cards(models)],
        "overview": overview.overview(models, groups) if models.runs or len(groups) > 1 else None,
        "apart": apart(models),
        "scores": [table for suite in SUITE_NAMES if (table := overview.scores(models, suite))],
        "suite_runs": suite_about.runs_table(models),
        "text_forgetting": text_forgetting(models, bases),
        "of_suites": bool(models.runs),
        "runs": about.runs_table(entries) if entries else None,
        "outcomes": about.outcomes(entries) if entries else None,
        "groups": [_keyed(_iit_parts(group), group.key) for group in groups],
    }
    return render("leaderboard.html", context)


def _iit_parts(group: Group) -> dict[str, Any]:
    """The sections about IIT of runs that may share a table."""
    entries = group.entries
    return {
        "key": group.key,
        "apart": group.apart,
        "entries": entries,
        "facts": about.benchmark_facts(entries),
        "sources": about.sources(entries),
        "baselines": about.baselines(entries),
        "leaderboards": [(sections.METRICS[metric][0], sections.leaderboards(entries, metric, linked=True)) for metric in sections.METRICS],
        "curves": curves.panels(entries, group.key),
        "interleaving": interleaving.interleaving(entries),
        "forgetting": forgetting.forgetting(entries),
        "without_base": [entry.name for entry in entries if entry.run.results.forgetting is None],
        "breakdowns": [table for modality in "VT" if (table := sections.breakdown(entries, modality)) is not None],
        "positions": sections.positions(entries),
        "blind_gap": blind_gap.blind_gap(entries),
    }


def _keyed(value: Any, key: str) -> Any:
    """The parts of a group with its key at the end of the ids of their tables."""
    if isinstance(value, Table):
        return replace(value, key=value.key + key)
    if isinstance(value, dict):
        return {name: _keyed(one, key) for name, one in value.items()}
    return type(value)(_keyed(one, key) for one in value) if isinstance(value, (list, tuple)) else value
