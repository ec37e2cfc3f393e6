"""`iit-bench export`: what is written, what is left out and counted, what is refused; whole or not at all."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from builders.export.export import ExportOptions, export
from builders.sources.base import SourceOptions
from builders.sources.vlmeval import load as load_vlmeval
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark, load_benchmark, save_benchmark
from iit_bench.types import Image, Question
from tests.full_disk import files_of_at_most

Changed = Callable[..., Benchmark]


@pytest.fixture
def changed(bench: Benchmark, tmp_path: Path) -> Changed:
    """changed({question id: {field: value}}) → the benchmark with these questions changed."""

    def make(changes: dict[str, dict[str, Any]]) -> Benchmark:
        questions = [dataclasses.replace(question, **changes.get(question.id, {})) for question in bench.questions.values()]
        plain = {name: value for name, value in bench.manifest.items() if name not in ("format", "version", "files", "rows_sha256")}
        return load_benchmark(save_benchmark(tmp_path / "changed", questions, bench.dialogues, plain, "# card\n"))

    return make


def write(benchmark: Benchmark, out: Path, to: Any, **more: Any) -> dict[str, Any]:
    return export(ExportOptions(bench=benchmark.path, out=out, to=to, **more), progress=False)


def first_target(benchmark: Benchmark, tier: str) -> Question:
    return benchmark.questions[next(dialogue.target for dialogue in benchmark.dialogues if dialogue.tier == tier)]


def table(folder: Path, tier: str) -> pd.DataFrame:
    (path,) = folder.glob(f"IIT_{tier}_*.tsv")
    return pd.read_csv(path, sep="\t")  # as VLMEvalKit reads it


# ---------------------------------------------------------------- what is written


@pytest.mark.slow
@pytest.mark.parametrize(("to", "style", "name"), [("lm-eval", "cloze", "iit_text.yaml"), ("vlmeval", "letters", "IIT_VT_{}.tsv")])
def test_the_command_writes_every_dialogue_and_a_readme_on_running_it(capsys, bench, tmp_path, to, style, name):
    assert main(["export", str(bench.path), "--to", to, "--out", str(tmp_path / "out"), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "84 dialogues in 14 tiers" in shown
    assert "README.md" in shown
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["benchmark"]["rows_sha256"] == bench.rows_sha256
    assert (manifest["style"], manifest["left_out"]) == (style, {})
    assert manifest["tiers"] == {tier: sum(d.tier == tier for d in bench.dialogues) for tier in bench.tiers}
    assert (tmp_path / "out" / name.format(bench.rows_sha256[:8])).is_file()
    readme = (tmp_path / "out/README.md").read_text()
    assert bench.rows_sha256 in readme
    assert ("lm_eval --model hf" if to == "lm-eval" else "LMUData=") in readme
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.slow
def test_the_same_benchmark_gives_the_same_bytes(bench, tmp_path):
    for to in ("lm-eval", "vlmeval"):
        for name in "ab":
            write(bench, tmp_path / to / name, to, tiers=("TT", "VT"))
        first, second = ({path.name: path.read_bytes() for path in (tmp_path / to / name).rglob("*.*")} for name in "ab")
        assert first == second


def test_an_image_is_stored_once_for_all_tiers(bench, tmp_path):
    write(bench, tmp_path / "out", "lm-eval")
    stored = {path.name: path.read_bytes() for path in (tmp_path / "out/images").iterdir()}
    assert stored == {image.sha256: image.data for question in bench.questions.values() for image in question.images}


def test_a_table_of_single_questions_is_read_back_as_the_same_questions(bench, tmp_path):
    """Through the reader of VLMEvalKit's published tables."""
    write(bench, tmp_path / "out", "vlmeval", tiers=("V",))
    (path,) = (tmp_path / "out").glob("*.tsv")
    read = load_vlmeval(f"vlmeval:{path.stem}", SourceOptions(data_root=path.parent)).questions
    targets = [bench.questions[dialogue.target] for dialogue in bench.dialogues if dialogue.tier == "V"]
    for one, other in zip(read, targets, strict=True):
        assert (one.question, one.choices, one.answer) == (other.question, other.choices, other.answer)
        assert [image.data for image in one.images] == [image.data for image in other.images]


def test_a_dialogue_is_flattened_in_vlmevalkits_own_words(bench, tmp_path):
    write(bench, tmp_path / "out", "vlmeval", tiers=("TV",))
    dialogue = next(dialogue for dialogue in bench.dialogues if dialogue.tier == "TV")
    earlier, target = (bench.questions[turn] for turn in dialogue.turns)
    options = "".join(f"{letter}. {choice}\n" for letter, choice in zip("ABCDEFGH", earlier.choices, strict=False))
    assert table(tmp_path / "out", "TV").question[0] == (
        f"{earlier.question}\nOptions:\n{options}Please select the correct answer from the options above. \n"
        f"Answer: {'ABCDEFGH'[earlier.answer]}\n\nQuestion: <image 1>\n{target.question}"
    )


