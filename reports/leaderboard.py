"""The report of run folders: the leaderboard, and the pages behind it (reports/links.py), in one folder that opens from disk.

It reads run folders, benchmark folders, and result files of other tools, only, and imports neither models nor torch (ARCHITECTURE.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluators.runs.marks import unsealed_note
from evaluators.runs.reading import read_all
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.other_kinds import refuse_other_kinds
from iit_bench.storage.runs import TaskRun
from reports import headlines, links, pages, side_by_side
from reports.bases import measured
from reports.benchmark_page import benchmark_page
from reports.benchmarks import benchmark_of
from reports.entries import Entry, Group, base_of, groups_of
from reports.folder import ReportFolder, writing
from reports.iit import about
from reports.iit import seeds as seeds_of
from reports.iit.front import front
from reports.model_page import model_page
from reports.models import Models, gather
from reports.pages import Page, Site
from reports.samples.explorer import write_explorer
from reports.samples.gather import plan
from reports.samples.section import front_section
from reports.section import Code, Definitions, Folded, Part, Section, Words, tables
from reports.series import series_page
from reports.shared import name_cell
from reports.subject import Subject
from reports.tasks import about as suite_about
from reports.tasks import sections as suites

TITLE = "IIT leaderboard"
TITLE_OF_SUITES = "Leaderboard"
_ABOUT = (
    "IIT (Interleaved Image-Text) asks a model the same questions in dialogues that go from text-only to multimodal-rich. A tier is a "
    "pattern of turns: T is a text question, V a question about an image, TTV two text questions before a visual one. The last turn is "
    "scored. Every target is asked under every history that ends in its modality, so differences between tiers are paired: what changes is "
    "the history, not the question."
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report is made of."""

    groups: Sequence[Group]
    models: Models
    bases: Sequence[TaskRun]  # task runs of the base, where one was named
    not_measured: Sequence[str] = ()  # IIT runs that have no figure against the named base, each with the reason
    benchmarks: Sequence[Benchmark | None]  # of each group; None where its folder is not at hand
    pairs: Sequence[side_by_side.Pair]  # models that have a page of two
    given: Sequence[Path]  # paths of the IIT runs in the order given
    repeated: Sequence[seeds_of.Repeated] = ()  # runs that are one model under several seeds


def report(
    runs: Sequence[Path],
    out: Path,
    title: str | None = None,
    base: Path | None = None,
    bench: Path | None = None,
    pairs: Sequence[str] = (),
    samples: bool | None = None,
    seeds: Sequence[str] = (),
    series: bool = False,
) -> Path:
    """Write the leaderboard of `runs` to `out`/index.html, and the pages behind it (reports/links.py) beside it.

    Args:
        runs: run folders of any suite, folders of `--suite all`, result files of lm-eval and VLMEvalKit; their order matters to a series
            only.
        out: folder of the page; made if it is not there. The files of an earlier report that this one does not write are removed; files
            that no report wrote are kept (reports/folder.py).
        title: of the page.
        base: a run, or a folder of `--suite all`, that the others are compared with: IIT runs on the text tiers that both have, runs of the
            suites text and vqa task by task; by default each is compared with the base of its evaluation, where that is among `runs`.
        bench: the benchmark folder that was asked; by default where the runs found it, if it is still there.
        pairs: further models side by side, "A:B" each, by the names on the page; B's losses against A are shown.
        samples: whether every dialogue is shown (samples/index.html); by default where the benchmark is at hand and the runs have at most
            `gather.MOST` predictions.
        seeds: runs that are one model under several seeds, "A,B,C" each, by the names on the page.
        series: the IIT runs are checkpoints of a series, which gets a page.

    Returns:
        The leaderboard's path. The same runs and title give the same bytes.

    Raises:
        UserError: no runs, none that is known, a pair of models that are not there, `out` cannot be written, or another
            process is writing it.
    """
    refuse_other_kinds(Path(out), "no pages go", but=("report", "demo", "lab"))
    with writing(Path(out)) as folder:
        return _write(folder, _read(runs, base, bench, pairs, seeds), title, samples, series)


def _write(folder: ReportFolder, made: Report, title: str | None, samples: bool | None, series: bool) -> Path:
    """Write the pages of a report into its folder."""
    entries = entries_in(made.groups)
    title = title or (TITLE_OF_SUITES if made.models.runs else TITLE)
    shown = plan(list(zip(made.groups, made.benchmarks, strict=True)), made.models, samples)
    of_series = series_page(made.groups, made.given) if series else None
    site = Site(
        folder=folder,
        styles=len(entries),
        models=tuple((entry.name, links.model(entry.slug)) for entry in entries),
        pairs=tuple((pair.words, pair.place) for pair in made.pairs),
        others=tuple(
            place
            for place, there in (
                (("Series", links.SERIES), series),
                (("Benchmark", links.BENCHMARK), bool(entries)),
                (("Dialogues", links.SAMPLES), not shown.why_not),
            )
            if there
        ),
    )
    for group, asked in zip(made.groups, made.benchmarks, strict=True):
        for entry in group.entries:
            pages.write(model_page(Subject(entry, group, asked, shown.why_not)), site)
    if entries:
        pages.write(benchmark_page(made.groups, made.benchmarks, folder, samples=not shown.why_not), site)
    slugs = {} if shown.why_not else {id(one.run): one.slug for one in shown.runs}
    side_by_side.write(made.pairs, made.groups, site, made.models, slugs)
    write_explorer(shown, title, site)
    if of_series is not None:
        pages.write(of_series, site)
    first = pages.write(leaderboard_page(made, title, shown.why_not), site)
    folder.tidy()
    return first


