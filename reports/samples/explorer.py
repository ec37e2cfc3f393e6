"""Writes the explorer: samples/index.html, its data and pictures, and pages of dialogues that need no JavaScript.

Everything is written before index.html, which names it. A later report into the same folder removes the files of the earlier one that it
does not need (`samples/files.txt` lists them), and nothing else.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError
from iit_bench.storage.atomic import write_atomic
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
LIST = "files.txt"
SCRIPTS = ("explorer_data.js", "explorer_view.js", "explorer.js")
STYLES = ("report.css", "explorer.css")
_OURS = re.compile(r"(data|images|pages)/[A-Za-z0-9._-]+")


class Files:
    """The files of the explorer, written as they are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: set[str] = set()

    def put(self, name: str, data: bytes) -> None:
        """Write a file below the folder.

        Raises:
            UserError: it cannot be written.
        """
        self.keep(name, data)
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}; free some space or choose another --out") from error

    def keep(self, name: str, _data: bytes) -> None:
        """Keep a file that is there."""
        self.names.add(name)

    def tidy(self) -> None:
        """Remove the files of an earlier report that are not of this one, and note those of this one."""
        listed = self.folder / LIST
        earlier = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
        for name in earlier:
            if _OURS.fullmatch(name) and name not in self.names:
                (self.folder / name).unlink(missing_ok=True)
        write_atomic(listed, "".join(f"{name}\n" for name in sorted(self.names)))


def write_explorer(report: Path, plan: Plan, title: str, site: Site) -> None:
    """Write the explorer into the folder of a report; nothing where the plan says why not.

    Raises:
        UserError: a run's table cannot be read, or a file cannot be written.
    """
    if plan.why_not:
        return
    out = Files(report / FOLDER)
    pictures = Pictures(out.folder, out.put, out.keep)
    for own in plan.sets:
        write_set(out.put, own, pictures)
    arms = AskedByArms(plan, pictures)
    asked = arms.write(out.put)
    entries, outcomes = [], {}
    for run in plan.runs:
        entry, outcomes[run.key] = write_answers(out.put, run, asked.get(run.key))
        entries.append(entry)
    pages = write_pages(out.put, plan, outcomes, pictures, arms, site)
    sets = [
        {"key": own.key, "name": own.name, "kind": own.kind, "count": len(own.asked), "questions": own.benchmark is not None}
        for own in plan.sets
    ]
    put_script(out.put, "catalogue", {"sets": sets, "runs": entries})
    for name in SCRIPTS:
        out.put(name, _asset(name).encode())
    out.put("explorer.css", "\n".join(map(_asset, STYLES)).encode())
    context: dict[str, Any] = {
        "title": title,
        "navigation": site.navigation(links.SAMPLES),
        "scripts": SCRIPTS,
        "pages": pages,
        "sets": plan.sets,
        "runs": len(plan.runs),
        "unreadable": pictures.unreadable,
    }
    out.tidy()
    write_atomic(report / links.SAMPLES, render("samples.html", context))


def _asset(name: str) -> str:
    return files("reports").joinpath("static", name).read_text(encoding="utf-8").strip() + "\n"