def test_marks_number_the_images_of_a_dialogue(changed, bench, tmp_path):
    target = first_target(bench, "VV")
    other = next(question.images[0] for question in bench.questions.values() if question.images and question.id != target.id)
    damaged = changed({target.id: {"question": "<image> or <image>?", "images": (target.images[0], other)}})
    write(damaged, tmp_path / "out", "vlmeval", tiers=("V", "VV"))
    assert table(tmp_path / "out", "V").question[0] == "<image 1> or <image 2>?"
    question = table(tmp_path / "out", "VV").question[0]
    assert question.startswith("<image 1>\n")
    assert question.endswith("Question: <image 2> or <image 3>?")


def test_a_single_question_that_begins_with_its_image_needs_no_mark(changed, bench, tmp_path):
    target = first_target(bench, "V")
    write(changed({target.id: {"question": "<image>\nWhat is it?"}}), tmp_path / "out", "vlmeval", tiers=("V", "TV"))
    assert table(tmp_path / "out", "V").question[0] == "What is it?"
    assert table(tmp_path / "out", "TV").question[0].endswith("Question: <image 1>\nWhat is it?")


def test_an_image_that_png_cannot_hold_becomes_one_that_it_can(changed, bench, tmp_path):
    """VLMEvalKit writes every image as PNG, and would stop at the first that it cannot."""
    sink = io.BytesIO()
    PillowImage.new("CMYK", (8, 8), (10, 200, 30, 0)).save(sink, "JPEG")
    target = first_target(bench, "V")
    write(changed({target.id: {"images": (Image(sink.getvalue()),)}}), tmp_path / "out", "vlmeval", tiers=("V",))
    (path,) = (tmp_path / "out").glob("*.tsv")
    (question, *_) = load_vlmeval(f"vlmeval:{path.stem}", SourceOptions(data_root=path.parent)).questions
    with PillowImage.open(io.BytesIO(question.images[0].data)) as stored, PillowImage.open(io.BytesIO(sink.getvalue())) as given:
        assert stored.format == "PNG"
        assert list(stored.getdata()) == list(given.convert("RGB").getdata())


# ---------------------------------------------------------------- what is left out is counted


def test_a_text_that_lm_eval_would_take_for_an_image_is_left_out_of_visual_tiers(capsys, changed, bench, tmp_path):
    target = first_target(bench, "T")
    damaged = changed({target.id: {"question": f"{target.question} (not an <image>)"}})
    out = tmp_path / "out"
    assert main(["export", str(damaged.path), "--to", "lm-eval", "--out", str(out), "--tiers", "T,VT", "--quiet"]) == 0
    assert "left out: 1 dialogue: a text holds <image>" in capsys.readouterr().out
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["tiers"] == {"T": 6, "VT": 5}
    assert sum(manifest["left_out"].values()) == 1
    assert "left out: 1 dialogue:" in (out / "README.md").read_text()
    assert pq.read_table(out / "data/VT.parquet").num_rows == 5


@pytest.mark.parametrize("to", ["lm-eval", "vlmeval"])
def test_a_dialogue_with_an_unreadable_image_is_left_out(changed, bench, tmp_path, to):
    target = first_target(bench, "V")
    damaged = changed({target.id: {"images": (Image(target.images[0].data[:60]),)}})
    manifest = write(damaged, tmp_path / "out", to, tiers=("T", "V", "TV"))
    touched = [dialogue for dialogue in bench.dialogues if dialogue.tier in ("V", "TV") and target.id in dialogue.turns]
    assert manifest["left_out"] == {"an image cannot be read": len(touched)}
    assert sum(manifest["tiers"].values()) == 18 - len(touched)


def test_a_choice_that_pandas_would_not_give_back_is_left_out(changed, bench, tmp_path):
    """VLMEvalKit reads tables with pandas' guesses: "None" is no cell to it, and whole numbers beside empty cells are decimals."""
    targets = [bench.questions[dialogue.target] for dialogue in bench.dialogues if dialogue.tier == "T"]
    choices = [(f"word{i} a", f"word{i} b", str(i)) for i in range(6)]  # column C: whole numbers only …
    choices[1] = ("None", "word1 b", "1")
    choices[2] = ("word2 a", "word2 b")  # … but for an empty cell
    changes = {q.id: {"choices": c, "answer": 0, "answer_text": c[0]} for q, c in zip(targets, choices, strict=True)}
    damaged = changed(changes)
    manifest = write(damaged, tmp_path / "out", "vlmeval", tiers=("T",))
    assert manifest["tiers"] == {"T": 1}
    assert sum(manifest["left_out"].values()) == 5
    (row,) = table(tmp_path / "out", "T").to_dict("records")
    assert (row["index"], row["A"], row["B"]) == (2, "word2 a", "word2 b")


