"""The folder of a report: its pages lead to each other, to every figure's files and to nothing else; the benchmark behind the runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from iit_bench.errors import UserError
from reports import links
from reports.leaderboard import report
from tests.reports.test_leaderboard import HOSTILE, Reader

MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, maker_in: Callable[[Path], MakeRun]) -> Path:
    make = maker_in(tmp_path_factory.mktemp("runs"))
    runs = [make("base", 0.95, text_only=True), make("wings", 0.9, base="base"), make("llava", 0.7, base="base", failed=1)]
    runs += [make(HOSTILE, 0.5, base="base", folder="hostile"), make("letters", 0.8, style="letters")]
    return report(runs, tmp_path_factory.mktemp("report")).parent


def pages(site: Path) -> dict[str, Reader]:
    return {path.relative_to(site).as_posix(): Reader(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


@pytest.mark.slow
def test_every_link_of_every_page_leads_to_a_file_of_the_folder_and_a_place_on_it(site: Path) -> None:
    read = pages(site)
    ids = {place: page.attributes("id") for place, page in read.items()}
    assert all(len(found) == len(set(found)) for found in ids.values())
    for place, page in read.items():
        for link in [*page.attributes("href"), *page.attributes("src")]:
            assert not re.match(r"[a-z]+:|/", link)
            to, _, mark = link.partition("#")
            path = (site / place).parent / unquote(to) if to else site / place
            assert path.is_file(), (place, link)
            assert not mark or mark in ids[path.resolve().relative_to(site.resolve()).as_posix()], (place, link)


def test_pages_have_the_same_navigation_and_mark_where_a_reader_is(site: Path) -> None:
    for place, page in pages(site).items():
        menus = [attributes["aria-label"] for tag, attributes in page.elements if tag == "nav"]
        assert menus[0] == "Report" and menus[1:] in ([], ["On this page"])
        here = [attributes["href"] for _, attributes in page.elements if attributes.get("aria-current") == "page"]
        assert [Path(str(link)).name for link in here] == [Path(place).name]


def test_every_page_has_a_policy_and_no_handler_and_shows_hostile_names_as_text(site: Path) -> None:
    for place, page in pages(site).items():
        assert "default-src 'none'" in next(value for value in page.attributes("content") if "default-src" in value)
        tags = [tag for tag, _ in page.elements]
        assert tags.count("script") == 1 and "iframe" not in tags and page.attributes("style") == [], place
        assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
        assert HOSTILE in page.text or place == "benchmark.html"


def test_no_cell_of_any_table_is_empty(site: Path) -> None:
    for place, page in pages(site).items():
        assert all(text for rows in page.tables.values() for line in rows[1:] for text in line), place  # the first may span columns


@pytest.mark.slow
def test_every_figure_is_offered_in_five_formats(site: Path) -> None:
    linked = {Path(link).name for page in pages(site).values() for link in page.attributes("href") if "figures/" in link}
    made = {path.name for path in (site / "figures").iterdir()}
    assert linked == made
    assert {Path(name).suffix for name in made} == {".svg", ".png", ".pdf", ".csv", ".tex"}


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes_in_every_file(make_run: MakeRun, drawn_figures: None, tmp_path: Path) -> None:
    runs = [make_run("base", 0.95, text_only=True), make_run("wings", 0.9, base="base")]
    one, two = (report(order, tmp_path / name).parent for order, name in ((runs, "one"), (runs[::-1], "two")))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert [name for name in files if (one / name).read_bytes() != (two / name).read_bytes()] == []
    assert min(path.stat().st_size for path in one.rglob("*") if path.suffix in (".png", ".pdf")) > 1000  # drawn


def test_the_first_sentence_has_what_was_lost_with_its_interval(site: Path, make_run: MakeRun, tmp_path: Path) -> None:
    from iit_bench.storage.runs import load_run

    runs = [make_run("base", 0.95, text_only=True), make_run("tuned", 0.7, base="base")]
    page = Reader(report(runs, tmp_path / "out").read_text(encoding="utf-8"))
    forgotten = load_run(runs[1]).results.forgetting
    assert forgotten is not None
    lost = forgotten.pooled.difference
    value, low, high = (format(100 * (number or 0.0), ".1f") for number in (lost.value, lost.low, lost.high))
    assert (
        f"tuned lost {value} percentage points of what its base, base, knew of text questions (95% interval {low} to {high})." in page.text
    )
    cell = next(row[3] for row in page.tables["three"] if row[0].startswith("tuned"))
    assert cell.startswith(f"+{value} | +{low} to +{high}")


def test_without_a_base_the_first_sentence_says_that_it_is_not_known(make_run: MakeRun, tmp_path: Path) -> None:
    page = Reader(report([make_run("a", 0.9), make_run("b", 0.5)], tmp_path / "out").read_text(encoding="utf-8"))
    assert "a has the highest IIT score" in page.text and "what was forgotten is not known" in page.text


def test_the_first_sentence_is_about_what_was_lost_in_whichever_table_it_stands(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("alone", 0.99), make_run("base", 0.95, system_prompt="Be brief.")]
    runs.append(make_run("tuned", 0.7, base="base", system_prompt="Be brief."))
    page = Reader(report(runs, tmp_path / "out").read_text(encoding="utf-8"))
    assert "tuned lost " in page.text and "what was forgotten is not known" not in page.text


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


def test_pages_are_not_mixed_with_the_files_of_a_run(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("wings")
    before = sorted(run.iterdir())
    with pytest.raises(UserError, match=r"holds run\.json of a run"):
        report([run], run)
    assert sorted(run.iterdir()) == before


def test_a_run_whose_name_cannot_be_seen_has_a_link(make_run: Any, tmp_path: Path) -> None:
    runs = [make_run(name, n=3, tiers=("T",), folder=folder) for name, folder in ((" \u3000", "a"), ("", "b"), ("c", "c"))]
    page = report(runs, tmp_path / "report").read_text(encoding="utf-8")
    assert "<bdi>(no name) (a)</bdi></a>" in page and "<bdi>(no name) (b)</bdi></a>" in page
