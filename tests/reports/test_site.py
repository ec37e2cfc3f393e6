"""The folder of a report: a page per model, names of files, the benchmark behind the runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from iit_bench.errors import UserError
from reports import links
from reports.leaderboard import report

MakeRun = Callable[..., Path]


def test_every_model_has_a_page_that_the_leaderboard_leads_to(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(name) for name in ("Wings", "wings ", "<b>")]
    page = report(runs, tmp_path / "report")
    text = page.read_text(encoding="utf-8")
    made = sorted(path.relative_to(tmp_path / "report").as_posix() for path in (tmp_path / "report" / "models").iterdir())
    assert len(made) == len(runs)
    assert all(f'href="{name}"' in text for name in made)


def test_names_of_files_are_plain_unique_and_never_hidden() -> None:
    names = ["Wings", "wings", "../../etc", "", "<script>", "\u202e模型", "a" * 300, ".hidden"]
    made = links.slugs(names)
    assert len(set(made)) == len(names)
    assert made[:2] == ["wings", "wings-2"]
    assert all(name.strip("-.") == name and len(name) <= 64 and name.isascii() and "/" not in name for name in made)


def test_another_benchmark_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest\.json|is not there"):
        report([make_run("wings")], tmp_path / "report", bench=tmp_path / "nothing")
