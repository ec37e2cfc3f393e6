"""`iit-bench show` and `iit-bench diff` over real runs: the answers are those of the tables, found by the filters, safe in a terminal."""

from __future__ import annotations

import dataclasses
import json
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from evaluators.iit.evaluate import evaluate_model
from evaluators.runs.options import RunOptions
from evaluators.show.selection import Filter
from evaluators.show.show import diff, show
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.models.contract import ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.runs import load_run, save_run_header
from tests.resealed import reseal, save_run_outcome


@pytest.fixture(scope="module")
def runs(bench, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("random", "majority"):
        options = RunOptions(model=name, bench=bench.path, out=folder / name)
        evaluate_model(load_model(name, ModelOptions(device="cpu")), bench, options, progress=False)
    return {name: folder / name for name in ("random", "majority")}


def changed(source: Path, target: Path, change) -> Path:
    """A copy of a run whose predictions `change` made."""
    run = load_run(source)
    shutil.copytree(source, target)
    save_run_header(target, {key: value for key, value in run.run.items() if key not in ("format", "version")} | {"name": target.name})
    save_run_outcome(target, [change(row) for row in run.predictions], run.results, run.errors)
    return target


def test_every_target_is_shown_once_in_the_order_of_the_table(runs):
    found = show(runs["random"], limit=1000)
    targets = [row.dialogue for row in load_run(runs["random"]).predictions if row.is_target]
    assert [item.asked.id for item in found.items] == targets and found.total == found.matching == len(targets) == 84


def test_filters_are_those_of_a_plain_loop_over_the_table(runs):
    rows = load_run(runs["random"]).predictions
    only = Filter(outcomes=("wrong",), tiers=("VT", "TT"), subjects=("capital",))
    expected = [row.dialogue for row in rows if row.outcome == "wrong" and row.tier in ("VT", "TT") and row.subject == "capital"]
    assert expected and [item.asked.id for item in show(runs["random"], only).items] == expected


def test_lost_and_gained_are_those_of_a_plain_loop_over_both_tables(runs):
    base = {row.dialogue: row.outcome == "correct" for row in load_run(runs["majority"]).predictions}
    rows = {row.dialogue: row.outcome == "correct" for row in load_run(runs["random"]).predictions}
    lost = [name for name, right in rows.items() if base[name] and not right]
    gained = [name for name, right in rows.items() if right and not base[name]]
    assert lost and gained
    assert [item.asked.id for item in show(runs["random"], Filter(lost_against=runs["majority"]), limit=100).items] == lost
    assert [item.asked.id for item in show(runs["random"], Filter(gained_against=runs["majority"]), limit=100).items] == gained


def test_what_a_limited_run_lost_is_that_of_the_turns_both_have(runs, bench, tmp_path):
    options = RunOptions(model="random", bench=bench.path, out=tmp_path / "few", limit=8)
    evaluate_model(load_model("random", ModelOptions(device="cpu")), bench, options, progress=False)
    few = {row.dialogue for row in load_run(tmp_path / "few").predictions}
    whole = show(runs["random"], Filter(lost_against=runs["majority"]), limit=100).items
    lost = [item.asked.id for item in whole if item.asked.id in few]
    assert 0 < len(lost) < len(whole)
    assert [item.asked.id for item in show(tmp_path / "few", Filter(lost_against=runs["majority"]), limit=100).items] == lost


def test_a_base_that_was_asked_none_of_the_items_is_refused(runs, bench, tmp_path):
    options = RunOptions(model="majority", bench=bench.path, out=tmp_path / "text", tiers=("T", "TT"))
    evaluate_model(load_model("majority", ModelOptions(device="cpu")), bench, options, progress=False)
    assert show(runs["random"], Filter(lost_against=tmp_path / "text", tiers=("TT",))).total == 84
    with pytest.raises(UserError, match=r"answered none of the 6 items that the other filters keep; its tiers are T, TT$"):
        show(runs["random"], Filter(lost_against=tmp_path / "text", tiers=("VT",)))


def test_an_item_has_its_words_images_choices_log_probabilities_and_outcome(runs, bench):
    dialogue = next(one for one in bench.dialogues if one.tier == "VT")
    (item,) = show(runs["random"], Filter(items=(dialogue.id,))).items
    first, target = (bench.questions[turn] for turn in dialogue.turns)
    text = show(runs["random"], Filter(items=(dialogue.id,))).as_text()
    assert f"[image 64x64 {first.images[0].sha256[:8]}…]" in item.asked.turns[0]
    assert item.asked.turns[1] == target.question and item.asked.gold_replies == (first.answer_text,)
    row = next(one for one in load_run(runs["random"]).predictions if one.dialogue == dialogue.id)
    assert all(choice in text and f"{logprob:9.3f}" in text for choice, logprob in zip(row.choices, row.logprobs, strict=True))
    assert f"{row.choices[row.answer]}  (gold" in text and row.outcome in text and target.question in text


def test_an_id_of_a_target_shows_all_its_dialogues(runs, bench):
    group = bench.dialogues[0].group
    expected = [one.id for one in bench.dialogues if one.group == group]
    assert sorted(item.asked.id for item in show(runs["random"], Filter(items=(group,))).items) == sorted(expected)


def test_without_the_benchmark_ids_and_choices_are_shown_and_one_sentence(runs, tmp_path):
    folder = shutil.copytree(runs["random"], tmp_path / "moved")
    header = json.loads((folder / "run.json").read_text())
    header["arguments"]["bench"] = str(tmp_path / "gone")
    reseal(folder / "run.json", header)
    found = show(folder, limit=1)
    assert found.items[0].asked.turns == () and "give --bench DIR" in found.as_text() and found.items[0].asked.question in found.as_text()


def test_nothing_found_is_one_line(runs, capsys):
    assert main(["show", str(runs["random"]), "--unparsed", "--tier", "VT"]) == 0
    assert capsys.readouterr().out == "random: none of 84 answers is unparsed, tier VT.\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tier", "X"], "has no tier 'X'; it has T, "),
        (["--source", "nothing"], "has no source 'nothing'; it has easyvqa, facts"),
        (["--limit", "0"], "--limit 0 leaves nothing to show"),
        (["--bench", "nowhere"], "nowhere"),
        (["--lost-against", "nowhere"], "'nowhere' is not there"),
    ],
)
def test_bad_input_is_one_sentence(runs, options, sentence, capsys):
    assert main(["show", str(runs["random"]), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_json_holds_what_the_text_shows(runs, capsys):
    assert main(["show", str(runs["random"]), "--wrong", "--limit", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["matching"] == sum(row.outcome == "wrong" for row in load_run(runs["random"]).predictions) and len(found["items"]) == 2
    assert {"id", "tier", "turns", "choices", "answer", "answers"} <= set(found["items"][0])


HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202egnp.exe\x00" + "x" * (1 << 20)


def test_hostile_replies_reach_the_terminal_spelled_out_and_cut(runs, tmp_path):
    def change(row):
        return dataclasses.replace(row, reply=HOSTILE, logprobs=(), choices=(HOSTILE, "\r\n\x9b1m", *row.choices[2:]), reasoning=HOSTILE)

    text = show(changed(runs["random"], tmp_path / "hostile", change), limit=3).as_text()
    assert {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn")} <= {"\n"}
    assert "⟨U+001B⟩[2J" in text and "(1,048,599 characters)" in text and len(text) < 30_000


def test_errors_are_shown_with_their_reason(runs, tmp_path):
    run = load_run(runs["random"])
    first = run.predictions[0]

    def change(row):
        return dataclasses.replace(row, outcome="error", chosen=-1, logprobs=(), reply="") if row == first else row

    folder = changed(runs["random"], tmp_path / "failed", change)
    line = {"dialogue": first.dialogue, "position": first.position, "tier": first.tier, "question": first.question}
    line |= {"kind": "item", "reason": "context overflow", "detail": "1200 tokens"}
    save_run_outcome(folder, [change(row) for row in run.predictions], run.results, [line])
    text = show(folder, Filter(outcomes=("error",))).as_text()
    assert "error: context overflow: 1200 tokens" in text and "1 of 84 answers" in text


# ---------------------------------------------------------------- diff


def test_diff_counts_every_pair_of_outcomes_and_shows_those_that_differ(runs):
    a, b = ({row.dialogue: row.outcome for row in load_run(runs[name]).predictions} for name in ("majority", "random"))
    found = diff(runs["majority"], runs["random"], limit=1000)
    assert found.counts == Counter((a[name], b[name]) for name in a) and found.both == 84
    assert [item.asked.id for item in found.items] == [name for name in a if a[name] != b[name]]
    text = found.as_text()
    assert text.startswith("A = majority, B = random: 84 items of both") and "A correct, B wrong" in text
    assert "A chosen" in text and "B chosen" in text


def test_diff_of_a_run_with_itself_is_empty(runs, capsys):
    assert main(["diff", str(runs["random"]), str(runs["random"])]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "No item differs (any answer)."


def test_diff_keeps_an_item_whose_outcome_the_filter_names_on_either_side(runs, tmp_path):
    def change(row):
        return dataclasses.replace(row, outcome="unparsed", chosen=-1, logprobs=(), reply="?") if row.tier == "VT" else row

    folder = changed(runs["random"], tmp_path / "unparsed", change)
    found = diff(runs["random"], folder, Filter(outcomes=("unparsed",)), limit=100)
    assert found.matching == 6 and {item.asked.tier for item in found.items} == {"VT"}


def test_runs_of_different_benchmarks_are_refused(runs, tmp_path):
    folder = shutil.copytree(runs["random"], tmp_path / "other")
    header = json.loads((folder / "run.json").read_text())
    header["benchmark"]["rows_sha256"] = "0" * 64
    reseal(folder / "run.json", header)
    with pytest.raises(UserError, match="were asked different benchmarks"):
        diff(runs["random"], folder)
