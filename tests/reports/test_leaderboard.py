"""The page shows the numbers of results.json, refuses what does not belong together, and treats every text as hostile."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evaluators.iit.comparison import TEST_NAMES
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run
from reports.leaderboard import report
from tests.resealed import relist, reseal, save_run_outcome

MakeRun = Callable[..., Path]
SEVEN = ("T", "TT", "TV", "VT", "V", "VV", "TTV")


class Reader(HTMLParser):
    """The page as a reader without style sees it: its tables as lists of rows of texts, its elements and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._table = ""
        self._cell: list[str] | None = None
        self._silent = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("style", "script"):
            self._silent = True
        if tag == "table":
            self._table = dict(attrs)["id"] or ""
            self.tables[self._table] = []
        elif tag == "tr" and self._table:
            self.tables[self._table].append([])
        elif tag in ("th", "td") and self._table:
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "script"):
            self._silent = False
        if tag in ("th", "td") and self._cell is not None:
            self.tables[self._table][-1].append(" | ".join(filter(None, (part.strip() for part in self._cell))))
            self._cell = None
        elif tag == "table":
            self._table = ""

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data
            if self._cell is not None:
                self._cell.append(data)

    def rows(self, table: str) -> dict[str, dict[str, str]]:
        """Row header -> column label -> text of the cell."""
        head, *rows = self.tables[table]
        labels = [text.split(" | ")[0] for text in head]
        return {row[0].split(" | ")[0]: dict(zip(labels, row, strict=True)) for row in rows}

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.elements for key, value in attributes.items() if key == name]


def page_of(runs: Sequence[Path], out: Path, place: str = "index.html", **options: str) -> Reader:
    return Reader((report(runs, out, **options).parent / place).read_text(encoding="utf-8"))


def shown(value: float) -> str:
    """A fraction as the page prints it, written here anew."""
    return format(round(value * 100 + 0.0, 1), ".1f").replace("-", "−")


# ---------------------------------------------------------------- numbers


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, maker_in: Callable[[Path], MakeRun]) -> dict[str, Path]:
    make = maker_in(tmp_path_factory.mktemp("runs"))
    return {
        "base": make("base", 0.95, text_only=True, tiers=SEVEN),
        "wings": make("wings", lambda tier: 0.9 - 0.1 * tier.count("V"), tiers=SEVEN, base="base"),
        "llava": make("llava", lambda tier: 0.6 if tier[-1] == "T" else 0.8, tiers=SEVEN, base="base", failed=2, unparsed=3),
    }


