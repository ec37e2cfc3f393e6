"""Reported faults of the page, one test each: what was wrong, and what is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from iit_bench.storage.runs import load_run
from tests.reports.test_leaderboard import SEVEN, MakeRun, page_of, shown


def test_rows_stand_by_iit_score_and_text_llms_in_a_block_of_their_own(make_run: MakeRun, tmp_path: Path) -> None:
    """A text LLM's first number was a blank, then a line per tier; right: its text-only score, and one line for what it cannot run."""
    base = make_run("base", 0.95, text_only=True, tiers=SEVEN)
    page = page_of([base, *(make_run(name, skill, tiers=SEVEN) for name, skill in (("wings", 0.8), ("llava", 0.5)))], tmp_path / "out")
    assert list(page.rows("leaderboard-acc")) == ["wings", "llava", "chance", "question prior"]
    head, row, *foot = page.tables["leaderboard-text-acc"]
    assert [text.split(" | ")[0] for text in head] == ["model", "text-only", "T", "TT"]
    score = load_run(base).results.text_only_score["acc"]
    assert [row[0], row[1].split(" | ")[0]] == ["base", shown(score.value or 0)] and foot[0][0].startswith("chance | ")
    assert page.text.count("Not run (the model takes no images): TTV, TV, VT, V, VV.") == 4  # once per metric
    assert "not available" not in " ".join(row)


def test_runs_of_some_tiers_have_a_subset_score_in_a_block_of_their_own(make_run: MakeRun, tmp_path: Path) -> None:
    """A run of some tiers had an IIT score and ranked first; right: a subset score, marked with its tiers, below the others."""
    runs = [make_run("whole", 0.6, tiers=SEVEN), make_run("easy", 1.0, tiers=("T", "V"), bench=SEVEN)]
    page = page_of(runs, tmp_path / "out")
    assert list(page.rows("leaderboard-acc")) == ["whole", "chance", "question prior"]
    row = page.rows("leaderboard-subset-acc")["easy"]
    assert row["subset score"].startswith("100.0 | ") and row["subset score"].endswith(" | T, V")
    assert list(row) == ["model", "subset score", "T", "V"]
    assert list(page.rows("interleaving")) == ["whole"]  # a run without a history has no row of blanks


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"benchmark": {"rows_sha256": "d" * 64}}, "benchmark hash"),
        ({"scoring": "generate"}, "scoring"),
        ({"style": "letters"}, "style"),
        ({"history": "own"}, "history"),
        ({"limit": 10}, "limit"),
        ({"system_prompt": "Be brief."}, "system prompt"),
    ],
)
def test_runs_that_do_not_belong_into_one_table_have_tables_of_their_own(
    make_run: MakeRun, tmp_path: Path, changes: dict, word: str
) -> None:
    """They were refused; right: each set of runs that may be compared has its tables, and the page names in what they differ."""
    tiers = ("T", "V")
    runs = [make_run("a", 0.9, tiers=tiers), make_run("b", 0.8, tiers=tiers), make_run("c", 0.7, tiers=tiers, **changes)]
    page = page_of(runs, tmp_path / "out")
    assert [list(page.rows(f"leaderboard-acc{key}"))[:-2] for key in ("", "-1")] == [["a", "b"], ["c"]]
    assert f"They differ in: {word} (" in page.text and "no number here is to be compared" in page.text
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    over, _, *rows = page.tables["overview"]
    first, second = filter(None, over)
    assert first == "IIT" and f"IIT, asked otherwise: {word}" in second
    cells = {row[0]: row[1:] for row in rows if len(row) > 1}
    assert cells["c"][:4] == ["–"] * 4 and cells["a"][4:8] == ["–"] * 4 and "–" not in cells["c"][4:8]


def test_columns_that_no_run_of_a_set_can_fill_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    """Runs of some tiers, or of text LLMs, that were asked otherwise had columns of dashes; right: only columns that hold a figure."""
    runs = [make_run("a", 0.9, tiers=SEVEN), make_run("some", 0.8, tiers=("T", "V"), bench=SEVEN, limit=10)]
    runs += [make_run("llm", 0.7, text_only=True, tiers=SEVEN, style="letters")]
    over, heads, *rows = page_of(runs, tmp_path / "out").tables["overview"]
    names = [head.split(" | ")[0] for head in heads]
    assert names == ["model", "text-only", "IIT", "T score", "V score", "text-only"]
    assert [text for text in over if text] == ["IIT", next(text for text in over if "style (" in text)]
    cells = {row[0].split(" | ")[0]: row for row in rows if len(row) > 1}
    assert "subset score over T, V: " in cells["some"][0] and cells["some"][1:] == ["–"] * 5
    assert cells["llm"][1:5] == ["–"] * 4 and cells["llm"][5] != "–" and len(cells["chance"]) == 6


def test_templates_that_differ_are_shown_below_the_names_of_their_models(make_run: MakeRun, tmp_path: Path) -> None:
    """A template's hash was in the run's card only; right: beside the numbers, where templates differ."""
    templates = {"a": "a" * 64, "b": "b" * 64, "baseline": ""}
    runs = [make_run(name, tiers=SEVEN, model={"chat_template_sha256": digest}) for name, digest in templates.items()]
    heads = {row[0].split(" | ")[0]: row[0] for row in page_of(runs, tmp_path / "out").tables["leaderboard-acc"]}
    assert heads["a"] == "a | chat template aaaaaaaa" and heads["baseline"] == "baseline | chat template not known"
    same = page_of([runs[0], runs[2]], tmp_path / "same").tables["leaderboard-acc"]
    assert "chat template" not in "".join(row[0] for row in same)
