"""`report --base RUN`: the runs of a page against a base, of whichever suites it is (docs/spec/iit.md#text-only-forgetting)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluators.iit import comparison
from evaluators.iit.columns import Turns
from evaluators.iit.forgetting import forgetting
from evaluators.runs.reading import read_all
from iit_bench.errors import UserError
from iit_bench.storage.runs import IitRun, TaskRun, folder_label


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The runs of a page, and what their base is."""

    iit: Sequence[IitRun]  # those measured against the base have its forgetting; the base is among them
    tasks: Sequence[TaskRun] = ()  # the base's runs of the suites text and vqa
    left_out: Sequence[str] = ()  # IIT runs that were not measured against the base, each with the reason


def measured(base: Path | None, iit: Sequence[IitRun], tasks: Sequence[TaskRun]) -> Measured:
    """The runs of a page against the base that the user names; without one as they are, each against the base of its evaluation.

    Raises:
        UserError: the base is no run, holds several runs of suite iit, or no run of the page can be compared with it.
    """
    if base is None:
        return Measured(iit=iit)
    of_iit, of_tasks = read_all([base])
    if len(of_iit) > 1:
        raise UserError(f"--base {str(base)!r} holds {len(of_iit)} runs of suite iit; name one of them")
    found: list[IitRun | str] = [_against(run, of_iit[0]) for run in iit if not _is(run, of_iit[0])] if of_iit else []
    told = [one for one in found if not isinstance(one, str)]
    reasons = [one for one in found if isinstance(one, str)]
    suites = {run.run["suite"] for run in tasks}
    if not told and not any(run.run["suite"] in suites for run in of_tasks):
        held = ", ".join(dict.fromkeys([*("iit" for _ in of_iit), *(run.run["suite"] for run in of_tasks)]))
        why = f"; {'; '.join(reasons)}" if reasons else ""
        raise UserError(
            f"--base {str(base)!r} is of suite {held}, and no run of the page can be compared with it{why}; give the base's run of a "
            "suite that the page has, asked alike, or leave out --base"
        )
    if not told:
        return Measured(iit=iit, tasks=of_tasks, left_out=reasons)
    new = {run.path: run for run in told}
    kept = [new.get(run.path, run) for run in iit]
    on_page = any(_is(run, of_iit[0]) for run in iit)
    return Measured(iit=kept if on_page else [*kept, of_iit[0]], tasks=of_tasks, left_out=reasons)


def _is(run: IitRun, base: IitRun) -> bool:
    return run.path.resolve() == base.path.resolve()


def _against(run: IitRun, base: IitRun) -> IitRun | str:
    """The run with its forgetting against the base; else why it has none, in words."""
    name = str(run.run["name"])
    if run.results.decision is not None:
        return f"{name}: it was to stop when decided against its own base"
    if run.run["model"].get("parameters") == 0:
        return f"{name}: a baseline without weights was not made from any base"
    if differing := comparison.incomparable(run.run, base.run):
        return f"{name}: not asked alike, {', '.join(differing)}"
    try:
        found = forgetting(Turns.of_run(run), Turns.of_run(base), str(base.run["name"]), folder_label(base.path))
    except UserError:
        return f"{name}: no tier that ends in T in common"
    found = replace(found, asked_apart=comparison.asked_apart(base.run, run.run))
    return replace(run, results=replace(run.results, forgetting=found))
