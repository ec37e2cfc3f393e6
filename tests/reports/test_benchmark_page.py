"""The page about what was asked, over a real benchmark: counts and near-duplicates by hand, each picture once."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as Pillow

from builders.build import BuildOptions, build
from iit_bench.storage.benchmark import Benchmark, load_benchmark, save_benchmark
from iit_bench.storage.runs import load_run
from iit_bench.types import Image
from reports import duplicates, gallery
from reports.duplicates import near_duplicates, near_pairs
from reports.leaderboard import report
from tests.recompute_pages import near_duplicates as recomputed
from tests.reports.test_leaderboard import HOSTILE, Reader, shown
from tests.resealed import save_run_outcome

MakeRun = Callable[..., Path]
TIERS = ("T", "TT", "V", "TV")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return load_benchmark(build(BuildOptions(out=tmp_path_factory.mktemp("bench") / "b", preset="lab", size=12, tiers=",".join(TIERS))))


def asked(bench: Benchmark) -> dict[str, object]:
    manifest = bench.manifest
    return {name: manifest[name] for name in ("name", "rows_sha256", "seed", "tiers", "sources", "baselines")}


def of_its_dialogues(run: Path, bench: Benchmark) -> Path:
    """The run with ids that the benchmark has."""
    found, rows = load_run(run, "iit"), []  # the base of its forgetting may have other ids by now
    left = {tier: iter([one for one in bench.dialogues if one.tier == tier]) for tier in bench.manifest["tiers"]}
    for row in found.predictions:
        one = next(left[row.tier])
        rows.append(dataclasses.replace(row, dialogue=one.id, question=one.target, group=one.group))
    save_run_outcome(run, rows, found.results, found.errors)
    return run


@pytest.fixture(scope="module")
def folder(bench: Benchmark, tmp_path_factory: pytest.TempPathFactory, maker_in: Callable[[Path], MakeRun]) -> Path:
    run = maker_in(tmp_path_factory.mktemp("runs"))("wings", tiers=TIERS, n=12, benchmark=asked(bench))
    return report([of_its_dialogues(run, bench)], tmp_path_factory.mktemp("report"), bench=bench.path).parent


def page_in(folder: Path) -> Reader:
    return Reader((folder / "benchmark.html").read_text(encoding="utf-8"))


def test_counts_and_chance_are_those_of_the_benchmark(folder: Path, bench: Benchmark) -> None:
    page = page_in(folder)
    assert {tier: int(row["dialogues"]) for tier, row in page.rows("by-tier").items()} == dict(bench.manifest["tiers"])
    targets = [bench.questions[name] for name in {dialogue.target for dialogue in bench.dialogues}]
    counts = Counter(question.subject for question in targets)
    rows = page.rows("by-subject")
    assert {name: int(row["targets"]) for name, row in rows.items()} == dict(counts)
    for subject, row in rows.items():
        mine = [1 / len(question.choices) for question in targets if question.subject == subject]
        assert row["chance"] == shown(sum(mine) / len(mine))
    use = page.rows("history-use")
    assert int(use["text"]["questions"]) == bench.manifest["history_use"]["T"]["questions"]


def test_the_gallery_shows_each_image_once_as_a_small_file_that_is_loaded_late(folder: Path, bench: Benchmark) -> None:
    shown_images = [attributes for tag, attributes in page_in(folder).elements if tag == "img"]
    files = sorted(path.name for path in (folder / "gallery").iterdir())
    images = {image.sha256 for question in bench.questions.values() for image in question.images}
    assert sorted(Path(str(one["src"])).name for one in shown_images) == files and len(files) == min(len(images), gallery.SHOWN)
    assert {one["loading"] for one in shown_images} == {"lazy"}
    for one in shown_images:
        picture = Pillow.open(folder / str(one["src"]))
        assert (str(picture.width), str(picture.height)) == (one["width"], one["height"]) and max(picture.size) <= gallery.SIDE


def test_licences_of_the_sources_are_there(folder: Path, bench: Benchmark) -> None:
    rows = page_in(folder).rows("sources")
    assert {name: row["licence"] for name, row in rows.items()} == {name: one["licence"] for name, one in bench.manifest["sources"].items()}


def test_near_pairs_are_those_of_a_loop_over_all_pairs() -> None:
    words = [tuple(sorted({f"w{(i * j) % 17}" for j in range(1, 3 + i % 9)})) for i in range(700)]
    wanted = []
    for (i, a), (j, b) in itertools.combinations(enumerate(words), 2):
        share = len(set(a) & set(b)) / len(set(a) | set(b))
        if share >= duplicates.NEAR:
            wanted.append((i, j, share))
    found = near_pairs(words)
    assert [pair[:2] for pair in found] == [pair[:2] for pair in wanted]
    assert [pair[2] for pair in found] == pytest.approx([pair[2] for pair in wanted])
    assert near_pairs([]) == near_pairs([()]) == []


def test_near_duplicates_are_those_of_a_loop_over_the_tables(folder: Path, bench: Benchmark) -> None:
    rows = page_in(folder).rows("duplicates-table")
    found = tuple(int(rows[f"text targets with {what}"]["count"]) for what in ("the words of another", "a near-duplicate"))
    assert found == recomputed(bench.path)


def test_repeated_questions_and_images_are_counted(bench: Benchmark) -> None:
    text = [name for name in dict.fromkeys(d.target for d in bench.dialogues) if bench.questions[name].modality == "T"]
    first = bench.questions[text[0]]
    again = dataclasses.replace(first, id=text[1], question=f" {first.question.upper()} ")
    doubled = dataclasses.replace(bench, questions={**bench.questions, text[1]: again})
    (table, *_) = near_duplicates(doubled)
    rows = {row[0].text: row[1].text for row in table.table.rows}  # type: ignore[union-attr]
    assert rows["text targets with the words of another"] == "2"
    visual = [bench.questions[d.target].images[0].sha256 for d in {d.target: d for d in bench.dialogues if d.tier.endswith("V")}.values()]
    assert rows["images that several visual targets show"] == str(sum(n > 1 for n in Counter(visual).values()))


def test_without_the_folder_the_page_reports_what_the_runs_know(make_run: MakeRun, tmp_path: Path) -> None:
    page = page_in(report([make_run("wings", tiers=TIERS)], tmp_path / "out").parent)
    assert page.text.count("the benchmark's folder is not at hand") == 3
    assert page.rows("by-tier")["TT"]["dialogues"] == "40" and page.rows("sources")["facts"]["licence"] == "MIT"


def test_hostile_questions_and_broken_images_are_shown_as_text_and_counted(bench: Benchmark, make_run: MakeRun, tmp_path: Path) -> None:
    questions = [
        dataclasses.replace(q, question=HOSTILE + "\u202e\x00" + "x" * 1_000_000, subject=HOSTILE) if q.modality == "V" else q
        for q in bench.questions.values()
    ]
    place = next(i for i, q in enumerate(questions) if q.modality == "V")
    questions[place] = dataclasses.replace(questions[place], images=(Image(b"no picture"),))
    manifest = {name: value for name, value in bench.manifest.items() if name not in ("format", "version", "files", "rows_sha256")}
    save_benchmark(tmp_path / "b", questions, bench.dialogues, manifest, "# card")
    hostile = load_benchmark(tmp_path / "b")
    run = make_run("wings", tiers=TIERS, n=12, benchmark=json.loads(json.dumps(asked(hostile))))
    made = report([of_its_dialogues(run, hostile)], tmp_path / "out", bench=hostile.path).parent
    page = page_in(made)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert HOSTILE in page.text and not set("\u202e\x00") & set(page.text)
    assert "1 of these images cannot be read." in page.text
    assert (made / "benchmark.html").stat().st_size < 1_000_000
    assert all(Pillow.open(io.BytesIO(path.read_bytes())).format == "JPEG" for path in (made / "gallery").iterdir())
