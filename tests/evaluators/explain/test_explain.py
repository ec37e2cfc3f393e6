"""Causes that are planted into real results are found: by lm-eval's own figures of results with one thing changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from evaluators.explain.explain import Explanation, explain
from evaluators.explain.split import PARTS
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run, load_run_header, save_finished_header
from tests.resealed import reseal

pytestmark = [pytest.mark.slow, pytest.mark.oracle]

FIRST, LAST = "exact_match,first", "exact_match,last"


def results_of(folder: Path) -> dict:
    (file,) = folder.rglob("results_*.json")
    return json.loads(file.read_text())


def score(folder: Path, task: str = "words", metric: str = FIRST) -> float:
    """lm-eval's own figure."""
    return results_of(folder)["results"][task][metric]


def parts(found: Explanation) -> dict[str, float]:
    """The parts that are not 0; they have to sum to the gap."""
    every = {part.name: part.size.value for part in found.parts}
    assert tuple(every) == PARTS and sum(every.values()) == pytest.approx(found.gap.value, abs=1e-12)
    return {name: value for name, value in every.items() if abs(value) > 1e-12}


PLANTED = {
    "items": {"limit": 25},
    "prompt, few-shot": {"num_fewshot": 3},
    "prompt, one example": {"num_fewshot": 1},
    "template": {"apply_chat_template": False},
    "truncation": {"gen_kwargs": "max_gen_toks=1"},
    "decoding": {"gen_kwargs": "do_sample=True,temperature=1.5"},
}


@pytest.mark.parametrize("planted", PLANTED)
def test_one_planted_cause_is_the_whole_gap(planted, lm_eval):
    a, b = lm_eval("words"), lm_eval("words", **PLANTED[planted])
    found = explain([a, b])
    assert found.gap.value == pytest.approx(score(a) - score(b)) and found.gap.value != 0
    assert parts(found) == {planted.partition(",")[0]: pytest.approx(found.gap.value)}


def test_another_checkpoint_is_weights(lm_eval, other_checkpoint):
    a, b = lm_eval("words"), lm_eval("words", checkpoint=other_checkpoint)
    assert parts(explain([a, b])) == {"weights": pytest.approx(score(a) - score(b))}