@pytest.fixture(scope="module")
def page(three: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return page_of(list(three.values()), tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize("metric", ["acc", "acc_norm", "acc_bytes", "acc_corrected"])
def test_leaderboard_shows_every_score_and_tier_of_results_json(page: Reader, three: dict[str, Path], metric: str) -> None:
    for name in ("wings", "llava"):
        results = json.loads((three[name] / "results.json").read_text())
        row = page.rows(f"leaderboard-{metric}")[name]
        wanted = {"IIT": results["iit"][metric], "T score": results["t_score"][metric], "V score": results["v_score"][metric]}
        wanted |= {"text-only": results["text_only_score"][metric]}
        wanted |= {tier["tier"]: tier[metric] for tier in results["tiers"]}
        assert set(wanted) == set(row) - {"model"}
        for column, figure in wanted.items():
            value, interval, *_ = row[column].split(" | ")
            assert value == shown(figure["value"])
            assert [shown(figure["low"]), shown(figure["high"])] == re.split("–| to ", interval)


def test_tiers_stand_from_text_only_to_multimodal_rich(page: Reader) -> None:
    labels = [text.split(" | ")[0] for text in page.tables["leaderboard-acc"][0]]
    assert labels == ["model", "IIT", "T score", "V score", "text-only", "T", "TT", "TTV", "TV", "VT", "V", "VV"]


def test_every_cell_of_every_table_has_a_text(page: Reader) -> None:
    assert all(text for rows in page.tables.values() for line in rows for text in line)


def test_n_is_in_the_heading_or_in_the_cell(page: Reader, three: dict[str, Path]) -> None:
    for name in ("base", "wings", "llava"):
        table = "leaderboard-text-acc" if name == "base" else "leaderboard-acc"
        heading = dict(text.split(" | ", 1) for text in page.tables[table][0][1:])
        for tier in load_run(three[name]).results.tiers:
            if tier.acc.value is not None:
                place = page.rows(table)[name][tier.tier] + heading[tier.tier]
                own = f"n\u00a0{tier.acc.n}"
                assert own in (page.rows(table)[name][tier.tier] if own not in heading[tier.tier] else place)


def test_incomplete_run_is_marked_and_shows_strict_beside_finished(page: Reader, three: dict[str, Path]) -> None:
    cells = next(row for row in page.tables["leaderboard-acc"] if row[0].startswith("llava"))
    results = load_run(three["llava"]).results
    assert "incomplete" in cells[0]
    by_tier = page.rows("leaderboard-acc")["llava"]
    for tier in results.tiers:
        assert tier.acc_strict.value is not None and tier.acc.value != tier.acc_strict.value
        assert f"strict {shown(tier.acc_strict.value)}" in by_tier[tier.tier]
    strict = [tier.acc_strict.value or 0.0 for tier in results.tiers]
    assert f"strict {shown(sum(strict) / len(strict))}" in by_tier["IIT"]
    assert "Incomplete: llava" in page.text
    assert "strict" not in "".join(page.rows("leaderboard-acc")["wings"].values())


def test_interleaving_matrix_and_list_show_the_paired_results(page: Reader, three: dict[str, Path]) -> None:
    results = load_run(three["wings"]).results
    matrix = page.rows("interleaving")["wings"]
    details = [row for row in page.tables["interleaving-detail"] if row[0].startswith("wings")]
    for effect, line in zip(results.interleaving, details, strict=True):
        d = effect.difference
        assert d.value is not None and d.low is not None and d.high is not None and effect.p_holm is not None
        sign = "+" if round(d.value, 3) > 0 else ""
        assert matrix[effect.over].split(" | ")[0] == sign + shown(d.value)
        assert [*line[1:3], line[4]] == [effect.over, effect.against, str(d.n)]
        assert line[6] in matrix[effect.over]  # the same family, that of the page: tests/reports/test_families.py
        detectable = line.pop(8).split(" | ")[0].removeprefix("≥ ")
        assert [*line[7:], detectable] == [TEST_NAMES[effect.test], str(effect.only_a), str(effect.only_b), shown(effect.detectable or 0.0)]


def test_forgetting_shows_both_accuracies_difference_and_retention(page: Reader, three: dict[str, Path]) -> None:
    for name in ("wings", "llava"):
        result = load_run(three[name]).results.forgetting
        assert result is not None
        row = page.rows("forgetting")[name]
        for column, figure in (("base acc", result.base_acc), ("acc", result.acc), ("retention", result.retention)):
            assert row[column].split(" | ")[0] == shown(figure.value or 0.0)
        lost = shown(result.pooled.difference.value or 0.0)
        assert row["difference"].split(" | ")[0] == "+" + lost  # the base is better, and positive is lost
        assert row["base"] == "base | run base | over T, TT"
    assert "Without a base run: base." in page.text


def test_undefined_retention_is_shown_with_its_reason(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("guesser", 0.25, tiers=("T", "V")), make_run("tuned", 0.3, tiers=("T", "V"), base="guesser")]
    retention = page_of(runs, tmp_path / "out").rows("forgetting")["tuned"]["retention"]
    assert retention.startswith("not available | undefined")


def test_breakdown_has_shape_colour_and_yes_no_apart_with_chance(page: Reader, three: dict[str, Path]) -> None:
    rows = page.rows("breakdown-V")
    assert {name: row["chance"] for name, row in rows.items()} == {"colour": "12.5", "shape": "33.3", "yes/no": "50.0"}
    parts = {b.subject: b.acc for b in load_run(three["wings"]).results.breakdown if b.tier == "V"}
    assert {name: row["wings"].split(" | ")[0] for name, row in rows.items()} == {s: shown(acc.value or 0) for s, acc in parts.items()}
    assert set(page.rows("breakdown-T")) == {"capital", "currency", "symbol"}


def test_baselines_of_the_manifest_stand_beside_the_scores(page: Reader, three: dict[str, Path], tmp_path: Path) -> None:
    asked = page_of(list(three.values()), tmp_path / "out", "benchmark.html")
    rows = asked.rows("baselines")
    assert rows["all visual targets"]["question prior"] == rows["easyvqa"]["question prior"] == "67.8"
    assert rows["all text targets"]["question prior"].startswith("not available")
    assert rows["all text targets"]["majority"] == "31.0"
    assert "easyvqa/yes/no" not in rows and page.rows("breakdown-V")["yes/no"]["question prior"] == "82.4"
    foot = page.rows("leaderboard-acc")["question prior"]
    assert (foot["TV"], foot["V score"], foot["IIT"][:13]) == ("67.8", "67.8", "not available")
    assert asked.rows("sources")["facts"]["left out"] == "28 several correct answers"
    assert next(iter(page.tables)) == "three"


def test_blind_gap_is_paired_by_checkpoint(make_run: MakeRun, tmp_path: Path) -> None:
    same = {"checkpoint_sha256": "a" * 64}
    runs = [
        make_run("sees", 0.9, tiers=("T", "V", "VV"), model=same),
        make_run("sees-blind", 0.5, tiers=("T", "V", "VV"), model=same | {"blind": True}),
        make_run("other", 0.7, tiers=("T", "V", "VV")),
    ]
    table = page_of(runs, tmp_path / "out").rows("blind-gap")
    assert list(table) == ["sees"]
    sighted, blind = (load_run(path).results.tiers for path in runs[:2])
    gap = {a.tier: (a.acc.value or 0) - (b.acc.value or 0) for a, b in zip(sighted, blind, strict=True)}
    assert table["sees"]["V"].startswith("+" + shown(gap["V"]))
    assert set(table["sees"]) == {"model", "V", "VV", "V*"}


def test_without_blind_base_or_history_the_page_reports_it(make_run: MakeRun, tmp_path: Path) -> None:
    reader = page_of([make_run("alone", tiers=("T",))], tmp_path / "out")
    for sentence in ("no run has a blind run", "no run was evaluated against a base run", "no tier with a history", "No item failed."):
        assert sentence in reader.text


def test_how_to_run_again_and_errors_by_reason_are_there(page: Reader, three: dict[str, Path]) -> None:
    for path in three.values():
        run = load_run(path).run
        assert run["command"] in page.text and run["model"]["checkpoint_sha256"] in page.text and run["git_commit"] in page.text
    failed = load_run(three["llava"]).results.outcomes["error"]
    errors = page.rows("errors")["llava"]
    assert (errors["reason"], errors["kind"], errors["count"]) == ("out of memory", "machine", str(failed))
    assert page.rows("outcomes")["llava"]["unparsed"] == str(load_run(three["llava"]).results.outcomes["unparsed"])


# ---------------------------------------------------------------- form


@pytest.mark.slow
def test_same_runs_in_any_order_give_the_same_bytes(three: dict[str, Path], tmp_path: Path) -> None:
    one = report(list(three.values()), tmp_path / "one").read_bytes()
    code = "import sys; from pathlib import Path; from reports.leaderboard import report; report(sys.argv[2:], Path(sys.argv[1]))"
    words = [sys.executable, "-c", code, str(tmp_path / "two"), *map(str, reversed(three.values()))]
    subprocess.run(words, check=True, env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"})
    assert (tmp_path / "two" / "index.html").read_bytes() == one


def test_page_loads_nothing_and_has_no_inline_handlers_or_styles(page: Reader) -> None:
    links = [*page.attributes("src"), *page.attributes("href"), *page.attributes("xlink:href"), *page.attributes("action")]
    assert not [link for link in links if re.match(r"[a-z]+:|/", link)]  # within the report's folder only
    assert page.attributes("style") == []
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    assert not {tag for tag, _ in page.elements} & {"link", "iframe", "object", "embed", "img", "base", "form"}
    policy = next(value for value in page.attributes("content") if "default-src" in value)
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_ids_are_unique_and_references_lead_somewhere(page: Reader) -> None:
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in page.attributes("href") if link.startswith("#")} <= set(ids)
    assert {name for value in page.attributes("aria-labelledby") for name in value.split()} <= set(ids)


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def test_hostile_text_is_shown_and_never_run(make_run: MakeRun, tmp_path: Path) -> None:
    changes = {
        "model": {"checkpoint": HOSTILE, "system_prompt": HOSTILE, "details": {HOSTILE: HOSTILE}},
        "benchmark": {"name": HOSTILE, "sources": {HOSTILE: {"origin": HOSTILE}}, "baselines": {HOSTILE: {"random": 0.5}}},
        "command": f"iit-bench eval {HOSTILE}",
    }
    runs = [make_run(HOSTILE, folder="hostile", failed=1, tiers=("T", "V"), **changes)]
    lines = (
        {"format": "iit-bench/run/errors", "version": 2},
        *({"kind": kind, "reason": HOSTILE, "detail": HOSTILE} for kind in (HOSTILE, "machine")),
    )
    (runs[0] / "errors.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    relist(runs[0] / "errors.jsonl")
    reader = page_of(runs, tmp_path / "out", title=HOSTILE)
    assert [tag for tag, _ in reader.elements].count("script") == 1
    assert "img" not in [tag for tag, _ in reader.elements]
    assert reader.text.count(HOSTILE) > 10
    assert not [key for _, attributes in reader.elements for key in attributes if key.startswith("on")]


def test_direction_marks_controls_and_lone_surrogates_are_spelt_out(make_run: MakeRun, tmp_path: Path) -> None:
    name = "safe\u202etxet\u2066 nul\x00 esc\x1b \ud83d نص 模型 👩\u200d💻"
    path = make_run("x", folder="marks", tiers=("T",))
    header = json.loads((path / "run.json").read_text())
    reseal(path / "run.json", header | {"name": name})
    page = report([path], tmp_path / "out").read_text(encoding="utf-8")
    assert not set("\u202e\u2066\x00\x1b") & set(page)
    assert "safe⟨U+202E⟩txet⟨U+2066⟩ nul⟨U+0000⟩ esc⟨U+001B⟩ ⟨U+D83D⟩ نص 模型 👩\u200d💻" in page


def test_equal_names_are_distinguished_by_folder(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("same", tiers=("T",), folder="one"), make_run("same", tiers=("T",), folder="two")]
    assert set(page_of(runs, tmp_path / "out").rows("leaderboard-acc")) == {"same (one)", "same (two)", "chance", "question prior"}


def test_positions_of_own_history_are_shown(make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run("own", tiers=("TT",), history="own")
    run = load_run(path)
    earlier = [
        dataclasses.replace(one, position=0, is_target=False, outcome="correct" if i % 4 else "wrong")
        for i, one in enumerate(run.predictions)
    ]
    save_run_outcome(path, [*run.predictions, *earlier], run.results, [])
    table = page_of([path], tmp_path / "out").tables["positions"]
    own = f"{100 * run.results.tiers[0].acc.value:.1f}"
    assert [[*row[:2], row[2].split(" | ")[0]] for row in table[1:]] == [["TT", "position 0", "75.0"], ["TT", "position 1", own]]


# ---------------------------------------------------------------- refusals


def test_no_run_twice_the_same_empty_and_foreign_folders_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a", tiers=("T",))
    empty, foreign = tmp_path / "empty", tmp_path / "foreign"
    empty.mkdir()
    foreign.mkdir()
    (foreign / "run.json").write_text('{"model": "x"}')
    for runs, word in (([], "no run"), ([run, run / ".." / "a"], "more than once"), ([run, empty], "empty"), ([foreign], "foreign")):
        with pytest.raises(UserError, match=word):
            report(runs, tmp_path / "out")


def test_run_json_without_a_needed_field_is_one_clear_sentence(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a", tiers=("T",))
    header = json.loads((run / "run.json").read_text())
    del header["style"], header["model"]["blind"]
    reseal(run / "run.json", header)
    with pytest.raises(UserError, match=r"lacks style, model\.blind"):
        report([run], tmp_path / "out")


def test_a_page_that_cannot_be_written_leaves_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        report([make_run("a", tiers=("T",))], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.slow
def test_reports_import_neither_models_nor_torch(three: dict[str, Path], tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from reports.leaderboard import report\n"
        "assert 'matplotlib' not in sys.modules, 'matplotlib at import'\n"
        "report([Path(sys.argv[1])], Path(sys.argv[2]))\n"
        "bad = {'torch', 'transformers', 'datasets', 'lm_eval', 'vlmeval', 'iit_bench.models', 'iit_bench.engine'}\n"
        "assert not bad & set(sys.modules), bad & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(three["wings"]), str(tmp_path)], check=True)
