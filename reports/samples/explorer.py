"""Writes the explorer: samples/index.html, its data and pictures, and pages of dialogues that need no JavaScript.

Everything is written before index.html, which names it.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from reports import links
from reports.page import render
from reports.pages import Site
from reports.samples.answers import write_answers
from reports.samples.arms import AskedByArms
from reports.samples.gather import Plan
from reports.samples.pictures import Pictures
from reports.samples.questions import write_set
from reports.samples.scripts import put_script
from reports.samples.static_pages import write_pages

FOLDER = "samples"
SCRIPTS = ("explorer_data.js", "explorer_view.js", "explorer_filters.js", "explorer.js")
STYLES = ("report.css", "explorer.css")


def write_explorer(plan: Plan, title: str, site: Site) -> None:
    """Write the explorer into the folder of the report; nothing where the plan says why not.

    Raises:
        UserError: a run's table cannot be read, or a file cannot be written.
    """
    if plan.why_not:
        return
    folder = site.folder

    def put(name: str, data: bytes) -> None:
        folder.put(f"{FOLDER}/{name}", data)

    pictures = Pictures(folder.path / FOLDER, put, lambda name, data: folder.keep_unchanged(f"{FOLDER}/{name}", data))
    for own in plan.sets:
        write_set(put, own, pictures)
    arms = AskedByArms(plan, pictures)
    asked = arms.write(put)
    entries, outcomes = [], {}
    for run in plan.runs:
        entry, outcomes[run.key] = write_answers(put, run, asked.get(run.key))
        entries.append(entry)
    pages = write_pages(put, plan, outcomes, pictures, arms, site)
    sets = [
        {"key": own.key, "name": own.name, "kind": own.kind, "count": len(own.asked), "questions": own.benchmark is not None}
        for own in plan.sets
    ]
    put_script(put, "catalogue", {"sets": sets, "runs": entries})
    for name in SCRIPTS:
        put(name, _asset(name).encode())
    put("explorer.css", "\n".join(map(_asset, STYLES)).encode())
    context: dict[str, Any] = {
        "title": title,
        "navigation": site.navigation(links.SAMPLES),
        "scripts": SCRIPTS,
        "pages": pages,
        "sets": plan.sets,
        "runs": len(plan.runs),
        "unreadable": pictures.unreadable,
    }
    folder.write(links.SAMPLES, render("samples.html", context))


def _asset(name: str) -> str:
    return files("reports").joinpath("static", name).read_text(encoding="utf-8").strip() + "\n"
