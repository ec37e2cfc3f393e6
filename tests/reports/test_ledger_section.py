"""The section of a model's page on what it lost and kept, and the terminal's ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from evaluators.compare.runs import comparisons
from evaluators.iit.ledger import ledger
from iit_bench.storage.runs import load_run
from reports.entries import groups_of
from reports.formats.figures import _of_entry
from reports.iit.ledger import in_words, ledger_section
from reports.leaderboard import report
from reports.section import TablePart
from reports.subject import Subject
from tests.resealed import reseal

MakeRun = Callable[..., Path]


def page_of(runs: list[Path], out: Path, name: str) -> str:
    report(runs, out)
    return (out / "models" / f"{name}.html").read_text(encoding="utf-8")


@pytest.fixture
def base(make_run: MakeRun) -> Path:
    return make_run("base", 0.95)


def test_the_page_names_what_was_lost_with_the_ledgers_figures(make_run: MakeRun, base: Path, tmp_path: Path) -> None:
    run = make_run("tuned", 0.6, base="base")
    page = page_of([base, run], tmp_path / "report", "tuned")
    forgotten = load_run(run, "iit").results.forgetting
    assert forgotten is not None and forgotten.ledger is not None
    counts, lost = forgotten.ledger.parts[0].counts, forgotten.ledger.lost
    assert f"Of {sum(counts.values())} answers to text targets, {counts['lost']} are lost" in page
    assert lost and all(item.question in page for item in lost)
    assert "samples/index.html#run=" not in page  # no explorer without the benchmark


def test_a_lost_item_leads_to_its_dialogue_where_the_report_shows_dialogues(make_run: MakeRun, base: Path) -> None:
    (group,) = groups_of([load_run(base, "iit"), load_run(make_run("tuned", 0.6, base="base"), "iit")])
    entry = next(entry for entry in group.entries if entry.name == "tuned")
    section = ledger_section(Subject(entry, group, None))
    assert section is not None and entry.run.results.forgetting is not None and entry.run.results.forgetting.ledger is not None
    table = next(part.table for part in section.parts if isinstance(part, TablePart) and part.table.key == "ledger-lost")
    first = entry.run.results.forgetting.ledger.lost[0].dialogues[0]
    assert table.rows[0][-1].href == f"../samples/index.html#run=tuned&item={quote(first, safe='')}"


def test_rates_that_rest_on_few_items_are_marked_on_the_page_in_the_terminal_and_in_the_table(make_run: MakeRun, base: Path) -> None:
    run = make_run("tuned", 0.6, base="base")
    forgotten = load_run(run, "iit").results.forgetting
    assert forgotten is not None and forgotten.ledger is not None
    whole = forgotten.ledger.parts[0]
    few = [name for name, count in whole.counts.items() if min(count, sum(whole.counts.values()) - count) < 20]
    assert 0 < len(few) < 4  # so that a mark of all, or of none, is seen
    groups = groups_of([load_run(base, "iit"), load_run(run, "iit")])
    entry = next(entry for entry in groups[0].entries if entry.name == "tuned")
    section = ledger_section(Subject(entry, groups[0], None))
    assert section is not None
    table = next(part.table for part in section.parts if isinstance(part, TablePart) and part.table.key == "ledger-parts")
    assert table.rows[0][2].lines == (f"few: {', '.join(few)}",)
    (compared,) = comparisons(base, run)
    printed = compared.as_table().partition("Ledger, items")[2]
    (row,) = (line for line in printed.splitlines() if line.strip().startswith("T* "))
    assert ["*" * (name in few) for name in ("lost", "kept", "gained")] == re.findall(r"\](\*?)", row)
    assert "* few items, under 20" in printed
    noted = {row.metric for row in _of_entry(entry) if row.over == "all: T*" and "few items" in row.note}
    assert noted == {one + suffix for one in few for suffix in ("", " corrected")}


def test_a_run_without_a_base_has_no_ledger(base: Path, tmp_path: Path) -> None:
    assert 'id="ledger' not in page_of([base], tmp_path / "report", "base")


def test_a_run_of_before_ledgers_gets_one_where_its_base_is_on_the_page(make_run: MakeRun, base: Path, tmp_path: Path) -> None:
    run = make_run("tuned", 0.6, base="base")
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    whole = results["forgetting"].pop("ledger")["parts"][0]["counts"]
    reseal(run / "results.json", results)
    assert f"{whole['lost']} are lost" in page_of([base, run], tmp_path / "report", "tuned")
    assert "made before there were ledgers" in page_of([run], tmp_path / "alone", "tuned")


def test_repeats_on_the_page_give_the_noise_floor(make_run: MakeRun, base: Path, tmp_path: Path) -> None:
    same = {"model": {"checkpoint_sha256": "d" * 64}}
    runs = [base, make_run("tuned", 0.6, base="base", **same), make_run("again", 0.6, base="base", seed=1, **same)]
    page = page_of(runs, tmp_path / "report", "tuned")
    assert re.search(r"this run and its repeats \(again\) disagree in \d+\.\d%", page)
    assert "no repeat of this run" in page_of([base, make_run("other", 0.6, base="base")], tmp_path / "of-other", "other")


def test_hostile_names_of_items_are_words_on_the_page(make_run: MakeRun, base: Path, tmp_path: Path) -> None:
    run = make_run("tuned", 0.6, base="base")
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    hostile = "</td><script>alert(1)</script>\u202e\x00" + "x" * 1_000_000
    results["forgetting"]["ledger"]["lost"][0] |= {"question": hostile, "subject": hostile, "dialogues": [hostile]}
    reseal(run / "results.json", results)
    base.rename(base.with_name("elsewhere"))  # beside it, the ledger is made again, and this one refused
    page = page_of([run], tmp_path / "report", "tuned")
    assert "<script>alert" not in page and "\u202e" not in page and "⟨U+202E⟩" in page


def test_compare_prints_and_gives_the_ledgers_of_both_modalities(make_run: MakeRun, base: Path) -> None:
    run = make_run("tuned", 0.6, base="base")
    (one,) = comparisons(base, run)
    table, data = one.as_table(), one.as_dict()
    assert [ledger["modality"] for ledger in data["ledgers"]] == ["T", "V"]
    stored = load_run(run, "iit").results.forgetting
    assert stored is not None and stored.ledger is not None
    assert data["ledgers"][0]["parts"][0]["counts"] == stored.ledger.parts[0].counts
    counts = data["ledgers"][1]["parts"][0]["counts"]
    assert re.search(rf"V\* +{sum(counts.values())} +{counts['lost']} +{counts['kept']} ", table) and "Lost V items" in table
    assert max(map(len, table.splitlines())) < 500 and data["noise_floor"] is None


def test_compare_of_two_repeats_gives_the_noise_floor(base: Path) -> None:
    (one,) = comparisons(base, base)
    assert one.as_dict()["noise_floor"]["value"] == 0 and "one checkpoint" in one.as_table()


def test_sides_that_guess_alike_are_named_where_the_correction_leaves_what_is_possible(make_run: MakeRun, base: Path) -> None:
    """A run beside itself, whose guesses are all shared, and beside one that guesses by itself."""
    run = make_run("tuned", 0.6, base="base")
    turns = {path: groups_of([load_run(path, "iit")])[0].entries[0].turns for path in (base, run)}
    tables = [next(iter(comparisons(one, run))).as_table() for one in (run, base)]
    pools = [in_words(ledger(turns[run], turns[one]).parts[0], "base") for one in (run, base)]
    assert ["guess alike" in words for words in (*tables, *pools)] == [True, False, True, False]