def test_a_choice_left_as_it_is_by_pandas_stays(changed, bench, tmp_path):
    targets = [bench.questions[dialogue.target] for dialogue in bench.dialogues if dialogue.tier == "T"]
    choices = ("7", 'say "no",\tor\nnot', " padded ", "007")
    damaged = changed({targets[0].id: {"choices": choices, "answer": 1, "answer_text": choices[1]}})
    assert write(damaged, tmp_path / "out", "vlmeval", tiers=("T",))["left_out"] == {}
    row = table(tmp_path / "out", "T").iloc[0]
    assert tuple(row[letter] for letter in "ABCD") == choices
    assert row["answer"] == "B"


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def places(bench: Benchmark, tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("mine")
    shutil.copytree(bench.path, tmp_path / "other")
    write(bench, tmp_path / "export", "lm-eval", tiers=("T",))
    return {"bench": bench.path, "tmp": tmp_path}


BAD = {
    "no such folder": ("{tmp}/nowhere --to lm-eval --out {tmp}/out", "nowhere' is not there; build one with"),
    "not a benchmark": ("{tmp}/own --to lm-eval --out {tmp}/out", "is not a benchmark folder"),
    "an export": ("{tmp}/export --to lm-eval --out {tmp}/out", "is not a benchmark folder"),
    "unknown tool": ("{bench} --to helm --out {tmp}/out", "helm"),
    "no tool": ("{bench} --out {tmp}/out", "--to"),
    "unknown tier": ("{bench} --to lm-eval --out {tmp}/out --tiers T,TTTT", "has no tier TTTT; it has T, TT"),
    "no tier": ("{bench} --to lm-eval --out {tmp}/out --tiers ,", "--tiers names no tier"),
    "cloze": ("{bench} --to vlmeval --out {tmp}/out --style cloze", "--style cloze is not possible for VLMEvalKit"),
    "foreign files": ("{bench} --to vlmeval --out {tmp}/own --overwrite", "holds files that are not an export; choose an empty"),
    "a benchmark": ("{bench} --to vlmeval --out {tmp}/other --overwrite", "holds files that are not an export; choose an empty"),
    "the benchmark": ("{bench} --to vlmeval --out {bench} --overwrite", "holds files that are not an export; choose an empty"),
    "an older export": ("{bench} --to vlmeval --out {tmp}/export", "already holds an export; add --overwrite"),
    "below a file": ("{bench} --to vlmeval --out {tmp}/own/notes.txt/out", "cannot write"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_changes_nothing(capsys, places, case):
    words, sentence = BAD[case]
    before = {path: path.read_bytes() for path in places["tmp"].rglob("*") if path.is_file()}
    assert main(["export", *(word.format(**places) for word in words.split()), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in places["tmp"].rglob("*") if path.is_file()} == before


def test_a_tier_of_which_nothing_can_be_written_is_refused(changed, bench, tmp_path):
    broken = {question.id: {"images": (Image(b"nothing"),)} for question in bench.questions.values() if question.images}
    damaged = changed(broken)
    for to in ("lm-eval", "vlmeval"):
        with pytest.raises(UserError, match=r"no dialogue of tier V can be exported \(an image cannot be read\)"):
            write(damaged, tmp_path / "out", to, tiers=("T", "V"))
        assert not (tmp_path / "out").exists()


def test_more_choices_than_letters_are_refused(changed, bench, tmp_path):
    choices = tuple(f"choice {i}." for i in range(30))
    damaged = changed({first_target(bench, "T").id: {"choices": choices, "answer": 29, "answer_text": choices[29]}})
    with pytest.raises(UserError, match="has 30 choices, and style letters has 26 letters"):
        write(damaged, tmp_path / "out", "vlmeval")
    assert write(damaged, tmp_path / "out", "lm-eval", style="cloze")["left_out"] == {}


def test_overwrite_replaces_an_export_whole(bench, places):
    out = places["tmp"] / "export"
    write(bench, out, "vlmeval", tiers=("T",), overwrite=True)
    assert not (out / "iit_T.yaml").exists()
    assert len(list(out.glob("IIT_T_*.tsv"))) == 1


@pytest.mark.parametrize("to", ["lm-eval", "vlmeval"])
def test_a_full_disk_leaves_the_old_export(capsys, places, bench, to):
    """A limit on the size of files has the same effect: the kernel rejects a write after a part of it."""
    out = places["tmp"] / "export"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with files_of_at_most(1500):
        code = main(["export", str(bench.path), "--to", to, "--out", str(out), "--overwrite", "--quiet"])
    assert code == 2
    assert "cannot write" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not list(places["tmp"].glob(".export*"))