def _read(paths: Sequence[Path], base: Path | None, bench: Path | None, pairs: Sequence[str], seeds: Sequence[str]) -> Report:
    if not paths:
        raise UserError("there is no run to report; name one or more run folders, as in `iit-bench report RUN... --out DIR`")
    iit, suite_runs = read_all([Path(path) for path in paths])
    places = Counter([*(run.path.resolve() for run in iit), *(run.path.resolve() for run in suite_runs)])
    twice = [path for path, n in places.items() if n > 1]
    if twice:
        raise UserError(f"run {str(twice[0])!r} is given more than once; name each run once")
    against = measured(base, iit, suite_runs)
    groups = groups_of(against.iit)
    asked = [benchmark_of(group, bench) for group in groups]
    made = gather(entries_in(groups), suite_runs)
    given = [run.path for run in iit]
    return Report(
        groups=groups,
        models=made,
        bases=against.tasks,
        not_measured=against.left_out,
        benchmarks=asked,
        pairs=side_by_side.chosen(groups, asked, pairs),
        given=given,
        repeated=seeds_of.chosen(groups, seeds),
    )


def entries_in(groups: Sequence[Group]) -> list[Entry]:
    """The entries of all groups in the order of the page."""
    return sorted((entry for group in groups for entry in group.entries), key=lambda entry: entry.style)


def leaderboard_page(made: Report, title: str, no_samples: str) -> Page:
    """The first page; `no_samples` says why the report has no dialogues, or is empty."""
    groups, models = made.groups, made.models
    beside_base = {pair.b.slug: pair.place for pair in made.pairs if pair.of_base}
    fronts = [section for group in groups for section in front(group, beside_base)]
    sections = (
        *fronts[:2],  # the curve and the scores of the first group
        *suites.all_suites(models, groups),
        *suites.forgotten(models, made.bases),
        *fronts[2:],
        *([repeated] if (repeated := seeds_of.seeds_section(made.repeated)) is not None else []),
        front_section(no_samples),
        _how(made),
        _outcomes(made),
    )
    return Page(
        place=links.INDEX,
        stem="leaderboard",
        title=title,
        headline=headlines.of_groups(groups),
        ways=_ways(groups, beside_base, samples=not no_samples),
        about=_ABOUT if groups else "",
        about_heading="What is asked: tiers, T and V",
        notices=(*_incomplete(made), *_unsealed(made), *_not_measured(made)),
        sections=sections,
    )


def _ways(groups: Sequence[Group], beside_base: Mapping[str, str], *, samples: bool) -> tuple[tuple[str, str], ...]:
    """From the headline to what its first model lost, item by item; nothing where no model has a base."""
    told = headlines.first(groups)
    if told is None:
        return ()
    entry, group = told
    base = base_of(entry, group.entries)
    found = [(f"What {entry.name} lost, item by item", links.samples(entry.slug, change="lost"))] if samples and base else []
    found += [(f"{entry.name} and its base, side by side", beside_base[entry.slug])] if entry.slug in beside_base else []
    return (*found, (f"All about {entry.name}", links.model(entry.slug)))


def _incomplete(made: Report) -> tuple[str, ...]:
    mine = [entry.name for entry in entries_in(made.groups) if not entry.run.results.complete]
    return _notice(
        [*mine, *suite_about.incomplete(made.models)],
        "Incomplete: {names}. Some items met an error of the machine. Figures of IIT are over the items that finished, and "
        "strict counts the others as wrong; those of other suites count them as wrong. Repeat the run's command to resume it.",
    )


def _unsealed(made: Report) -> tuple[str, ...]:
    mine = [entry.name for entry in entries_in(made.groups) if entry.run.unsealed]
    note = unsealed_note([*mine, *suite_about.unsealed(made.models)])
    return (note,) if note else ()


def _notice(names: list[str], sentence: str) -> tuple[str, ...]:
    """A sentence with `{names}`, each named once; none where there are none."""
    return (sentence.replace("{names}", ", ".join(dict.fromkeys(names))),) if names else ()


def _not_measured(made: Report) -> tuple[str, ...]:
    return (f"Not measured against the base: {'; '.join(made.not_measured)}.",) if made.not_measured else ()


def _how(made: Report) -> Section:
    entries = entries_in(made.groups)
    parts: list[Part] = [*tables(about.runs_table(entries) if entries else None, suite_about.runs_table(made.models))]
    for card in (*about.run_cards(entries), *suite_about.cards(made.models)):
        marks = f" ({', '.join(card.head.badges)})" if card.head.badges else ""
        command = (Words("Command that repeats it:"), Code(card.command), Definitions(card.facts))
        parts.append(Folded(f"How {card.head.text}{marks} was run", command))
    return Section("runs", "What was run, and how", tuple(parts))


def _outcomes(made: Report) -> Section:
    entries = entries_in(made.groups)
    errors = about.errors([*((name_cell(entry), entry.run.errors) for entry in entries), *suite_about.errors(made.models)])
    parts = tables(about.outcomes(entries) if entries else None, errors)
    return Section("errors", "Outcomes and errors", parts if errors else (*parts, Words("No item failed.", "none")))
