from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image as Pillow

from builders.build import BuildOptions, build, summary
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.format import sha256_file
from iit_bench.types import IMAGE_MARK, Question
from tests.full_disk import files_of_at_most

Make = Callable[..., Question]
Serve = Callable[..., None]


def tables(folder: Path) -> dict[str, str]:
    return {path.name + path.parent.name: sha256_file(path) for path in sorted(folder.glob("*/*.parquet"))}


def build_in_process(out: Path, **environment: str) -> None:
    """Build a small lab benchmark by the public command, in an environment of its own."""
    arguments = ["build", "--out", str(out), "--size", "10", "--seed", "3", "--connector", "template"]
    code = "import sys; from iit_bench.cli import main; sys.argv[1:] = %r; sys.exit(main())" % (arguments,)  # noqa: UP031
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | environment, capture_output=True)


@pytest.mark.slow
def test_tables_are_byte_identical_under_another_hash_seed_locale_time_zone_and_thread_count(tmp_path: Path) -> None:
    build_in_process(tmp_path / "a", PYTHONHASHSEED="1", LC_ALL="C", TZ="UTC", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    build_in_process(
        tmp_path / "b", PYTHONHASHSEED="77", LC_ALL="C.UTF-8", TZ="Asia/Kathmandu", OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2"
    )
    assert tables(tmp_path / "a") == tables(tmp_path / "b")
    assert len(tables(tmp_path / "a")) == 2
    first, second = (load_benchmark(tmp_path / name).manifest for name in "ab")
    assert first == second


def test_rows_are_the_same_on_every_machine(tmp_path: Path, question: Make, serve: Serve) -> None:
    """A golden hash: it changes when sampling, matching, shuffling or the row format changes, and never by machine or library version."""
    topics = ("copper mines", "iron bridges", "zinc roofs", "whales", "old copper coins", "iron ships")
    texts = [f"What do {topics[i % 6]} have in common with {topics[i * 7 % 5]} of year {1900 + i % 9}?" for i in range(60)]
    choices = [(f"nothing {i}", f"colour {i}", f"age {i}") for i in range(60)]
    serve("words", [question(f"w/{i}", source="words", question=texts[i], choices=choices[i], answer=i % 3) for i in range(60)])
    path = build(BuildOptions(out=tmp_path / "b", text=("words",), tiers="T,TT,TTT", size=12, seed=7, connector="template"))
    assert load_benchmark(path).rows_sha256 == "9428c9550a6b8a58795e16aa3e14a09829b5e6835950e32174b2fdf925ae8645"


@pytest.mark.slow
def test_another_seed_gives_other_tables(small_lab: Benchmark, tmp_path: Path) -> None:
    assert load_benchmark(build(BuildOptions(out=tmp_path / "b", preset="lab", size=12))).rows_sha256 == small_lab.rows_sha256
    assert load_benchmark(build(BuildOptions(out=tmp_path / "c", preset="lab", size=12, seed=1))).rows_sha256 != small_lab.rows_sha256


def test_the_folder_loads_with_datasets(small_lab: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    questions = datasets.load_dataset(str(small_lab.path), "questions", split="test", cache_dir=str(tmp_path))
    dialogues = datasets.load_dataset(str(small_lab.path), "dialogues", split="test", cache_dir=str(tmp_path))
    assert (len(questions), len(dialogues)) == (len(small_lab.questions), len(small_lab.dialogues))
    assert set(questions["id"]) == set(small_lab.questions)
    seen = next(row for row in questions if row["modality"] == "V")
    assert seen["images"][0].size == (64, 64)  # decoded by datasets itself
    assert dialogues[0]["turns"][-1] == dialogues[0]["target"]


def test_questions_keep_their_contract(small_lab: Benchmark) -> None:
    for q in small_lab.questions.values():
        assert q.choices[q.answer] == q.answer_text
        assert (q.modality == "V") == bool(q.images)
        assert q.fixed_order == (set(q.choices) == {"yes", "no"})
        assert q.question.count(IMAGE_MARK) in (0, len(q.images))


def test_every_question_is_a_turn_and_every_turn_is_a_question(small_lab: Benchmark) -> None:
    turns = {turn for dialogue in small_lab.dialogues for turn in dialogue.turns}
    assert turns == set(small_lab.questions)


def test_the_first_groups_mix_both_modalities(small_lab: Benchmark) -> None:
    groups = list(dict.fromkeys(dialogue.group for dialogue in small_lab.dialogues))
    assert [small_lab.questions[group].modality for group in groups] == ["T", "V"] * 12
    assert all(len({small_lab.questions[group].subject for group in groups[start:12:2]}) > 1 for start in (0, 1))
    assert groups[::2] != sorted(groups[::2])  # an order by id would put one subject first


def test_the_manifest_describes_what_was_built(small_lab: Benchmark) -> None:
    manifest = small_lab.manifest
    assert manifest["tiers"] == dict.fromkeys(small_lab.tiers, 12)
    assert manifest["name"] == "lab"
    assert manifest["default_style"] == "cloze"
    assert manifest["arguments"]["size"] == 12
    facts = manifest["sources"]["facts"]
    assert (facts["targets"], facts["answer_counts_from"]) == (12, "train split")
    assert sum(facts["targets_by_subject"].values()) == 12
    assert sum(entry["in_benchmark"] for entry in manifest["sources"].values()) == len(small_lab.questions)
    table = Path(__file__).parents[2] / "iit_bench/assets/facts/facts.csv"
    assert facts["sha256"] == sha256_file(table)
    assert manifest["gold_positions"]["T"] == {"4": [3, 3, 3, 3]}
    assert "2" not in manifest["gold_positions"]["V"]  # yes/no is exempt


def test_only_the_chosen_tiers_and_only_the_questions_they_need(tmp_path: Path) -> None:
    built = load_benchmark(build(BuildOptions(out=tmp_path / "b", size=3, tiers="T,TT,TTTT")))
    assert built.tiers == ("T", "TT", "TTTT")
    assert {q.modality for q in built.questions.values()} == {"T"}
    assert list(built.manifest["sources"]) == ["facts", "two-hop"]


@pytest.mark.slow
def test_left_out_records_are_counted_and_shown(tmp_path: Path, question: Make, serve: Serve) -> None:
    good = []
    for i in range(30):
        out = BytesIO()
        Pillow.new("RGB", (4, 4), (i, 2 * i, 3 * i)).save(out, "PNG")
        good.append(out.getvalue())
    seen = [question(f"v/{i}", images=(data,), source="pictures") for i, data in enumerate(good)]
    corrupt = [
        question("v/90", images=(good[0][:40],)),
        question("v/91", images=(b"",)),
        question("v/92", images=(good[1],), choices=("a", "a")),
    ]
    serve("pictures", [*corrupt, *seen], left_out={"no answer": 4})
    path = build(BuildOptions(out=tmp_path / "b", size=5, visual=("pictures",)))
    manifest = load_benchmark(path).manifest
    assert manifest["sources"]["pictures"]["left_out"] == {"equal choices": 1, "no answer": 4, "unreadable image": 2}
    assert manifest["name"] == "custom"
    assert "left out: 1 equal choices, 4 no answer, 2 unreadable image" in summary(manifest)
    assert not {"v/90", "v/91", "v/92"} & set(load_benchmark(path).questions)


def test_a_source_of_a_third_party_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site"
    info = package / "third_party-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[iit_bench.sources]\nsums: = third_party_sums:load\nlost = third_party_nowhere:load\n")
    (package / "third_party_sums.py").write_text(
        "from builders.sources.base import SourceQuestions\n"
        "from iit_bench.types import Question\n"
        "def load(name, options):\n"
        "    top = int(name.removeprefix('sums:'))\n"
        "    made = [Question(f'{name}/{i}', 'T', name, 'sum', f'{name}/{i}', 'en', f'What is {i} plus {3 * i + 1}?', (),\n"
        "            (f'about {4 * i + 1}', f'nearly {4 * i + 2}'), 0, f'about {4 * i + 1}') for i in range(top)]\n"
        "    facts = {'split': 'test', 'licence': 'CC0-1.0', 'origin': 'sums', 'revision': '1', 'sha256': '0' * 64}\n"
        "    return SourceQuestions(name=name, questions=tuple(made), **facts)\n"
    )
    monkeypatch.syspath_prepend(str(package))
    built = load_benchmark(build(BuildOptions(out=tmp_path / "b", text=("sums:40",), tiers="TT,T", size=6)))
    assert built.manifest["sources"]["sums:40"]["usable"] == 40
    assert built.manifest["sources"]["sums:40"]["answer_counts_from"] == "evaluation questions outside the benchmark"
    with pytest.raises(UserError, match=r"source 'lost' .* cannot be imported"):
        build(BuildOptions(out=tmp_path / "c", text=("lost",), tiers="T"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tiers": "T,TXV"}, "unknown tier 'TXV'"),
        ({"size": 5000}, "source 'facts' has 1187 usable questions, but --size 5000 needs 2500 text targets"),
        ({"size": 0}, "--size 0 is not possible"),
        ({"preset": "large"}, "no preset called 'large'; the presets are lab, lab2, paper"),
        ({"text": ("fact",)}, "no source called 'fact'; did you mean 'facts'"),
        ({"visual": ("facts",), "text": ("easyvqa",)}, "source 'easyvqa' gave no usable text question .* name it under --visual"),
        ({"text": ("easyvqa",)}, "source 'easyvqa' is named both under --text and --visual"),
        ({"visual": ()}, "--visual names no source"),
        ({"connector": "poem"}, "unknown connector 'poem'"),
        ({"match": "no/such/encoder", "size": 3}, "--match 'no/such/encoder' is neither tfidf, none nor a text encoder"),
    ],
)
def test_bad_input_is_one_clear_sentence_and_leaves_nothing(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(BuildOptions(out=tmp_path / "b", **options))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_two_sources_with_one_question_id_are_refused(tmp_path: Path, question: Make, serve: Serve) -> None:
    for name in ("one", "two"):
        serve(name, [question(f"q/{i}", source=name, question=f"What about {i}?") for i in range(20)])
    with pytest.raises(UserError, match="two sources give a question with the id 'q/0'"):
        build(BuildOptions(out=tmp_path / "b", text=("one", "two"), tiers="T", size=4))


@pytest.mark.slow
def test_out_is_not_overwritten_without_the_option(tmp_path: Path) -> None:
    options = {"size": 2, "tiers": "T"}
    build(BuildOptions(out=tmp_path / "b", **options))
    with pytest.raises(UserError, match="--overwrite"):
        build(BuildOptions(out=tmp_path / "b", **options))
    build(BuildOptions(out=tmp_path / "b", seed=5, overwrite=True, **options))
    assert load_benchmark(tmp_path / "b").manifest["seed"] == 5
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that are not a benchmark"):
        build(BuildOptions(out=tmp_path / "own", overwrite=True, **options))
    assert (tmp_path / "own/notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on the size of files stands in for a full disk: both fail in the middle of a write."""
    with files_of_at_most(3000):
        assert main(["build", "--out", str(tmp_path / "b"), "--size", "4"]) == 2
    said = capsys.readouterr().err
    assert "cannot write" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_out_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        build(BuildOptions(out=tmp_path / "file" / "b", size=2))


def test_the_card_declares_both_tables_and_escapes_texts_of_the_data(tmp_path: Path, question: Make, serve: Serve) -> None:
    import yaml

    hostile = '<script>alert(1)</script> | **bold** "><img src=x onerror=y>'
    pool = [
        question(f"h/{i}", source="hostile", question=f"{hostile} {i}?", choices=(f"<b>{i}", f"|x{i}"), language="zh") for i in range(30)
    ]
    serve(
        "hostile",
        [question(q.id, source="hostile", question=f"{q.question} word{i} thing{i}", choices=q.choices) for i, q in enumerate(pool)],
    )
    path = build(BuildOptions(out=tmp_path / "b", text=("hostile",), tiers="T,TT", size=4))
    text = (path / "README.md").read_text(encoding="utf-8")
    _, header, body = text.split("---\n", 2)
    configs = {config["config_name"]: config["data_files"][0]["path"] for config in yaml.safe_load(header)["configs"]}
    assert configs == {"questions": "questions/test-*.parquet", "dialogues": "dialogues/test-*.parquet"}
    assert "<script" not in body
    assert "onerror=y>" not in body
    assert "&lt;script&gt;" in body
    assert "CC0-1.0" in body


def test_the_cards_features_are_the_tables_columns(small_lab: Benchmark) -> None:
    import pyarrow.parquet as pq
    import yaml

    header = yaml.safe_load((small_lab.path / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1])
    for info in header["dataset_info"]:
        (file,) = (small_lab.path / info["config_name"]).glob("*.parquet")
        assert [feature["name"] for feature in info["features"]] == pq.read_schema(file).names
    json.dumps(header)  # nothing but plain values