def test_another_dtype_is_dtype(lm_eval, needs_float32):
    a, b = (lm_eval("words", checkpoint=needs_float32, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert score(a) == score(lm_eval("words")) != score(b)
    assert parts(explain([a, b])) == {"dtype": pytest.approx(score(a) - score(b))}


def test_two_metrics_are_two_rules_read_from_the_files(lm_eval):
    a = lm_eval("words")
    found = explain([a, a], metric=FIRST, metric_b=LAST)
    assert parts(found) == {"extraction": pytest.approx(score(a) - score(a, metric=LAST))} != {}


def test_rules_of_two_files_are_run_on_both_sides_replies(lm_eval, other_rule):
    """Rule and limit changed at once: each part is lm-eval's own figure of the result in which only that was changed."""
    long, short = {}, {"gen_kwargs": "max_gen_toks=1"}
    a, b = lm_eval("words", **long), lm_eval("words", folder=other_rule, **short)
    a_by_b, b_by_a = lm_eval("words", folder=other_rule, **long), lm_eval("words", **short)
    found = explain([a, b], metric=LAST)
    s = {name: score(folder, metric=LAST) for name, folder in (("a", a), ("b", b), ("ab", a_by_b), ("ba", b_by_a))}
    expected = {"extraction": s["ba"] - s["b"], "truncation": s["ab"] - s["b"], "interaction": s["a"] - s["ab"] - s["ba"] + s["b"]}
    assert parts(found) == {name: pytest.approx(value) for name, value in expected.items() if abs(value) > 1e-9}
    assert {"extraction", "truncation"} <= parts(found).keys()


def test_several_causes_at_once_are_told_apart_by_results_between(lm_eval, other_checkpoint):
    a = lm_eval("words")
    c = lm_eval("words", checkpoint=other_checkpoint)
    b = lm_eval("words", checkpoint=other_checkpoint, num_fewshot=3, limit=25)
    alone, through = explain([a, b]), explain([a, c, b])
    assert set(parts(alone)) == {"items", "not told apart"}
    some = lm_eval("words", checkpoint=other_checkpoint, limit=25)
    expected = {"weights": score(a) - score(c), "items": score(c) - score(some), "prompt": score(some) - score(b)}
    assert parts(through) == {name: pytest.approx(value) for name, value in expected.items() if abs(value) > 1e-9}
    assert "prompt or weights: " in alone.as_text() and "name that result between A and B" in alone.as_text()


# ---------------------------------------------------------------- ours and lm-eval's


def test_our_text_suite_and_lm_eval_differ_by_the_limit_of_tokens_alone(lm_eval, ours_of_text):
    a, b = ours_of_text(max_new_tokens=1), lm_eval("words")
    gap = next(result for result in load_run(a).results.tasks if result.task == "words").scores[FIRST].value - score(b)
    assert parts(explain([a, b])) == {"truncation": pytest.approx(gap)}
    assert parts(explain([ours_of_text(), b])) == {}


def test_our_dialogues_and_lm_evals_run_of_their_export_differ_by_what_was_planted(lm_eval, ours):
    names = ("iit_T_generate", "iit_TT_generate")
    a, b = ours(), lm_eval(*names, gen_kwargs="max_gen_toks=2", limit=30)
    whole = lm_eval(*names, gen_kwargs="max_gen_toks=2")
    found = explain([a, b])
    of_a = load_run(a).results.iit["acc"].value
    of_b, of_whole = (sum(score(folder, name, "acc,choice") for name in names) / 2 for folder in (b, whole))
    assert found.gap.value == pytest.approx(of_a - of_b)
    assert parts(found)["truncation"] + parts(found).get("items", 0) == pytest.approx(of_a - of_b)
    assert parts(explain([a, whole])) == {"truncation": pytest.approx(of_a - of_whole)}


def test_equal_prompts_on_record_exclude_prompt_and_template(lm_eval, ours, tmp_path):
    """Where both sides recorded what the model read, another hash of the template means nothing."""
    names = ("iit_T_generate", "iit_TT_generate")
    folder = shutil.copytree(ours(), tmp_path / "renamed")
    header = json.loads((folder / "run.json").read_text())
    header["model"]["chat_template_sha256"] = "0" * 64
    reseal(folder / "run.json", header)
    (folder / "prompts.parquet").is_file() or pytest.fail("no prompts were recorded")
    b = lm_eval(*names, gen_kwargs="do_sample=True,temperature=1.5")
    assert set(parts(explain([folder, b]))) == {"decoding"}
    (folder / "prompts.parquet").unlink()
    save_finished_header(folder, load_run_header(folder))
    assert set(parts(explain([folder, b]))) == {"not told apart"}


def test_scored_choices_with_and_without_the_chat_template(lm_eval, ours):
    names = ("iit_T", "iit_TT")
    a, b = ours(scoring="loglikelihood"), lm_eval(*names, apply_chat_template=False)
    gap = load_run(a).results.iit["acc"].value - sum(score(b, name, "acc,none") for name in names) / 2
    assert parts(explain([a, b])) == {"template": pytest.approx(gap)}


def test_scored_and_generated_answers_differ_in_decoding(ours):
    a, b = ours(scoring="loglikelihood"), ours(scoring="generate")
    found = explain([a, b])
    assert set(parts(found)) <= {"decoding", "extraction", "not told apart", "interaction"}
    assert "no reply is generated there, at most 32 tokens here" in " ".join(found.as_text().split())


# ---------------------------------------------------------------- what is not recorded


def without(folder: Path, target: Path, *names: str) -> Path:
    """A copy of lm-eval's results that lack fields of their configuration."""
    shutil.copytree(folder, target)
    (file,) = target.rglob("results_*.json")
    content = json.loads(file.read_text())
    for name in names:
        content["config"].pop(name, None)
    file.write_text(json.dumps(content))
    return target


def test_what_is_not_recorded_is_not_guessed_and_may_be_stated(lm_eval, tmp_path):
    a, b = lm_eval("words"), without(lm_eval("words", num_fewshot=3), tmp_path / "silent", "model_dtype")
    gap = score(a) - score(b)
    found = explain([a, b])
    assert parts(found) == {"not told apart": pytest.approx(gap)}
    assert "Not recorded: dtype (dtype)" in found.as_text() and "--same dtype" in found.as_text()
    assert parts(explain([a, b], same=["dtype"])) == {"prompt": pytest.approx(gap)}


def test_a_difference_without_a_cause_on_record_is_not_explained(lm_eval, other_checkpoint, tmp_path):
    a, b = lm_eval("words"), without(lm_eval("words", checkpoint=other_checkpoint), tmp_path / "silent", "model_args")
    found = explain([a, b])
    assert set(parts(found)) == {"not explained"} and "weights" in found.as_text()


# ---------------------------------------------------------------- the command


def test_the_command_prints_a_line_per_part_and_json_with_the_same_numbers(lm_eval, capsys):
    a, b = lm_eval("words"), lm_eval("words", num_fewshot=3)
    capsys.readouterr()
    assert main(["explain", str(a), str(b)]) == 0
    text = capsys.readouterr().out
    assert main(["explain", str(a), str(b), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    gap = 100 * found["gap"]["value"]
    assert f"= {gap:+.1f} points" in text and "few-shot examples (0 and 3, seed 1234, as turns)" in text
    assert 100 * found["parts"]["prompt"]["size"]["value"] == pytest.approx(gap) and f"sum  {gap:+12.1f}"[-5:] in text


def test_bad_input_is_one_sentence(lm_eval, ours, capsys, tmp_path):
    a = str(lm_eval("words"))
    for words, sentence in (
        ([a], "needs two results"),
        ([a, str(tmp_path / "nothing")], "is not there"),
        ([a, str(ours())], "share no task"),
        ([a, a, "--metric", "f1"], "has no scores by item of the metric 'f1'; it has exact_match,first, exact_match,last"),
        ([a, a, "--same", "luck"], "'luck' is no cause"),
        ([a, a, "--tasks", "other"], "not every result has a task 'other'; all have words"),
    ):
        assert main(["explain", *words]) == 2
        assert sentence in capsys.readouterr().err


def test_results_without_samples_are_named(lm_eval, tmp_path):
    folder = shutil.copytree(lm_eval("words"), tmp_path / "bare")
    for path in folder.rglob("samples_*"):
        path.unlink()
    with pytest.raises(UserError, match=r"words of .*hold no samples \(run lm-eval with --log_samples\)"):
        explain([lm_eval("words"), folder])
